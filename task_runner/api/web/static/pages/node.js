// The machine and the daemon: what they can do, how they are, how they were over the last hours.

import { html, useEffect, useState } from "../vendor/htm-preact.js";
import { useEvents } from "../core/events.js";
import { bytes, count, UNKNOWN } from "../core/format.js";
import { get, send } from "../core/http.js";
import { setQuery, useQuery } from "../core/location.js";
import { useMay } from "../core/session.js";
import { Action, confirm, ErrorNote, Facts, Heading, Time, useLoaded } from "../core/ui.js";
import { Chart } from "../node/chart.js";

const HOURS = [1, 6, 24];
const LOOK_EVERY = 10_000;

const percent = (share) => (share === null || share === undefined ? UNKNOWN : `${(share * 100).toFixed(0)} %`);
const whole = (n) => (n === null || n === undefined ? UNKNOWN : n.toLocaleString("en", { maximumFractionDigits: 0 }));

const CHARTS = [
  { title: "Processors", show: percent, top: 1, lines: [["used", "cpu", "accent"]] },
  { title: "Memory", show: bytes, of: "memoryTotal", lines: [["used", "memory", "accent"]] },
  { title: "Running tasks and slots", show: whole, whole: true, lines: [["running", "running", "accent"], ["slots used", "slots", "good"], ["slots", "slotsTotal", "soft"], ["stalled", "stalled", "warn"]] },
  { title: "Queue", show: whole, whole: true, lines: [["waiting", "queued", "accent"]] },
  { title: "Load", show: (n) => (n === null || n === undefined ? UNKNOWN : n.toFixed(2)), lines: [["last minute", "load", "accent"]] },
  { title: "Disk of the state directory", show: bytes, of: "diskTotal", lines: [["used", "disk", "accent"]] },
];

export default function Node() {
  const query = useQuery();
  const hours = HOURS.includes(Number(query.get("hours"))) ? Number(query.get("hours")) : 6;
  const node = useLoaded((signal) => get("/v1/node", {}, { signal }), []);
  const history = useLoaded((signal) => get("/v1/node/history", { hours }, { signal }), [hours]);
  // samples are taken every ten seconds and told to nobody: looked at as often, and only while somebody does
  useEffect(() => {
    const timer = setInterval(() => document.hidden || (node.reload(), history.reload()), LOOK_EVERY);
    return () => clearInterval(timer);
  }, [node.reload, history.reload]);
  useEvents((kind, data) => kind === "connection" && data.returned && (node.reload(), history.reload()), [node.reload, history.reload]);
  return html`<${Heading} title="Node">
      <div class="row" role="group" aria-label="Interval">${HOURS.map((each) => html`
        <button type="button" aria-pressed=${hours === each} onClick=${() => setQuery({ hours: each })}>${each} h</button>`)}</div>
      ${node.value && html`<${Drain} node=${node.value} changed=${node.reload} />`}
    <//>
    <${ErrorNote} error=${node.error ?? history.error} />
    ${node.value && html`<${State} node=${node.value} />`}
    ${history.value && html`<div class="charts">${CHARTS.map((chart) => html`
      <${Chart} key=${chart.title} ...${chart} history=${history.value} hours=${hours} />`)}</div>`}
    ${node.value && html`<div class="columns"><${Room} node=${node.value} /><${Waiting} history=${history.value} /></div>
      <${Limits} limits=${node.value.limits ?? []} />
      <${Surroundings} node=${node.value} />`}`;
}

const DRAIN = { title: "Drain this node?", text: "What runs goes on; nothing more is started until it is undrained. What is handed in waits.", yes: "Drain" };
const UNDRAIN = { title: "Undrain this node?", text: "What waits is started again.", yes: "Undrain" };

function Drain({ node, changed }) {
  const may = useMay();
  const [error, setError] = useState(null);
  if (!may("admin")) return null;
  const act = async () => {
    if (!(await confirm(node.draining ? UNDRAIN : DRAIN))) return;
    await send("POST", node.draining ? "/v1/node/undrain" : "/v1/node/drain");
    changed();
  };
  return html`<${Action} act=${act} onError=${setError}>${node.draining ? "Undrain" : "Drain"}<//><${ErrorNote} error=${error} />`;
}

function State({ node }) {
  const states = Object.entries(node.states).filter(([, n]) => n > 0);
  return html`${node.draining && html`<p class="note warning">Draining since <${Time} at=${node.drainedAt} />: nothing new is started.${node.empty && " Nothing runs any more."}</p>`}
    ${!node.storage.ok && html`<p class="note error">The store takes no changes: ${node.storage.error}</p>`}
    <section class="card"><h2>Now</h2><${Facts} of=${[
      ["Version", node.version],
      ["Ready", node.ready ? "yes" : "not yet"],
      ["Tasks", states.length ? states.map(([state, n]) => `${n} ${state}`).join(", ") : "none that is not over"],
      ["Stalled", node.stalled],
      ["At once at most", node.maxRunning ?? "no limit"],
      ["Dialects", node.dialects?.length ? node.dialects.map((each) => each.name + (each.address ? ` (${each.address})` : "")).join(", ") : "none"],
    ]} /></section>`;
}

/** What tasks may ask for, and what of it is free. */
function Room({ node }) {
  const rows = [];
  for (const [name, total] of Object.entries(node.capacity)) {
    if (total !== null && typeof total === "object" && !Array.isArray(total)) {
      for (const [each, most] of Object.entries(total)) rows.push([`${name}: ${each}`, most, node.free[name]?.[each]]);
    } else rows.push([name, total, node.free[name]]);
  }
  const text = (value) => (value === null || value === undefined ? "no limit" : Array.isArray(value) ? value.join(", ") || "none" : String(value));
  return html`<section class="card"><h2>What tasks may ask for</h2><table>
    <thead><tr><th>Of</th><th class="number">In all</th><th class="number">Free</th></tr></thead>
    <tbody>${rows.map(([name, total, free]) => html`<tr><td>${name}</td><td class="number">${text(total)}</td><td class="number">${text(free)}</td></tr>`)}</tbody></table></section>`;
}

/** What the queue waits for, by the last sample. */
function Waiting({ history }) {
  if (!history?.queuedFor) return null;
  const last = Object.entries(history.queuedFor).map(([place, column]) => [place, column[column.length - 1]]);
  const some = last.filter(([, n]) => n);
  return html`<section class="card"><h2>What waits, and for what</h2>
    ${some.length ? html`<ul>${some.map(([place, n]) => html`<li>${place}: ${count(n, "task")}</li>`)}</ul>` : html`<p class="soft">Nothing waited at the last look.</p>`}
    <p><a href="/ui/?state=pending">Tasks that wait</a>; each says why.</p></section>`;
}

function Limits({ limits }) {
  if (!limits.length) return null;
  return html`<section class="card"><h2>Limits, and what enforces them here</h2><div class="scroll" tabindex="0" role="region" aria-label="Limits"><table class="limits cards">
    <thead><tr><th>Limit</th><th>By</th><th>Note</th></tr></thead>
    <tbody>${limits.map((each) => html`<tr key=${each.limit}><td><code>${each.limit}</code></td><td data-title="by">${each.by ?? html`<strong>not enforced</strong>`}</td><td>${each.note}</td></tr>`)}</tbody></table></div></section>`;
}

function Surroundings({ node }) {
  const possible = (what) => (what === undefined ? undefined : what.problem ?? "yes");
  const engines = (node.engines ?? []).map((each) => `${each.name} ${each.problem ?? each.version ?? ""}`.trim());
  return html`<section class="card"><h2>What else is there</h2><${Facts} of=${[
    ["Container engines", engines.length ? engines.join("; ") : "none"],
    ["Sandboxes", possible(node.sandbox)],
    ["Sidecars", possible(node.sidecars)],
    ["Store set aside", node.storeSetAside ?? undefined],
  ]} /></section>`;
}
