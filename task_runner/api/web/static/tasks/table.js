// The rows of a list of tasks. A row is drawn anew only where something in it has changed.

import { Component, html } from "../vendor/htm-preact.js";
import { between, bytes, duration, moment, summary, UNKNOWN } from "../core/format.js";
import { Progress, StateBadge } from "../core/ui.js";

const link = (name, value) => `/ui/?${new URLSearchParams({ [name]: value })}`;

class Row extends Component {
  shouldComponentUpdate(next) {
    return Object.keys(next).some((name) => next[name] !== this.props[name]);
  }

  render({ task, age, ran, cpu, memory, selected, select, batches }) {
    const name = task.name ?? task.taskId;
    return html`<tr data-id=${task.taskId} class=${selected ? "selected" : ""}>
      ${select && html`<td class="pick"><input type="checkbox" checked=${selected} aria-label="select ${name}"
        onClick=${(event) => select(task.taskId, event)} /></td>`}
      <td class="state"><${StateBadge} task=${task} />${task.attempt > 1 && html` <span class="soft" title="attempt ${task.attempt}">×${task.attempt}</span>`}</td>
      <td class="name"><a class=${task.name ? "short" : "bare mono"} title=${task.name} href="/ui/tasks/${task.taskId}">${name}</a>${task.name && html`<span class="id soft mono">${task.taskId}</span>`}</td>
      <td class="command mono clip" title=${summary(task.spec)}>${summary(task.spec)}</td>
      <td class="progress-cell">${task.outcome ? null : task.progress ? html`<${Progress} value=${task.progress} />` : task.pendingReason && html`<span class="soft reason" title=${task.pendingReason}>${task.pendingReason}</span>`}</td>
      <td class="number" data-title="age"><time datetime=${task.createdAt} title="accepted ${moment(task.createdAt)}">${age}</time></td>
      <td class="number" data-title="ran">${ran}</td>
      <td class="number" data-title="CPU">${cpu}</td>
      <td class="number" data-title="memory">${memory}</td>
      <td data-title="entity">${task.entity && html`<a class="short" title=${task.entity} href=${link("entity", task.entity)}>${task.entity}</a>`}</td>
      ${batches && html`<td class="mono batch" data-title="batch">${task.batch && html`<a href="/ui/batches/${task.batch}" title="batch ${task.batch}">${task.batch.slice(0, 8)}</a>`}</td>`}
      <td class="tags">${Object.entries(task.tags ?? {}).map(([key, value]) => html`<a class="tag" title=${`${key}=${value}`} href=${link("tag", `${key}=${value}`)}>${key}=${value}</a>`)}</td>
    </tr>`;
  }
}

/** A time since something, as coarse as it is old: a list that counts the seconds of hours is never still. */
function coarse(seconds) {
  if (seconds === null) return UNKNOWN;
  return seconds < 60 ? `${Math.max(0, Math.floor(seconds))} s` : duration(seconds).replace(/^(\d+ m) .*$/, "$1");
}

function figures(task, use, now) {
  const used = task.outcome ? undefined : use(task.taskId);
  const began = task.startedAt;
  return {
    age: coarse(between(task.createdAt, null, now)),
    ran: !began ? "" : task.finishedAt ? duration(between(began, task.finishedAt)) : coarse(between(began, null, now)),
    cpu: used ? (used.cpus === null ? UNKNOWN : `${Math.round(used.cpus * 100)} %`) : "",
    memory: used ? bytes(used.rssBytes) : "",
  };
}

/** `select(id, event)` and `selected` (a Set): only where rows can be selected. */
export function Table({ rows, use, now, select, selected, selectAll, batches = true }) {
  const all = rows.length > 0 && rows.every((row) => selected?.has(row.taskId));
  return html`<table class="cards tasks">
    <thead><tr>
      ${select && html`<th class="pick"><input type="checkbox" aria-label="select all shown" checked=${all} onClick=${() => selectAll(!all)} /></th>`}
      <th>State</th><th>Task</th><th>Command</th><th>Progress</th><th class="number">Age</th><th class="number">Ran</th>
      <th class="number">CPU</th><th class="number">Memory</th><th>Entity</th>${batches && html`<th>Batch</th>`}<th>Tags</th>
    </tr></thead>
    <tbody>${rows.map((task) => html`<${Row} key=${task.taskId} task=${task} ...${figures(task, use, now)}
      selected=${Boolean(selected?.has(task.taskId))} select=${select} batches=${batches} />`)}</tbody>
  </table>`;
}
