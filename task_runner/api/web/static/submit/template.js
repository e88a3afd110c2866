// A task made of a template: its parameters are the fields.

import { html, useEffect, useRef, useState } from "../vendor/htm-preact.js";
import { get } from "../core/http.js";
import { setQuery } from "../core/location.js";
import { Empty, ErrorNote, useLoaded } from "../core/ui.js";
import { common, number } from "./fill.js";
import { faultsOf, Field, Rest, Text, useFaultFocus, useSubmission } from "./send.js";

/** What a field holds at first: texts, and true or false. */
function initial(parameter) {
  if (parameter.choices) return parameter.default === undefined || parameter.default === null ? "" : JSON.stringify(parameter.default);
  if (parameter.type === "boolean") return parameter.default === true;
  return parameter.default === undefined || parameter.default === null ? "" : String(parameter.default);
}

/** The value to send; undefined: the template's default. */
function valueOf(parameter, held) {
  if (parameter.choices) return held === "" ? undefined : JSON.parse(held);
  if (parameter.type === "boolean") return held;
  if (parameter.type === "integer" || parameter.type === "number") return held.trim() === "" ? undefined : number(held);
  return held === "" && (parameter.required === false || parameter.minLength || parameter.pattern) ? undefined : held;
}

function limits({ type, pattern, minimum, maximum, minLength, maxLength, required }) {
  const between = (low, high, unit) => (low != null && high != null ? `${low} to ${high}${unit}` : low != null ? `at least ${low}${unit}` : high != null ? `at most ${high}${unit}` : null);
  return [required ? "required" : null, type === "integer" ? "whole number" : type === "number" ? "number" : null,
    between(minimum, maximum, ""), between(minLength, maxLength, " characters"), pattern && `like ${pattern}`].filter(Boolean).join(", ");
}

function Parameter({ name, parameter, held, set, error }) {
  const hint = [parameter.description, limits(parameter)].filter(Boolean).join(" · ");
  return html`<${Field} name="parameters.${name}" label=${name} hint=${hint} error=${error}>${(attributes) => {
    if (parameter.choices) {
      return html`<select ...${attributes} value=${held} onChange=${(event) => set(event.target.value)}>
        ${held === "" && html`<option value="">choose …</option>`}
        ${parameter.choices.map((each) => html`<option value=${JSON.stringify(each)} selected=${JSON.stringify(each) === held}>${String(each)}</option>`)}</select>`;
    }
    if (parameter.type === "boolean") return html`<input type="checkbox" ...${attributes} checked=${held} onChange=${(event) => set(event.target.checked)} />`;
    return html`<input ...${attributes} value=${held} inputmode=${parameter.type === "string" ? undefined : "decimal"} spellcheck="false" autocomplete="off"
      aria-required=${parameter.required} onInput=${(event) => set(event.target.value)} />`;
  }}<//>`;
}

function Gaps({ template }) {
  const parameters = template.parameters ?? {};
  const element = useRef(null);
  const { submit, error, busy } = useSubmission();
  const [held, setHeld] = useState(Object.fromEntries(Object.entries(parameters).map(([name, each]) => [name, initial(each)])));
  const [beside, setBeside] = useState({ name: "", tags: "", priority: "" });
  useFaultFocus(element, error);
  const make = () => {
    const values = Object.entries(parameters).map(([name, each]) => [name, valueOf(each, held[name])]).filter(([, value]) => value !== undefined);
    return { template: template.name, parameters: Object.fromEntries(values), ...common(beside) };
  };
  const set = (change) => setBeside((before) => ({ ...before, ...change }));
  return html`<form ref=${element} class="form" noValidate onSubmit=${(event) => { event.preventDefault(); submit(make); }}>
    <${Rest} error=${error} shown=${[...Object.keys(parameters).map((name) => `parameters.${name}`), "name", "tags", "priority"]} />
    ${template.description && html`<p class="wide">${template.description}</p>`}
    ${Object.entries(parameters).map(([name, each]) => html`<${Parameter} key=${name} name=${name} parameter=${each} held=${held[name]} error=${error}
      set=${(value) => setHeld((before) => ({ ...before, [name]: value }))} />`)}
    ${Object.keys(parameters).length === 0 && html`<p class="wide soft">It has no parameters.</p>`}
    <details class="wide" open=${["name", "tags", "priority"].some((name) => faultsOf(error, name).length > 0)}><summary>Name, tags, priority</summary><div class="form">
      <${Text} form=${beside} set=${set} error=${error} name="name" label="Name" hint="In place of the template's." />
      <${Text} form=${beside} set=${set} error=${error} name="priority" label="Priority" inputmode="numeric" />
      <${Text} form=${beside} set=${set} error=${error} name="tags" label="Tags" rows=${2} placeholder="key=value" hint="Beside the template's; one a line." />
    </div></details>
    <div class="buttons wide"><button class="primary" aria-busy=${busy}>${busy ? "Submitting …" : "Submit"}</button></div>
  </form>`;
}

export function TemplateForm({ chosen }) {
  const { value: templates, error } = useLoaded((signal) => get("/v1/templates", {}, { signal }), []);
  const usable = (templates ?? []).filter((each) => !each.error);
  const template = usable.find((each) => each.name === chosen);
  useEffect(() => {
    if (!chosen && usable.length === 1) setQuery({ template: usable[0].name });
  }, [templates]);
  if (!templates) return html`<${ErrorNote} error=${error} />`;
  if (!usable.length) return html`<div class="card"><${Empty}>There are no templates. <a href="/ui/templates">Templates</a><//></div>`;
  return html`<div class="card stack">
    <div class="field"><label for="template">Template</label>
      <select id="template" value=${template ? chosen : ""} onChange=${(event) => setQuery({ template: event.target.value })}>
        ${!template && html`<option value="">choose …</option>`}
        ${usable.map((each) => html`<option value=${each.name} selected=${each.name === chosen}>${each.name}</option>`)}</select></div>
    ${chosen && !template && html`<p class="wrong">There is no template "${chosen}".</p>`}
    ${template && html`<${Gaps} key=${template.name} template=${template} />`}
  </div>`;
}
