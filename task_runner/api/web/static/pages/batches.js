// The list of batches, newest first.

import { html } from "../vendor/htm-preact.js";
import { BatchBadge, Counts } from "../batches/counts.js";
import { useNews } from "../batches/news.js";
import { count } from "../core/format.js";
import { query as addressOf, request } from "../core/http.js";
import { setQuery, useQuery } from "../core/location.js";
import { Empty, ErrorNote, Heading, Time, useLoaded } from "../core/ui.js";

const PAGE = 50;

async function page(cursor, signal) {
  const answer = await request("/v1/batches" + addressOf({ limit: PAGE, cursor }), { signal });
  const link = /[?&]cursor=(\d+)[^>]*>; rel="next"/.exec(answer.headers.get("Link") ?? "");
  return { batches: await answer.json(), older: link && link[1] };
}

export default function Page() {
  const query = useQuery();
  const cursor = query.get("cursor");
  const { value, error, reload } = useLoaded((signal) => page(cursor, signal), [cursor]);
  useNews(reload, (event) => event.batch !== null);
  const batches = value?.batches ?? [];
  return html`<${Heading} title="Batches" />
    <${ErrorNote} error=${error} />
    ${value && batches.length === 0 && html`<${Empty}>No batches${cursor ? " here" : " yet"}. One is made by <code>task-runner batch submit</code> or <code>POST /v1/batches</code>.<//>`}
    ${batches.length > 0 && html`<div class="card listing"><table class="cards batches">
      <thead><tr><th>Batch</th><th>State</th><th>Tasks</th><th class="number">All</th><th>Accepted</th><th>Over</th><th>Tags</th></tr></thead>
      <tbody>${batches.map((batch) => html`<tr key=${batch.batchId} data-id=${batch.batchId}>
        <td class="name"><a href="/ui/batches/${batch.batchId}" class=${batch.name ? "" : "mono"}>${batch.name ?? batch.batchId}</a>${batch.name && html`<span class="id soft mono">${batch.batchId}</span>`}</td>
        <td><${BatchBadge} batch=${batch} /></td>
        <td class="all"><${Counts} batch=${batch} /></td>
        <td class="number" data-title="all">${batch.numTasks.toLocaleString("en")}</td>
        <td data-title="accepted"><${Time} at=${batch.createdAt} /></td>
        <td data-title="over"><${Time} at=${batch.finishedAt} /></td>
        <td class="tags">${Object.entries(batch.tags ?? {}).map(([key, each]) => html`<span class="tag">${key}=${each}</span>`)}</td>
      </tr>`)}</tbody></table></div>`}
    <nav class="row paging" aria-label="Pages of the list">
      <span class="soft">${batches.length > 0 && count(batches.length, "batch", "batches")}</span>
      ${cursor && html`<button type="button" onClick=${() => setQuery({ cursor: null }, { push: true })}>Newest</button>`}
      ${value?.older && html`<button type="button" onClick=${() => setQuery({ cursor: value.older }, { push: true })}>Older</button>`}
    </nav>`;
}
