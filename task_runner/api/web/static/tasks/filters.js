// What the list shows, said in its address: a filter can be kept as a bookmark, and sent to somebody.

import { html, useEffect, useRef, useState } from "../vendor/htm-preact.js";
import { useEvents } from "../core/events.js";
import { get } from "../core/http.js";
import { setQuery } from "../core/location.js";
import { useLoaded } from "../core/ui.js";

/** milliseconds after the last key before the list is asked for */
const TYPED = 250;
/** milliseconds between two looks at the counts */
const COUNTED = 2000;
export const ACTIVE = "scheduled,pending,starting,provisioning,running,paused,stopping,unknown";
const STATES = [["", "any state"], [ACTIVE, "not over"], ...[...ACTIVE.split(","), "exited", "lost"].map((word) => [word, word])];
const OUTCOMES = [["", "any outcome"], ["failed,timed_out,lost", "not well"], ...["succeeded", "failed", "cancelled", "timed_out", "lost"].map((word) => [word, word.replace("_", " ")])];
const ORIGINS = ["", "v1", "cli", "drove", "executor", "i3d"].map((word) => [word, word || "any interface"]);
const NAMES = ["state", "outcome", "stalled", "origin", "entity", "batch", "tag", "q"];

/** The parameters of GET /v1/tasks that an address asks for. */
export function parametersOf(query) {
  const found = Object.fromEntries([...NAMES, "cursor"].map((name) => [name, query.get(name)]).filter(([, value]) => value));
  return query.has("tag") ? { ...found, tag: query.getAll("tag").filter(Boolean) } : found;
}

const change = (changes) => setQuery({ cursor: null, ...changes });

/** A field whose text goes to the address when typing pauses. */
function Typed({ name, value, ...more }) {
  const [text, setText] = useState(value);
  const sent = useRef(value);
  const timer = useRef(null);
  useEffect(() => {
    if (value !== sent.current) setText((sent.current = value)); // the address was changed by something else
  }, [value]);
  useEffect(() => () => clearTimeout(timer.current), []);
  const typed = (event) => {
    const next = event.target.value;
    setText(next);
    clearTimeout(timer.current);
    timer.current = setTimeout(() => {
      sent.current = next;
      change({ [name]: next });
    }, TYPED);
  };
  return html`<input id="filter-${name}" value=${text} onInput=${typed} spellcheck="false" autocomplete="off" ...${more} />`;
}

function Choice({ name, label, value, options }) {
  const known = options.some(([each]) => each === value);
  return html`<select aria-label=${label} value=${value} onChange=${(event) => change({ [name]: event.target.value })}>
    ${(known ? options : [...options, [value, value]]).map(([each, title]) => html`<option value=${each} selected=${each === value}>${title}</option>`)}
  </select>`;
}

function Tags({ tags }) {
  const [text, setText] = useState("");
  const [wrong, setWrong] = useState(false);
  const add = (event) => {
    event.preventDefault();
    if (!text.trim()) return;
    if (!text.includes("=")) return setWrong(true);
    setWrong(false);
    setText("");
    change({ tag: [...tags, text.trim()] });
  };
  return html`<form class="row" onSubmit=${add}>
    <label class="inline">Tag <input value=${text} placeholder="key=value" aria-invalid=${wrong} aria-describedby=${wrong ? "tag-wrong" : undefined} onInput=${(event) => setText(event.target.value)} /></label>
    <button>Add</button>${wrong && html`<span id="tag-wrong" class="wrong" role="alert">expected key=value</span>`}
  </form>`;
}

export function Filters({ query }) {
  const of = (name) => query.get(name) ?? "";
  const tags = query.getAll("tag").filter(Boolean);
  const chips = [
    ...["origin", "entity", "batch"].filter(of).map((name) => [`${name}: ${of(name)}`, { [name]: null }]),
    ...tags.map((tag) => [`tag: ${tag}`, { tag: tags.filter((each) => each !== tag) }]),
  ];
  const any = NAMES.some((name) => query.has(name));
  return html`<search class="filters">
    <div class="row">
      <${Typed} name="q" value=${of("q")} type="search" placeholder="Search id, name, spec" aria-label="Search" aria-keyshortcuts="/" />
      <${Choice} name="state" label="State" value=${of("state")} options=${STATES} />
      <${Choice} name="outcome" label="Outcome" value=${of("outcome")} options=${OUTCOMES} />
      <label class="inline"><input type="checkbox" checked=${of("stalled") === "true"} onChange=${(event) => change({ stalled: event.target.checked ? "true" : null })} /> stalled</label>
      <details class="others"><summary>More filters</summary><div class="row">
        <${Choice} name="origin" label="Interface" value=${of("origin")} options=${ORIGINS} />
        <label class="inline">Entity <${Typed} name="entity" value=${of("entity")} /></label>
        <label class="inline">Batch <${Typed} name="batch" value=${of("batch")} /></label>
        <${Tags} tags=${tags} />
      </div></details>
      ${any && html`<button type="button" class="quiet" onClick=${() => change(Object.fromEntries(NAMES.map((name) => [name, null])))}>Clear filters</button>`}
    </div>
    ${chips.length > 0 && html`<ul class="chips" aria-label="Filters">${chips.map(([text, without]) => html`<li class="chip">${text}
      <button type="button" class="quiet" aria-label="remove ${text}" onClick=${() => change(without)}>×</button></li>`)}</ul>`}
  </search>`;
}

const WORDS = ["running", "pending", "scheduled", "starting", "paused", "stopping", "provisioning", "unknown"];

/** How many tasks are where, each a filter. Looked at again when something has changed. */
export function Counts({ query }) {
  const { value: node, reload } = useLoaded((signal) => get("/v1/node", {}, { signal }), []);
  const timer = useRef(null);
  useEvents((kind) => {
    if (kind !== "state" && kind !== "begin") return;
    timer.current ??= setTimeout(() => {
      timer.current = null;
      reload();
    }, COUNTED);
  });
  useEffect(() => () => clearTimeout(timer.current), []);
  if (!node) return null;
  const shown = WORDS.filter((word) => node.states[word] > 0);
  const toggle = (name, value) => change({ [name]: query.get(name) === value ? null : value });
  const button = (n, word, name, value) => html`<button type="button" class="count" aria-pressed=${query.get(name) === value} onClick=${() => toggle(name, value)}><strong>${n.toLocaleString("en")}</strong> ${word}</button>`;
  return html`<div class="row counts" role="group" aria-label="Tasks that are not over">
    ${shown.map((word) => button(node.states[word], word, "state", word))}
    ${node.stalled > 0 && button(node.stalled, "stalled", "stalled", "true")}
    ${shown.length === 0 && html`<span class="soft">nothing runs, nothing waits</span>`}
  </div>`;
}
