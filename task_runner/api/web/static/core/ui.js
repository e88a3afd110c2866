// The parts that pages are made of.

import { html, useCallback, useEffect, useLayoutEffect, useRef, useState } from "../vendor/htm-preact.js";
import { ApiError } from "./http.js";
import { bytes, duration, moment, UNKNOWN } from "./format.js";

let unread = false;

/** Another page comes: its heading gets the focus once it is there, so that a reader of screens hears of it. */
export function pageChanges() {
  unread = true;
}

/** The title of the page, in the tab and as its heading. */
export function Heading({ title, children }) {
  const heading = useRef(null);
  useEffect(() => {
    const own = heading.current;
    if (unread) own.focus({ preventScroll: true });
    unread = false;
    // a page may have another heading once more is known of what it shows
    return () => { unread ||= document.activeElement === own; };
  }, []);
  useLayoutEffect(() => {
    document.title = `${title} · Task Runner`;
  }, [title]);
  return html`<header class="heading"><h1 ref=${heading} tabindex="-1">${title}</h1><div class="heading-side">${children}</div></header>`;
}

/** State and outcome of a task, said in words and not by colour alone. Takes a task, a row or an event. */
export function StateBadge({ task }) {
  const word = task.outcome ?? task.state;
  return html`<span class="badge ${word}">${word.replace("_", " ")}</span>${
    task.stalled && html` <span class="badge stalled" title=${task.stalled.reason}>stalled</span>`
  }`;
}

export function Progress({ value }) {
  if (value?.percent === null || value?.percent === undefined) return value?.message ? html`<span>${value.message}</span>` : null;
  const percent = Math.round(value.percent);
  return html`<span class="progress"><progress max="100" value=${percent} aria-label="progress">${percent} %</progress> ${percent} %</span>`;
}

/** A stamp, with the whole of it to be pointed at. */
export function Time({ at }) {
  return at ? html`<time datetime=${at} title=${at}>${moment(at)}</time>` : html`<span>${UNKNOWN}</span>`;
}

/** What went wrong, in the daemon's words, with the fields that it names. */
export function ErrorNote({ error }) {
  if (!error) return null;
  const fields = error instanceof ApiError ? error.fields.filter((each) => each.field) : [];
  return html`<div class="note error" role="alert"><p>${error.message}</p>${
    fields.length > 0 && html`<ul>${fields.map((each) => html`<li><code>${each.field}</code>: ${each.message}</li>`)}</ul>`
  }</div>`;
}

export function Empty({ children }) {
  return html`<p class="empty">${children}</p>`;
}

/** name/value pairs; pairs with the value undefined are left out: <${Facts} of=${[["Started", html`…`]]} /> */
export function Facts({ of }) {
  return html`<dl class="facts">${of
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => html`<div><dt>${name}</dt><dd>${value ?? UNKNOWN}</dd></div>`)}</dl>`;
}

export const Bytes = ({ of }) => html`<span title=${of === null || of === undefined ? undefined : `${of} bytes`}>${bytes(of)}</span>`;
export const Duration = ({ of }) => html`<span>${duration(of)}</span>`;

/** Milliseconds since 1970, anew every `every` seconds while somebody looks. */
export function useNow(every = 1) {
  const [now, setNow] = useState(Date.now());
  useEffect(() => {
    const timer = setInterval(() => document.hidden || setNow(Date.now()), every * 1000);
    return () => clearInterval(timer);
  }, [every]);
  return now;
}

/** {value, error, loading, reload, set} of what `load(signal)` promises, again whenever a dependency changes. The old
 *  value stays until there is a new one; an answer that comes too late is dropped. */
export function useLoaded(load, dependencies) {
  const [state, setState] = useState({ value: null, error: null, loading: true });
  const running = useRef(null);
  const reload = useCallback(() => {
    running.current?.abort();
    const controller = (running.current = new AbortController());
    setState((before) => ({ ...before, loading: true }));
    return load(controller.signal).then(
      (value) => controller.signal.aborted || setState({ value, error: null, loading: false }),
      (error) => controller.signal.aborted || setState((before) => ({ ...before, error, loading: false })),
    );
  }, dependencies);
  useEffect(() => {
    reload();
    return () => running.current?.abort();
  }, [reload]);
  const set = (change) => setState((before) => ({ ...before, value: typeof change === "function" ? change(before.value) : change }));
  return { ...state, reload, set };
}

/** A button that does something once, says so while it does, and shows what went wrong to `onError`. */
export function Action({ act, onError, children, class: kind = "", disabled, ...more }) {
  const [busy, setBusy] = useState(false);
  const click = async () => {
    setBusy(true);
    try {
      onError?.(null);
      await act();
    } catch (error) {
      onError ? onError(error) : say(error.message);
    } finally {
      setBusy(false);
    }
  };
  return html`<button type="button" class=${kind} disabled=${disabled || busy} aria-busy=${busy} onClick=${click} ...${more}>${children}</button>`;
}

let ask = null;

/** Ask the person. Promises true or false; for a question with fields: what `content` leaves in `answers`, or null.
 *  confirm({title, text, yes: "Stop it", danger: true, content: (answers) => html`…`}) */
export function confirm(question) {
  return new Promise((resolve) => ask({ ...question, answers: {}, resolve }));
}

/** The dialog of `confirm`; once in the page. */
export function Confirmation() {
  const [question, setQuestion] = useState(null);
  const dialog = useRef(null);
  useEffect(() => {
    ask = setQuestion;
  }, []);
  useEffect(() => {
    if (question && !dialog.current.open) dialog.current.showModal();
  }, [question]);
  if (!question) return null;
  const answer = (agreed) => {
    question.resolve(question.content ? (agreed ? question.answers : null) : agreed);
    setQuestion(null);
  };
  return html`<dialog ref=${dialog} aria-labelledby="question" onCancel=${(event) => { event.preventDefault(); answer(false); }}>
    <form method="dialog" onSubmit=${(event) => { event.preventDefault(); answer(true); }}>
      <h2 id="question">${question.title}</h2>
      ${question.text && html`<p>${question.text}</p>`}
      ${question.content?.(question.answers)}
      <div class="buttons">
        <button type="button" autofocus=${question.danger} onClick=${() => answer(false)}>Cancel</button>
        <button type="submit" class=${question.danger ? "danger" : "primary"} autofocus=${!question.danger}>${question.yes ?? "Yes"}</button>
      </div>
    </form>
  </dialog>`;
}

let announce = () => {};

/** A short message that is seen for some seconds and read out. */
export function say(text) {
  announce(text);
}

/** Where `say` is seen; once in the page. */
export function Announcer() {
  const [text, setText] = useState("");
  useEffect(() => {
    announce = setText;
  }, []);
  useEffect(() => {
    if (!text) return undefined;
    const timer = setTimeout(() => setText(""), 6000);
    return () => clearTimeout(timer);
  }, [text]);
  return html`<div class="toast ${text ? "shown" : ""}" role="status" aria-live="polite">${text}</div>`;
}

const layers = [];
document.addEventListener("keydown", (event) => {
  const typing = event.target.closest?.("input:not([type=checkbox], [type=radio], [type=range]), textarea, select, [contenteditable], dialog");
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  const keys = layers.findLast((each) => each.current[event.key]);
  if (!keys) return;
  event.preventDefault();
  keys.current[event.key](event);
});

/** Keys of a page: {"/": () => …}. Not while somebody types, nor in a dialog. A part that is shown later comes first. */
export function useKeys(keys) {
  const latest = useRef(keys);
  latest.current = keys;
  useEffect(() => {
    layers.push(latest);
    return () => layers.splice(layers.indexOf(latest), 1);
  }, []);
}
