// The actions of a task, each as a bar on one line of time.

import { html } from "../vendor/htm-preact.js";
import { between, count, duration, summary } from "../core/format.js";
import { setQuery, useQuery } from "../core/location.js";
import { StateBadge, useNow } from "../core/ui.js";
import { ending } from "./head.js";

/** Where each bar stands, as parts of the whole time from the first start to the last end, or to now. */
export function bars(actions, now) {
  const starts = actions.map((each) => (each.startedAt ? Date.parse(each.startedAt) : null));
  const ends = actions.map((each) => (each.finishedAt ? Date.parse(each.finishedAt) : now));
  const begun = starts.filter((each) => each !== null);
  if (begun.length === 0) return actions.map(() => null);
  const first = Math.min(...begun);
  const whole = Math.max(...ends.filter((_, i) => starts[i] !== null)) - first || 1;
  return starts.map((start, i) => (start === null ? null : { left: (start - first) / whole, width: (ends[i] - start) / whole }));
}

function name(action, spec) {
  const asked = action.cleanup ? null : spec.actions?.[action.index];
  return action.name ?? (asked ? summary({ actions: [asked] }) : action.machine);
}

export function Actions({ task, actions, attempt }) {
  const query = useQuery();
  const running = actions.some((each) => each.startedAt && !each.finishedAt);
  const now = useNow(running ? 1 : 60);
  if (actions.length === 0) return null;
  const places = bars(actions, now);
  const chosen = query.get("action");
  const jump = (event, index) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    setQuery({ action: index, at: null }, { push: true });
    document.querySelector(".logcard")?.scrollIntoView({ block: "nearest" });
  };
  const address = (index) => {
    const parameters = new URLSearchParams({ ...(attempt !== task.attempt && { attempt }), action: index });
    return `/ui/tasks/${encodeURIComponent(task.taskId)}?${parameters}`;
  };
  const row = (action, i) => {
    const place = places[i];
    const seconds = between(action.startedAt, action.finishedAt, now);
    const details = [ending(action), action.tries > 1 && count(action.tries, "try", "tries"), action.cleanup && "cleanup", action.oomKilled && "no memory", action.container?.stage];
    return html`<li key=${action.index}>
      <a href=${address(action.index)} aria-current=${chosen === String(action.index) ? "true" : undefined} onClick=${(event) => jump(event, action.index)}>
        <span class="action-name"><span class="numbers soft">${action.index + 1}</span> ${name(action, task.spec)}</span>
        <${StateBadge} task=${action} />
        <span class="bar" aria-hidden="true">${place && html`<span class=${action.outcome ?? action.state} style=${{ left: `${place.left * 100}%`, width: `max(3px, ${place.width * 100}%)` }}></span>`}</span>
        <span class="numbers seconds">${duration(seconds)}</span>
        <span class="soft details">${details.filter(Boolean).join(", ")}</span>
      </a>
      ${action.error && html`<p class="wrong">${action.error}</p>`}
    </li>`;
  };
  return html`<section class="card" aria-labelledby="actions-title"><h2 id="actions-title">${actions.length === 1 ? "Action" : "Actions"}</h2>
    <ol class="actions">${actions.map(row)}</ol></section>`;
}
