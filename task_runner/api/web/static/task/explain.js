// GET …/explain, rendered: what it waits for, what it does just now, or how it ended.

import { html } from "../vendor/htm-preact.js";
import { bytes, duration } from "../core/format.js";
import { get, route } from "../core/http.js";
import { Action, ErrorNote, Facts, Time, useLoaded } from "../core/ui.js";

/** Processes with how deep they stand below others; parents come first. */
function nested(processes) {
  const depths = new Map();
  return processes.map((each) => {
    const depth = (depths.get(each.ppid) ?? -1) + 1;
    depths.set(each.pid, depth);
    return { ...each, depth };
  });
}

function Processes({ of, count }) {
  if (!of?.length) return null;
  return html`<h3>Processes</h3><div class="scroll processes" tabindex="0" role="region" aria-label="Processes"><table>
    <thead><tr><th>Process</th><th>State</th><th>Waits in</th><th class="number">CPU</th><th class="number">Memory</th><th class="number">Age</th><th>Command</th></tr></thead>
    <tbody>${nested(of).map((each) => html`<tr key=${each.pid}><td class="numbers">${each.pid}</td><td>${each.state}</td><td>${each.waitChannel ?? ""}</td>
      <td class="number">${duration(each.cpuSeconds)}</td><td class="number">${bytes(each.rssBytes)}</td><td class="number">${duration(each.ageSeconds)}</td>
      <td class="mono" title=${each.command} style=${{ paddingLeft: `${0.6 + each.depth}rem` }}>${each.runner ? "(the runner)" : each.command}</td></tr>`)}</tbody>
  </table></div>${count > of.length && html`<p class="hint">and ${count - of.length} more</p>`}`;
}

const tasksOf = (list) => list?.length ? html`<ul class="plain">${list.map((each) => {
  const id = each.taskId ?? each.task ?? each;
  return html`<li><a href=${`/ui/tasks/${encodeURIComponent(id)}`}>${each.name ?? id}</a> ${each.state && html`<span class="soft">${each.state}</span>`}</li>`;
})}</ul>` : undefined;

function left(seconds, of) {
  return seconds === null || seconds === undefined ? undefined : `${duration(seconds)} left of ${duration(of)}`;
}

function Found({ of: found }) {
  const { waitsFor, runner, action, limits, stop, ending } = found;
  const facts = [
    ["In this state since", html`<${Time} at=${found.since} />, ${duration(found.sinceSeconds)}`],
    ["Waits for", waitsFor?.reason ?? undefined],
    ["Due", waitsFor?.executeAt ? html`<${Time} at=${waitsFor.executeAt} />` : undefined],
    ["Ahead of it", tasksOf(waitsFor?.ahead)],
    ["After", tasksOf(waitsFor?.after)],
    ["Runner", runner ? `process ${runner.pid}, ${runner.alive ? runner.stateWords ?? "alive" : "gone"}` : undefined],
    ["Last beat", runner?.heartbeatAt ? html`<${Time} at=${runner.heartbeatAt} />` : undefined],
    ["At action", action ? `${action.index + 1} of ${action.of}${action.name ? `, ${action.name}` : ""} (${action.machine}), for ${duration(action.elapsedSeconds)}` : undefined],
    ["Its time limit", left(action?.timeoutLeftSeconds, action?.timeoutSeconds)],
    ["Time limit", left(limits?.timeoutLeftSeconds, limits?.timeoutSeconds)],
    ["Stop", stop ? left(stop.graceLeftSeconds, stop.graceSeconds) ?? "asked for" : undefined],
    ["Meaning", ending?.meaning ?? undefined],
    ["Ran", ending ? duration(ending.ranSeconds) : undefined],
  ];
  return html`<div class="summary">${found.summary.map((each) => html`<p>${each}</p>`)}</div>
    <${Facts} of=${facts} />
    <${Processes} of=${found.processes} count=${found.processCount} />`;
}

/** Asked for when it is shown, and whenever the task changes. */
export function Explain({ task, changes }) {
  const { value, error, reload } = useLoaded((signal) => get(route`/v1/tasks/${task.taskId}/explain`, {}, { signal }), [task.taskId, changes]);
  return html`<${ErrorNote} error=${error} />${value && html`<${Found} of=${value} />`}
    <${Action} act=${async () => reload()}>Look again<//>`;
}
