// What can be done with a task.

import { html } from "../vendor/htm-preact.js";
import { route, send } from "../core/http.js";
import { go } from "../core/location.js";
import { useMay } from "../core/session.js";
import { Action, confirm, say } from "../core/ui.js";
import { isFinal } from "./live.js";

const SIGNALS = ["SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGKILL", "SIGWINCH", "SIGCONT"];

function signalField(answers, name, first) {
  answers[name] ??= first;
  const names = SIGNALS.includes(first) ? SIGNALS : [first, ...SIGNALS];
  return html`<label>Signal<br /><select value=${answers[name]} onChange=${(event) => (answers[name] = event.target.value)}>
    ${names.map((each) => html`<option value=${each}>${each}</option>`)}</select></label>`;
}

/** Ask how to stop, and do it; the answer is the task. */
export async function stop(task) {
  if (task.pendingReason !== null || task.state === "scheduled" || task.state === "pending") {
    if (!(await confirm({ title: "Cancel this task?", text: "It has not started, and it will not.", yes: "Cancel the task", danger: true }))) return null;
    return send("POST", route`/v1/tasks/${task.taskId}/stop`);
  }
  const grace = String(task.spec.graceSeconds ?? 10);
  const answers = await confirm({
    title: "Stop this task?",
    text: "All its processes get the signal, and SIGKILL if they are still there after the grace.",
    yes: "Stop the task",
    danger: true,
    content: (given) => {
      given.grace ??= grace;
      return html`<div class="row">${signalField(given, "signal", task.spec.stopSignal ?? "SIGTERM")}
        <label>Grace in seconds<br /><input type="number" min="0" step="any" required value=${given.grace}
          onInput=${(event) => (given.grace = event.target.value)} /></label></div>`;
    },
  });
  return answers && send("POST", route`/v1/tasks/${task.taskId}/stop`, { signal: answers.signal, graceSeconds: Number(answers.grace) });
}

async function signal(task) {
  const answers = await confirm({
    title: "Send a signal",
    text: "To the first process of the current action.",
    yes: "Send",
    content: (given) => html`<div class="row">${signalField(given, "signal", "SIGHUP")}</div>`,
  });
  if (!answers) return null;
  const after = await send("POST", route`/v1/tasks/${task.taskId}/signal`, { signal: answers.signal });
  say(`${answers.signal} has been sent.`);
  return after;
}

async function remove(task) {
  const text = isFinal(task)
    ? "Its log and its files go with it. This cannot be undone."
    : "It is not over: it is stopped first. Its log and its files go with it. This cannot be undone.";
  if (!(await confirm({ title: "Delete this task?", text, yes: "Delete the task", danger: true }))) return;
  await send("DELETE", route`/v1/tasks/${task.taskId}`);
  say("The task has been deleted.");
  go("/ui/");
}

/** The buttons that make sense now. `changed()`: the daemon has done something with the task. */
export function Controls({ task, changed, onError }) {
  const may = useMay();
  const over = isFinal(task);
  const act = (label, does, more = {}) =>
    html`<${Action} key=${label} onError=${onError} act=${async () => { if (await does()) changed(); }} ...${more}>${label}<//>`;
  const post = (verb) => () => send("POST", route`/v1/tasks/${task.taskId}/${verb}`);
  return html`
    ${may("control") && [
      task.state === "running" && act("Pause", post("pause")),
      task.state === "paused" && act("Resume", post("resume")),
      ["running", "paused", "stopping"].includes(task.state) && act("Signal…", () => signal(task)),
      over && act("Retry", post("retry")),
      !over && act("Stop…", () => stop(task), { "aria-keyshortcuts": "s", title: "key: s" }),
    ]}
    ${(may("submit") || may("submit-template")) && html`<a class="button" href=${`/ui/submit?again=${encodeURIComponent(task.taskId)}`}>Run again as new</a>`}
    ${may("control") && act("Delete…", () => remove(task), { class: "danger" })}`;
}
