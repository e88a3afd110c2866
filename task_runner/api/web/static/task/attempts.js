// The attempts of a task. Which one is shown stands in the address (?attempt=).

import { html } from "../vendor/htm-preact.js";
import { between, duration } from "../core/format.js";
import { get, route } from "../core/http.js";
import { setQuery, useQuery } from "../core/location.js";
import { StateBadge, Time, useLoaded, useNow } from "../core/ui.js";
import { ending } from "./head.js";

/** {attempt, actions, error} of the one that is shown; the actions of an earlier one are read from its own status. */
export function useAttempt(task) {
  const query = useQuery();
  const asked = Number(query.get("attempt"));
  const attempt = task && Number.isInteger(asked) && asked >= 1 && asked < task.attempt ? asked : task?.attempt;
  const earlier = task !== null && attempt !== task.attempt;
  const { value, error } = useLoaded(
    (signal) => (earlier ? get(route`/v1/tasks/${task.taskId}/attempts/${attempt}`, {}, { signal }) : Promise.resolve(null)),
    [task?.taskId, attempt, earlier],
  );
  if (!task) return { attempt, actions: null };
  if (!earlier) return { attempt, actions: task.actions };
  // an attempt that left no status has no actions that are known
  return { attempt, actions: error ? [] : value?.attempt === attempt ? value.actions : null };
}

export function Attempts({ task, attempt }) {
  const now = useNow(5);
  const all = [...task.attempts, { ...task, previous: false }];
  const choose = (each) => setQuery({ attempt: each === task.attempt ? null : each, action: null, at: null }, { push: true });
  return html`<table class="cards"><thead><tr><th>Attempt</th><th>Outcome</th><th>Ended</th><th>Started</th><th class="number">Time</th></tr></thead>
    <tbody>${all.map((each) => html`<tr key=${each.attempt}>
      <td><button type="button" aria-pressed=${String(each.attempt === attempt)} onClick=${() => choose(each.attempt)}>Attempt ${each.attempt}</button></td>
      <td><${StateBadge} task=${each} /></td><td>${each.error ?? ending(each) ?? ""}</td>
      <td data-title="Started"><${Time} at=${each.startedAt} /></td>
      <td class="number" data-title="Time">${duration(between(each.startedAt, each.finishedAt, now))}</td></tr>`)}</tbody></table>`;
}
