// A task as JSON, with all that it can ask for beside it.

import { html, useMemo, useRef, useState } from "../vendor/htm-preact.js";
import { get } from "../core/http.js";
import { ErrorNote, useLoaded } from "../core/ui.js";
import { jsonFault } from "./fill.js";
import { Faults, Field, Rest, useFaultFocus, useSubmission } from "./send.js";

export function RawForm({ text, set }) {
  const element = useRef(null);
  const { submit, error, busy } = useSubmission();
  useFaultFocus(element, error);
  const fault = useMemo(() => (text.trim() ? jsonFault(text) : null), [text]);
  const told = fault && `${fault[0] === null ? "" : `line ${fault[0]}, column ${fault[1]}: `}${fault[2]}`;
  const make = () => {
    if (!text.trim()) throw new Faults([["json", "what shall be run?"]]);
    if (fault) throw new Faults([["json", told]]);
    return JSON.parse(text);
  };
  const shown = told ? new Faults([["json", told]]) : error;
  return html`<div class="columns">
    <form ref=${element} class="card stack" noValidate onSubmit=${(event) => { event.preventDefault(); submit(make); }}>
      ${!told && html`<${Rest} error=${error} shown=${["json"]} />`}
      <${Field} name="json" label="Task" error=${shown}>${(attributes) => html`<textarea rows="22" ...${attributes} value=${text} spellcheck="false"
        placeholder='{"command": ["echo", "hello"]}' onInput=${(event) => set(event.target.value)}></textarea>`}<//>
      <div class="buttons"><button type="button" disabled=${!text.trim() || Boolean(fault)} onClick=${() => set(JSON.stringify(JSON.parse(text), null, 2))}>Format</button>
        <button class="primary" aria-busy=${busy}>${busy ? "Submitting …" : "Submit"}</button></div>
    </form>
    <${FieldHelp} />
  </div>`;
}

/** A type in words: "text", "number, more than 0", … */
function kind(schema, root) {
  if (schema.anyOf) return [...new Set(schema.anyOf.filter((each) => each.type !== "null").map((each) => kind(each, root)))].join(" or ");
  if (schema.$ref) {
    const target = resolve(schema.$ref, root);
    return target?.enum ? kind(target, root) : (target?.title ?? "object");
  }
  if (schema.enum) return schema.enum.map((each) => JSON.stringify(each)).join(", ");
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.type === "array") return `list of ${kind(schema.items ?? {}, root)}`;
  const word = { string: "text", integer: "whole number", number: "number", boolean: "true or false", object: "object" }[schema.type] ?? "anything";
  const bounds = [schema.exclusiveMinimum !== undefined && `more than ${schema.exclusiveMinimum}`, schema.minimum !== undefined && `at least ${schema.minimum}`, schema.maximum !== undefined && `at most ${schema.maximum}`];
  return [word, ...bounds.filter(Boolean)].join(", ");
}

function resolve(ref, root) {
  return ref.slice(2).split("/").reduce((at, name) => at?.[name], root);
}

/** [[part, [[name, schema], …]], …]: of the task, of a command, and of all that can stand in them. */
function parts(root) {
  const fields = (schema) => Object.entries(schema.properties ?? {});
  const machines = Object.entries(root["x-machines"] ?? {}).map(([name, each]) => [`Parameters of ${name}`, fields(each)]);
  const records = Object.entries(root.$defs ?? {}).map(([name, each]) => [each.title ?? name, fields(each)]);
  const nested = Object.values(root["x-machines"] ?? {}).flatMap((each) => Object.entries(each.$defs ?? {}).map(([name, def]) => [def.title ?? name, fields(def)]));
  const seen = new Set();
  return [["Task", fields(root)], ...machines, ...records, ...nested].filter(([name, all]) => all.length && !seen.has(name) && seen.add(name));
}

function FieldHelp() {
  const { value: root, error } = useLoaded((signal) => get("/v1/schema", {}, { signal }), []);
  const [wanted, setWanted] = useState("");
  const all = useMemo(() => (root ? parts(root) : []), [root]);
  const word = wanted.trim().toLowerCase();
  const fits = ([name, schema]) => !word || name.toLowerCase().includes(word) || (schema.description ?? "").toLowerCase().includes(word);
  const shown = all.map(([part, fields]) => [part, fields.filter(fits)]).filter(([, fields]) => fields.length);
  return html`<section class="card help" aria-labelledby="help-title">
    <h2 id="help-title">Fields</h2>
    <${ErrorNote} error=${error} />
    <p class="hint">Instead of <code>actions</code> a task may have <code>command</code> or <code>shell</code> at its top, with the other parameters of process.</p>
    <input type="search" class="block" aria-label="Filter fields" placeholder="Filter fields" value=${wanted} onInput=${(event) => setWanted(event.target.value)} />
    <div class="help-list" tabindex="0" role="region" aria-label="Fields and their meaning">
      ${shown.map(([part, fields]) => html`<details key=${part} open=${Boolean(word) || part === "Task"}><summary>${part}</summary><dl>
        ${fields.map(([name, schema]) => html`<div><dt><code>${name}</code> <span class="soft">${kind(schema, root)}${
          schema.default !== undefined && schema.default !== null ? html`; default ${JSON.stringify(schema.default)}` : ""}</span></dt><dd>${schema.description?.replaceAll("`", "")}</dd></div>`)}
      </dl></details>`)}
      ${root && shown.length === 0 && html`<p class="empty">No field like that.</p>`}
    </div>
  </section>`;
}
