// One batch: its counts as they change, and its tasks.

import { html, useState } from "../vendor/htm-preact.js";
import { BatchButtons } from "../batches/control.js";
import { BatchBadge, Counts } from "../batches/counts.js";
import { useNews } from "../batches/news.js";
import { get, route } from "../core/http.js";
import { between } from "../core/format.js";
import { KeysHelp } from "../core/keys.js";
import { setQuery, useQuery } from "../core/location.js";
import { Duration, ErrorNote, Facts, Heading, Time, useKeys, useLoaded } from "../core/ui.js";
import { parametersOf } from "../tasks/filters.js";
import { LIST_KEYS, TaskList } from "../tasks/list.js";

/** Which of its tasks are shown: a word, and what that asks for. */
const SHOWN = [
  ["all", {}],
  ["ok", { outcome: "succeeded" }],
  ["failed", { outcome: "failed,timed_out,lost" }],
  ["cancelled", { outcome: "cancelled" }],
  ["running", { state: "starting,provisioning,running,paused,stopping,unknown" }],
  ["waiting", { state: "scheduled,pending" }],
];

export default function Page({ id }) {
  const query = useQuery();
  const { value: batch, error, reload, set } = useLoaded((signal) => get(route`/v1/batches/${id}`, {}, { signal }), [id]);
  const [failure, setFailure] = useState(null);
  useNews(reload, (event) => event.batch === id);
  const { state, outcome, cursor, q } = parametersOf(query);
  useKeys({ "/": () => document.getElementById("batch-q")?.focus() });
  if (!batch) return html`<${Heading} title="Batch" /><${ErrorNote} error=${error} />`;
  const chosen = (wanted) => (wanted.state ?? "") === (state ?? "") && (wanted.outcome ?? "") === (outcome ?? "");
  return html`<${Heading} title=${batch.name ?? `Batch ${id}`}>
      <${KeysHelp} keys=${[["/", "search"], ...LIST_KEYS]} />
      <${BatchButtons} batch=${batch} done=${(now) => { set(now); reload(); }} onError=${setFailure} />
    <//>
    <${ErrorNote} error=${failure ?? error} />
    <section class="card stack" aria-label="Summary">
      <div class="row"><${BatchBadge} batch=${batch} /> ${batch.paused && !batch.finishedAt && html`<span class="soft">nothing starts until it is resumed</span>`}</div>
      <${Counts} batch=${batch} />
      <${Facts} of=${[
        ["Batch", html`<span class="mono">${id}</span>`],
        ["Tasks", batch.numTasks.toLocaleString("en")],
        ["Accepted", html`<${Time} at=${batch.createdAt} />`],
        ["Over", html`<${Time} at=${batch.finishedAt} />`],
        ["Took", batch.finishedAt ? html`<${Duration} of=${between(batch.createdAt, batch.finishedAt)} />` : undefined],
        ["Tags", Object.keys(batch.tags ?? {}).length ? Object.entries(batch.tags).map(([key, value]) => html`<span class="tag">${key}=${value}</span>`) : undefined],
      ]} />
      ${batch.metadata && html`<details><summary>Metadata</summary><pre>${JSON.stringify(batch.metadata, null, 2)}</pre></details>`}
    </section>
    <div class="row counts" role="group" aria-label="Which tasks">
      ${SHOWN.map(([word, wanted]) => html`<button type="button" class="count" aria-pressed=${chosen(wanted)}
        onClick=${() => setQuery({ cursor: null, state: wanted.state, outcome: wanted.outcome })}>${word}</button>`)}
      <input id="batch-q" type="search" aria-label="Search in this batch" placeholder="Search" value=${q ?? ""} onChange=${(event) => setQuery({ cursor: null, q: event.target.value })} />
    </div>
    <${TaskList} parameters=${{ batch: id, state, outcome, cursor, q }} batches=${false} empty="No such task in this batch." />`;
}
