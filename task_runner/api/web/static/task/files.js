// The files that a task has left in its working directory.

import { html, useState } from "../vendor/htm-preact.js";
import { bytes } from "../core/format.js";
import { get, query, request, route } from "../core/http.js";
import { setQuery, useQuery } from "../core/location.js";
import { Action, Empty, ErrorNote, Time, useLoaded } from "../core/ui.js";

const PAGE = 500;
/** bytes of a file that are shown */
const SMALL = 256 * 1024;

const listing = (id, folder) => route`/v1/tasks/${id}/files` + (folder ? `/${folder.split("/").map(encodeURIComponent).join("/")}` : "");
const lastOf = (path) => path.split("/").at(-1);

async function page(address, signal) {
  const response = await request(address, { signal });
  const next = /<([^>]+)>; rel="next"/.exec(response.headers.get("Link") ?? "");
  return { rows: await response.json(), next: next && next[1] };
}

function Path({ folder }) {
  const parts = folder ? folder.split("/") : [];
  const open = (depth) => setQuery({ folder: parts.slice(0, depth).join("/") }, { push: true });
  return html`<nav class="row path" aria-label="Folder"><button type="button" class="quiet" onClick=${() => open(0)}>work</button>
    ${parts.map((each, i) => html`<span aria-hidden="true">/</span><button type="button" class="quiet" aria-current=${i + 1 === parts.length ? "true" : undefined} onClick=${() => open(i + 1)}>${each}</button>`)}</nav>`;
}

/** The beginning of a file as text, wherever it is text. */
function Preview({ file, close }) {
  const { value, error } = useLoaded(async (signal) => {
    if (file.bytes === 0) return { text: "" };
    const found = new Uint8Array(await (await request(file.href, { headers: { Range: `bytes=0-${SMALL - 1}` }, signal })).arrayBuffer());
    return found.includes(0) ? { binary: true } : { text: new TextDecoder().decode(found) };
  }, [file.href]);
  const cut = file.bytes > SMALL ? html`<p class="hint">The first ${bytes(SMALL)} of ${bytes(file.bytes)}.</p>` : null;
  return html`<section class="preview" aria-label=${`Contents of ${file.path}`}>
    <div class="row"><h3>${file.path}</h3><button type="button" class="push" onClick=${close}>Close</button></div>
    <${ErrorNote} error=${error} />
    ${value?.binary && html`<p class="hint">This file is not text.</p>`}
    ${value?.text !== undefined && html`<pre tabindex="0" aria-label="Text">${value.text || "(empty)"}</pre>${cut}`}
  </section>`;
}

export function Files({ task }) {
  const address = useQuery();
  const folder = address.get("folder") ?? "";
  const [shown, setShown] = useState(null);
  const { value, error, reload, set } = useLoaded((signal) => page(listing(task.taskId, folder) + query({ limit: PAGE }), signal), [task.taskId, folder]);
  const more = async () => {
    const following = await page(value.next);
    // meanwhile another folder may be shown, or this one anew
    set((before) => (before === value ? { rows: [...value.rows, ...following.rows], next: following.next } : before));
  };
  const name = (file) => {
    const label = file.path === null ? `(name is not UTF-8: ${file.pathBase64})` : lastOf(file.path);
    if (file.kind === "directory" && file.path !== null) return html`<button type="button" class="quiet" onClick=${() => setQuery({ folder: file.path }, { push: true })}>${label}/</button>`;
    if (file.kind === "file") return html`<button type="button" class="quiet" onClick=${() => setShown(file)}>${label}</button>`;
    return html`<span>${label}${file.kind === "link" ? ` → ${file.target ?? "?"}` : ` (${file.kind ?? "unknown"})`}</span>`;
  };
  const row = (file) => html`<tr key=${file.href}>
    <td>${name(file)}${file.error && html` <span class="wrong">${file.error}</span>`}</td>
    <td class="number" data-title="Size">${file.bytes === null ? "" : bytes(file.bytes)}</td>
    <td data-title="Changed"><${Time} at=${file.modifiedAt} /></td>
    <td>${file.kind === "file" && html`<a href=${file.href} download=${file.path === null ? "" : lastOf(file.path)} aria-label=${`Download ${file.path}`}>Download</a>`}</td></tr>`;
  return html`<div class="row"><${Path} folder=${folder} />
      <span class="row push"><${Action} act=${async () => reload()}>Look again<//>
      <a class="button" href=${`${listing(task.taskId, folder)}${query({ archive: "tar.gz" })}`} download>All as tar.gz</a>
      <a class="button" href=${`${listing(task.taskId, folder)}${query({ archive: "zip" })}`} download>zip</a></span></div>
    <${ErrorNote} error=${error} />
    ${value && (value.rows.length === 0 ? html`<${Empty}>There is nothing in this folder.<//>` : html`<table class="cards">
      <thead><tr><th>Name</th><th class="number">Size</th><th>Changed</th><th><span class="hidden-label">Download</span></th></tr></thead>
      <tbody>${value.rows.map(row)}</tbody></table>`)}
    ${value?.next && html`<${Action} act=${more}>More<//>`}
    ${shown && html`<${Preview} key=${shown.href} file=${shown} close=${() => setShown(null)} />`}`;
}
