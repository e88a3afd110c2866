// What can be done with tasks from a list, to one or to several.

import { html } from "../vendor/htm-preact.js";
import { ApiError, request, route } from "../core/http.js";
import { count } from "../core/format.js";
import { Action, confirm, say } from "../core/ui.js";

/** requests at a time */
const AT_ONCE = 6;
const active = (task) => !task.outcome;
const RUNNING = new Set(["running", "provisioning"]);

export const VERBS = [
  { verb: "stop", title: "Stop", danger: true, can: active, text: "Each gets the polite signal, and is killed when its grace is over." },
  { verb: "pause", title: "Pause", can: (task) => RUNNING.has(task.state), text: "All their processes are frozen." },
  { verb: "resume", title: "Resume", can: (task) => task.state === "paused", text: "They go on." },
  { verb: "retry", title: "Retry", can: (task) => !active(task), text: "Each runs once more, as a new attempt." },
  { verb: "delete", title: "Delete", danger: true, can: () => true, text: "Their logs and files are removed. What still runs is stopped first." },
];

async function carryOut(verb, task) {
  if (verb === "delete") return void (await request(route`/v1/tasks/${task.taskId}`, { method: "DELETE" }));
  return (await request(route`/v1/tasks/${task.taskId}/${verb}`, { method: "POST", body: {} })).json();
}

/** Do it to each, some at a time; [{task, result, error}] */
async function toEach(tasks, act) {
  const waiting = [...tasks];
  const done = [];
  const worker = async () => {
    for (let task = waiting.shift(); task; task = waiting.shift()) {
      done.push(await act(task).then((result) => ({ task, result }), (error) => ({ task, error })));
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  return done;
}

function gone({ error }) {
  return error instanceof ApiError && error.status === 404;
}

/** The bar over a list while rows are selected. `drop(ids)`: select these no longer. */
export function Bulk({ tasks, feed, clear, drop, onError }) {
  const act = async ({ verb, title, danger, can, text }) => {
    const fitting = tasks.filter(can);
    const rest = tasks.length - fitting.length;
    const left = rest ? ` ${count(rest, "selected task")} ${rest === 1 ? "is" : "are"} left out: not in a state for it.` : "";
    const agreed = await confirm({
      title: fitting.length === 1 ? `${title} ${fitting[0].name ?? fitting[0].taskId}?` : `${title} ${count(fitting.length, "task")}?`,
      text: text + left, yes: title, danger,
    });
    if (!agreed) return;
    const heard = feed.listen();
    const done = await toEach(fitting, (task) => carryOut(verb, task));
    feed.replace(done.map(({ result }) => result).filter(Boolean), heard);
    if (verb === "delete") feed.remove(new Set(done.filter((each) => !each.error || gone(each)).map((each) => each.task.taskId)));
    const failed = done.filter((each) => each.error && !(verb === "delete" && gone(each)));
    if (failed.length) {
      const first = failed[0];
      onError(new Error(`${title}: refused for ${failed.length} of ${fitting.length}. ${first.task.name ?? first.task.taskId}: ${first.error.message}`));
    } else {
      drop(new Set(tasks.map((task) => task.taskId))); // others may have been selected meanwhile
      say(`${title}: ${count(done.length, "task")}.`);
    }
  };
  return html`<div class="bulk" role="group" aria-label="Selected tasks">
    <strong>${count(tasks.length, "task")} selected</strong>
    ${VERBS.map((each) => html`<${Action} class=${each.danger ? "danger" : ""} disabled=${!tasks.some(each.can)} onError=${onError} act=${() => act(each)}>${each.title}<//>`)}
    <button type="button" class="quiet" onClick=${clear}>Clear selection</button>
  </div>`;
}
