// Templates: what there are, and for admins what becomes of them.

import { html, useMemo, useState } from "../vendor/htm-preact.js";
import { get, request, route, send } from "../core/http.js";
import { setQuery, useQuery } from "../core/location.js";
import { useMay } from "../core/session.js";
import { Action, confirm, Empty, ErrorNote, Heading, say, Time, useLoaded } from "../core/ui.js";
import { jsonFault } from "../submit/fill.js";
import { Faults, Field, faultsOf } from "../submit/send.js";

const EXAMPLE = {
  description: "builds a branch",
  parameters: { branch: { pattern: "[a-z0-9-]+", description: "which one" }, jobs: { type: "integer", default: 2, minimum: 1, maximum: 16 } },
  task: { name: "build ${branch}", shell: "make -j ${jobs}", env: { BRANCH: "${branch}" }, timeoutSeconds: 600 },
};
const NAMES = ["name", "text"];

/** What a template is, without what the daemon adds. */
function written({ description, parameters, task }) {
  const plain = Object.entries(parameters ?? {}).map(([name, { required, ...rest }]) => [name, rest]);
  return { ...(description ? { description } : {}), parameters: Object.fromEntries(plain), task };
}

function Editor({ given, done, cancel }) {
  const [name, setName] = useState(given?.name ?? "");
  const [text, setText] = useState(JSON.stringify(given ? written(given) : EXAMPLE, null, 2));
  const [error, setError] = useState(null);
  const fault = useMemo(() => jsonFault(text), [text]);
  const told = fault && `${fault[0] === null ? "" : `line ${fault[0]}, column ${fault[1]}: `}${fault[2]}`;
  const shown = told ? new Faults([["text", told]]) : error;
  const save = async () => {
    if (!name.trim()) throw new Faults([["name", "what is it to be called?"]]);
    if (fault) throw new Faults([["text", told]]);
    const sure = !given || (await confirm({ title: `Replace ${name}?`, text: "Tasks that were made of it stay as they are.", yes: "Replace" }));
    if (!sure) return;
    await send("PUT", route`/v1/templates/${name.trim()}`, JSON.parse(text));
    say(`The template ${name.trim()} is kept.`);
    done();
  };
  const rest = error && !told && NAMES.every((each) => faultsOf(error, each).length === 0) ? error : null;
  return html`<section class="card stack" aria-labelledby="editor-title">
    <h2 id="editor-title">${given ? `Change ${given.name}` : "New template"}</h2>
    <${ErrorNote} error=${rest} />
    ${!given && html`<${Field} name="name" label="Name" error=${error}>${(attributes) => html`<input ...${attributes} value=${name} spellcheck="false" autocomplete="off" onInput=${(event) => setName(event.target.value)} />`}<//>`}
    <${Field} name="text" label="Template, as JSON" error=${shown} hint=${html`<code>\${name}</code> stands for the value of a parameter.`}>${(attributes) => html`
      <textarea rows="18" ...${attributes} value=${text} spellcheck="false" onInput=${(event) => setText(event.target.value)}></textarea>`}<//>
    <div class="buttons"><button type="button" onClick=${cancel}>Cancel</button>
      <${Action} class="primary" onError=${setError} act=${save}>Keep<//></div>
  </section>`;
}

function Parameters({ of }) {
  const names = Object.entries(of ?? {});
  if (!names.length) return html`<span class="soft">none</span>`;
  return html`<ul class="plain">${names.map(([name, each]) => html`<li><code>${name}</code> <span class="soft">${[
    each.type, each.required ? "required" : `default ${JSON.stringify(each.default)}`, each.choices && `one of ${each.choices.join(", ")}`, each.description,
  ].filter(Boolean).join(" · ")}</span></li>`)}</ul>`;
}

export default function Page() {
  const may = useMay();
  const query = useQuery();
  const { value: templates, error, reload } = useLoaded((signal) => get("/v1/templates", {}, { signal }), []);
  const edited = may("admin") ? query.get("edit") : null;
  const isNew = may("admin") && query.has("new");
  const { value: given, error: missing } = useLoaded((signal) => (edited ? get(route`/v1/templates/${edited}`, {}, { signal }) : Promise.resolve(null)), [edited]);
  const [failure, setFailure] = useState(null);
  const close = () => setQuery({ edit: null, new: null });
  const remove = async (name) => {
    if (!(await confirm({ title: `Delete the template ${name}?`, text: "Tasks that were made of it stay as they are.", yes: "Delete", danger: true }))) return;
    await request(route`/v1/templates/${name}`, { method: "DELETE" });
    say(`The template ${name} is gone.`);
    reload();
  };
  const kept = () => { close(); reload(); };
  return html`<${Heading} title="Templates">${may("admin") && html`<button type="button" onClick=${() => setQuery({ new: "1", edit: null })}>New template</button>`}<//>
    <${ErrorNote} error=${error ?? failure ?? (edited ? missing : null)} />
    ${isNew && html`<${Editor} key="new" done=${kept} cancel=${close} />`}
    ${edited && given?.name === edited && html`<${Editor} key=${edited} given=${given} done=${kept} cancel=${close} />`}
    ${templates?.length === 0 && html`<${Empty}>No templates yet. A template is a task with gaps, kept under a name.<//>`}
    ${templates?.length > 0 && html`<div class="card listing"><table class="cards templates">
      <thead><tr><th>Template</th><th>Parameters</th><th>Changed</th><th><span class="hidden-label">What can be done</span></th></tr></thead>
      <tbody>${templates.map((each) => html`<tr key=${each.name} data-name=${each.name}>
        <td class="name"><strong>${each.name}</strong>${each.description && html`<div class="soft">${each.description}</div>`}
          ${each.error && html`<div class="wrong">cannot be used: ${each.error}</div>`}</td>
        <td class="all"><${Parameters} of=${each.parameters} /></td>
        <td data-title="changed"><${Time} at=${each.updatedAt} />${each.origin === "directory" && html`<div class="soft">a file of the configuration</div>`}</td>
        <td class="all"><div class="row">
          ${may("submit-template") && !each.error && html`<a class="button" href=${`/ui/submit?${new URLSearchParams({ template: each.name })}`} aria-label="use ${each.name}">Use</a>`}
          ${may("admin") && each.origin === "store" && html`<button type="button" aria-label="change ${each.name}" onClick=${() => setQuery({ edit: each.name, new: null })}>Change</button>
            <${Action} class="danger" aria-label="delete ${each.name}" onError=${setFailure} act=${() => remove(each.name)}>Delete<//>`}
        </div></td>
      </tr>`)}</tbody></table></div>`}`;
}
