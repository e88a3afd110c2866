// The log viewer: its bar of tools around the window of rows.

import { html, useEffect, useLayoutEffect, useRef, useState } from "../vendor/htm-preact.js";
import { bytes, count } from "../core/format.js";
import { get, passes, query as queryOf, route } from "../core/http.js";
import { setQuery, useQuery } from "../core/location.js";
import { ErrorNote, useKeys } from "../core/ui.js";
import { FindBar, useFind } from "./find.js";
import { Viewer } from "./viewer.js";

const OFFSETS = "The number before a line is the byte of the log at which it begins.";
/** milliseconds until a log that could not be read is asked for again */
const AGAIN = 2000;
const START = { opened: false, following: false, news: 0, top: 0, from: 0, to: 0, end: 0, contact: true, over: false, error: null };

/** A choice that outlives the page. */
function useKept(name, usual) {
  const [value, setValue] = useState(() => (localStorage.getItem(name) ?? String(usual)) === "true");
  const set = () => {
    localStorage.setItem(name, String(!value));
    setValue(!value);
  };
  return [value, set];
}

export const streamsOf = (task) => (task.spec.outputMode === "separate" ? ["stdout", "stderr"] : ["output"]);

/** The log of one attempt. `actions` are those of that attempt, to find the place of ?action=. */
export function Log({ task, attempt, actions }) {
  const query = useQuery();
  const streams = streamsOf(task);
  const stream = streams.includes(query.get("stream")) ? query.get("stream") : streams[0];
  return html`<${LogOf} key=${`${attempt}/${stream}`} ...${{ task, attempt, actions, streams, stream }} />`;
}

async function extent(task, attempt, stream) {
  const latest = attempt === task.attempt;
  const status = await get(latest ? route`/v1/tasks/${task.taskId}` : route`/v1/tasks/${task.taskId}/attempts/${attempt}`);
  const output = stream === "stderr" ? status.stderr : status.output;
  return { size: output?.bytes ?? 0, over: !latest || status.state === "exited" || status.state === "lost" };
}

function LogOf({ task, attempt, actions, streams, stream }) {
  const query = useQuery();
  const [facts, setFacts] = useState(START);
  const [wrap, toggleWrap] = useKept("log-wrap", true);
  const [offsets, toggleOffsets] = useKept("log-offsets", false);
  const rows = useRef(null);
  const viewer = useRef(null);
  const source = { id: task.taskId, attempt, stream };
  const [at, action] = [query.get("at"), query.get("action")];
  const written = useRef({ at, action }); // the place that the address names because one is there already

  const placeOf = () => {
    if (at !== null) return Number(at) || 0;
    const begun = actions.find((each) => String(each.index) === action);
    return (begun && (stream === "stderr" ? begun.stderrStart : begun.outputStart)) ?? null;
  };
  useEffect(() => {
    const made = (viewer.current = new Viewer(rows.current, source, setFacts));
    let [timer, closed] = [null, false];
    const begin = async () => {
      try {
        await made.open({ ...(await extent(task, attempt, stream)), at: placeOf(), begin: at === null });
      } catch (error) {
        made.failed(error);
        if (passes(error) && !closed) timer = setTimeout(begin, AGAIN);
      }
    };
    begin();
    return () => {
      clearTimeout(timer);
      closed = true;
      made.close();
    };
  }, []);
  const move = (promise) => promise?.catch((error) => viewer.current?.failed(error));
  useEffect(() => {
    if (written.current.at === at && written.current.action === action) return;
    const place = at === written.current.at && action === null ? undefined : placeOf();
    written.current = { at, action };
    if (place === undefined) return;
    move(place === null ? viewer.current.goToEnd() : viewer.current.goTo(place, { begin: at === null }));
  }, [at, action]);
  useEffect(() => {
    if (!facts.opened) return undefined;
    const place = facts.following || facts.end === 0 ? null : String(facts.top);
    const timer = setTimeout(() => {
      if (place === new URLSearchParams(location.search).get("at") || viewer.current.moving) return;
      written.current = { ...written.current, at: place };
      setQuery({ at: place });
    }, 300);
    return () => clearTimeout(timer);
  }, [facts.opened, facts.top, facts.following]);
  // at once: what tells later which row is at the top must not look between the change and this
  useLayoutEffect(() => viewer.current?.relaid(), [wrap, offsets]);

  const find = useFind(source, viewer, facts.end);
  const top = () => move(viewer.current.goTo(0));
  const end = () => move(viewer.current.goToEnd());
  const follow = () => (facts.following ? viewer.current.stay() : end());
  const search = () => find.field.current.focus();
  useKeys({ f: follow, "/": search, n: () => find.step(1), N: () => find.step(-1), w: toggleWrap, g: top, G: end });

  const tool = (label, key, on, act) => html`<button type="button" aria-pressed=${on === null ? undefined : String(on)} aria-keyshortcuts=${key} title="key: ${key}" onClick=${act}>${label}</button>`;
  return html`<section class="card logcard" aria-label="Log">
    <div class="row logbar">
      <h2>Log</h2>
      ${streams.length > 1 && html`<select aria-label="Stream" value=${stream} onChange=${(event) => setQuery({ stream: event.target.value, at: null, action: null })}>
        ${streams.map((each) => html`<option value=${each}>${each}</option>`)}</select>`}
      <${FindBar} find=${find} leave=${() => rows.current.focus()} />
      <div class="row push">
        ${tool("Follow", "f", facts.following, follow)}${tool("Wrap", "w", wrap, toggleWrap)}
        <button type="button" aria-pressed=${String(offsets)} title=${OFFSETS} onClick=${toggleOffsets}>Offsets</button>
        ${tool("Top", "g", null, top)}${tool("End", "G", null, end)}
        <a class="button" href=${`/v1/tasks/${encodeURIComponent(task.taskId)}/output${queryOf({ attempt, stream })}`} download=${`${task.taskId}-${attempt}-${stream}.log`}>Download</a>
      </div>
    </div>
    <${ErrorNote} error=${facts.error} />
    <div class="logframe">
      <div ref=${rows} class="log ${wrap ? "wrap" : ""} ${offsets ? "offsets" : ""}" role="log" aria-label="Output" tabindex="0"></div>
      ${facts.end === 0 && !facts.error && html`<p class="nothing">${facts.over ? "It has written nothing." : "Nothing has been written yet."}</p>`}
      ${facts.news > 0 && !facts.following && html`<button type="button" class="primary news" onClick=${end}>${count(facts.news, "new line")} · go to the end</button>`}
    </div>
    <${Foot} facts=${facts} offsets=${offsets} go=${(offset) => move(viewer.current.goTo(offset))} />
  </section>`;
}

/** Where one is in the whole of the log; in a long one, the way to any other place. */
function Foot({ facts, offsets, go }) {
  const part = facts.from > 0 || facts.to < facts.end;
  const state = facts.over ? "complete" : !facts.contact ? "no contact; it goes on where it was" : facts.following ? "live" : "live, not followed";
  return html`<div class="row logfoot">
    ${part && html`<input type="range" min="0" max=${facts.end} step="1" value=${facts.following ? facts.end : facts.top} aria-label="Place in the log"
      aria-valuetext="${bytes(facts.top)} of ${bytes(facts.end)}" onChange=${(event) => go(Number(event.target.value))} />`}
    ${offsets && html`<span class="hint">${OFFSETS}</span>`}
    <span class="hint numbers push">${part && !facts.following ? `${bytes(facts.top)} of ` : ""}${bytes(facts.end)}, ${state}</span>
  </div>`;
}
