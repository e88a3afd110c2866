// A list of tasks that stays right: filtered by parameters, with a selection, by mouse and by keys.

import { html, useCallback, useEffect, useMemo, useRef, useState } from "../vendor/htm-preact.js";
import { useUse } from "../core/events.js";
import { count } from "../core/format.js";
import { setQuery } from "../core/location.js";
import { useMay } from "../core/session.js";
import { Empty, ErrorNote, useKeys, useNow } from "../core/ui.js";
import { Bulk } from "./bulk.js";
import { STORM, useFeed } from "./feed.js";
import { Table } from "./table.js";

/** pixels: who has scrolled down reads, and rows shall not move away from under them */
const READING = 300;

const rowsShown = () => [...document.querySelectorAll("table.tasks tbody tr")];

/** Move to the row `by` further. What has the focus is the link of the row, so Enter opens it. */
function step(by) {
  const rows = rowsShown();
  const at = rows.indexOf(document.activeElement.closest?.("table.tasks tbody tr"));
  const next = rows[at < 0 ? (by > 0 ? 0 : rows.length - 1) : Math.min(rows.length - 1, Math.max(0, at + by))];
  next?.querySelector("td.name a").focus();
  next?.scrollIntoView({ block: "nearest" });
}

function turn(cursor) {
  setQuery({ cursor }, { push: true });
  window.scrollTo(0, 0);
}

export const LIST_KEYS = [["j / ↓", "next task"], ["k / ↑", "previous task"], ["Enter", "open it"], ["x", "select it"], ["Esc", "clear the selection"]];

function useSelection(rows) {
  const [chosen, setChosen] = useState(new Set());
  const last = useRef(null);
  const shown = useMemo(() => (rows ?? []).filter((row) => chosen.has(row.taskId)), [rows, chosen]);
  const latest = useRef(rows);
  latest.current = rows;
  const select = useCallback((id, event) => {
    const ids = latest.current.map((row) => row.taskId);
    const from = event?.shiftKey ? ids.indexOf(last.current) : -1;
    const to = ids.indexOf(id);
    last.current = id;
    setChosen((before) => {
      const after = new Set(before);
      const on = !before.has(id);
      const range = from < 0 ? [id] : ids.slice(Math.min(from, to), Math.max(from, to) + 1);
      range.forEach((each) => (on ? after.add(each) : after.delete(each)));
      return after;
    });
  }, []);
  const all = (on) => setChosen(on ? new Set(latest.current.map((row) => row.taskId)) : new Set());
  const drop = (ids) => setChosen((before) => new Set([...before].filter((id) => !ids.has(id))));
  return { chosen, shown, select, all, drop, clear: () => setChosen(new Set()) };
}

/** `parameters`: of GET /v1/tasks; `empty`: what is said where there are none. */
export function TaskList({ parameters, empty, batches = true }) {
  const may = useMay();
  const now = useNow(1);
  const use = useUse();
  const quiet = useRef(() => true);
  const { rows, older, error, more, feed } = useFeed(parameters, () => quiet.current());
  const { chosen, shown, select, all, drop, clear } = useSelection(rows);
  const [failure, setFailure] = useState(null);
  quiet.current = () => shown.length === 0 && window.scrollY < READING;
  useEffect(clear, [JSON.stringify(parameters)]);
  const controls = may("control");
  useKeys({
    j: () => step(1), k: () => step(-1), ArrowDown: () => step(1), ArrowUp: () => step(-1),
    x: () => {
      const row = document.activeElement.closest?.("table.tasks tbody tr");
      if (controls && row) select(row.dataset.id);
    },
    Escape: clear,
  });
  if (rows === null) return html`<p class="empty" role="status">Loading …</p>`;
  return html`<${ErrorNote} error=${failure ?? error} />
    ${shown.length > 0 && html`<${Bulk} tasks=${shown} feed=${feed} clear=${clear} drop=${drop} onError=${setFailure} />`}
    ${more > 0 && (more > STORM || !quiet.current()) && html`<p class="more" role="status">${count(more, "other task")} ${more === 1 ? "has" : "have"} changed
      <button type="button" class="quiet" onClick=${() => feed.load()}>Show</button></p>`}
    ${rows.length === 0 && !error ? html`<${Empty}>${empty}<//>` : html`<div class="card listing">
      <${Table} rows=${rows} use=${use} now=${now} batches=${batches} selected=${chosen} select=${controls ? select : null} selectAll=${all} />
    </div>`}
    <nav class="row paging" aria-label="Pages of the list">
      <span class="soft">${rows.length > 0 && `${count(rows.length, "task")}${parameters.cursor ? "" : ", newest first"}${older ? "; there may be more" : ""}`}</span>
      ${parameters.cursor && html`<button type="button" onClick=${() => turn(null)}>Newest</button>`}
      ${older && html`<button type="button" onClick=${() => turn(older)}>Older</button>`}
    </nav>`;
}
