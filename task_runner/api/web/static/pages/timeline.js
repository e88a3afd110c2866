// What ran when on this machine, as a picture that can be moved and zoomed.

import { html, useEffect, useMemo, useRef, useState } from "../vendor/htm-preact.js";
import { useEvents } from "../core/events.js";
import { between, count, duration } from "../core/format.js";
import { get } from "../core/http.js";
import { setQuery, useQuery } from "../core/location.js";
import { Empty, ErrorNote, Heading, StateBadge, Time, useLoaded, useNow } from "../core/ui.js";
import { barsOf, pack, zoomed } from "../timeline/lanes.js";
import { Picture } from "../timeline/view.js";

const ADDRESS = "/ui/timeline";
const HOUR = 3_600_000;
const SPANS = [["15 min", HOUR / 4], ["1 h", HOUR], ["6 h", 6 * HOUR], ["24 h", 24 * HOUR], ["7 d", 168 * HOUR]];
/** what goes on to now is shown with a little room after now */
const AHEAD = 1.02;
const MOST = 5000;
const GROUPS = [["", "as they fit"], ["entity", "by entity"], ["batch", "by batch"], ["name", "by name"]];
/** a new look at most every so many milliseconds, however many events there are */
const LOOK_EVERY = 2000;

/** The interval that the address means: ?from=&to= (seconds since 1970), or ?span= milliseconds up to now. */
function intervalOf(query, now) {
  const from = Number(query.get("from")) * 1000;
  const to = Number(query.get("to")) * 1000;
  if (from > 0 && to > from) return { from, to, live: false };
  const span = Math.abs(Number(query.get("span"))) || HOUR;
  return { from: now - span, to: now + span * (AHEAD - 1), live: true };
}

export default function Timeline() {
  const query = useQuery();
  const now = useNow(1);
  const interval = intervalOf(query, now);
  const by = query.get("by") ?? "";
  const [looks, look] = useState(0);
  // what lies beside the picture is loaded too, so that a small move shows something at once
  const key = interval.live ? `live ${query.get("span")}` : `${Math.round(interval.from)} ${Math.round(interval.to)}`;
  const { value, error, loading } = useLoaded((signal) => {
    const margin = (interval.to - interval.from) / 4;
    const wanted = { from: (interval.from - margin) / 1000, to: (interval.to + margin) / 1000, limit: MOST };
    return get("/v1/timeline", wanted, { signal });
  }, [key, looks]);
  useLooks(() => look((n) => n + 1), !loading);
  const packed = useMemo(() => (value ? pack(barsOf(value), by || null) : null), [value, by]);
  const show = ({ from, to }) => {
    if (location.pathname !== ADDRESS) return; // hands rested after another page was asked for, which is not here yet
    setQuery({ from: (from / 1000).toFixed(3), to: (to / 1000).toFixed(3), span: null });
  };
  // what goes on to now goes on to now
  const zoom = (factor) => {
    const next = zoomed(interval, factor, (interval.from + interval.to) / 2);
    return interval.live ? setQuery({ span: Math.round((next.to - next.from) / AHEAD), from: null, to: null }) : show(next);
  };
  return html`<${Heading} title="Timeline">
      <div class="row" role="group" aria-label="Interval">${SPANS.map(([name, span]) => html`
        <button type="button" aria-pressed=${interval.live && Math.abs(interval.to - interval.from - span * AHEAD) < 1000}
          onClick=${() => setQuery({ span, from: null, to: null })}>${name}</button>`)}</div>
      <div class="row" role="group" aria-label="Zoom">
        <button type="button" aria-label="Zoom in" onClick=${() => zoom(0.5)}>+</button>
        <button type="button" aria-label="Zoom out" onClick=${() => zoom(2)}>−</button>
      </div>
      <label class="inline">Lanes
        <select value=${by} onChange=${(event) => setQuery({ by: event.target.value })}>
          ${GROUPS.map(([value, title]) => html`<option value=${value}>${title}</option>`)}
        </select></label>
    <//>
    <${ErrorNote} error=${error} />
    ${value?.more && html`<p class="note warning">More ran than is shown: what started before <${Time} at=${value.startedAt.at(-1)} /> is left out. Zoom in on that time to see it.</p>`}
    ${packed && html`<${Picture} packed=${packed} interval=${interval} place=${key} now=${now} show=${show} zoom=${zoom} />
      <${Table} bars=${packed.bars} interval=${interval} now=${now} />`}`;
}

/** Look again soon after something has changed, but not more often than LOOK_EVERY, nor before the last look has ended. */
function useLooks(again, idle) {
  const state = useRef({ wanted: false, timer: null, idle: true });
  state.current.idle = idle;
  const plan = () => {
    if (state.current.timer !== null || !state.current.wanted || !state.current.idle) return;
    state.current.timer = setTimeout(() => {
      state.current.timer = null;
      state.current.wanted = false;
      again();
    }, LOOK_EVERY);
  };
  useEvents((kind, data) => {
    if (kind === "state" || kind === "begin") {
      state.current.wanted = true;
      plan();
    }
  });
  useEffect(plan, [idle]);
  useEffect(() => () => clearTimeout(state.current.timer), []);
}

/** The same in words: for who cannot see the picture, and to find a name. */
function Table({ bars, interval, now }) {
  const [open, setOpen] = useState(false);
  const seen = bars.filter((bar) => bar.start <= interval.to && (bar.end ?? now) >= interval.from);
  const rows = open ? [...seen].sort((a, b) => b.start - a.start).slice(0, 200) : [];
  return html`<details class="card" open=${open} onToggle=${(event) => setOpen(event.target.open)}>
    <summary>The same as a table: ${count(seen.length, "attempt")}</summary>
    ${open && rows.length === 0 && html`<${Empty}>Nothing ran in this time.<//>`}
    ${rows.length > 0 && html`<div class="scroll" tabindex="0" role="region" aria-label="Attempts"><table class="cards">
      <thead><tr><th>Task</th><th>State</th><th>Started</th><th>Ran for</th><th>Entity</th></tr></thead>
      <tbody>${rows.map((bar) => html`<tr key="${bar.id} ${bar.attempt}">
        <td><a href=${`/ui/tasks/${encodeURIComponent(bar.id)}?attempt=${bar.attempt}`}>${bar.name ?? bar.id}</a>${bar.attempt > 1 && ` (attempt ${bar.attempt})`}</td>
        <td><${StateBadge} task=${bar} /></td>
        <td data-title="started"><${Time} at=${new Date(bar.start).toISOString()} /></td>
        <td data-title="for" class="numbers">${duration(between(new Date(bar.start).toISOString(), bar.end && new Date(bar.end).toISOString(), now))}</td>
        <td data-title="entity">${bar.entity}</td></tr>`)}</tbody></table></div>`}
    ${open && seen.length > rows.length && rows.length > 0 && html`<p class="hint">The newest ${rows.length} are listed.</p>`}
  </details>`;
}
