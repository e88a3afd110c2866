// What happened to a task, event by event.

import { html, useEffect, useState } from "../vendor/htm-preact.js";
import { route } from "../core/http.js";
import { Stream } from "../core/stream.js";
import { Empty, StateBadge, Time } from "../core/ui.js";
import { ending } from "./head.js";

const MOST = 500;

/** The events of one task; its own stream is held open only while this is shown and the tab is seen. */
export function History({ task }) {
  const [events, setEvents] = useState([]);
  useEffect(() => {
    const path = route`/v1/tasks/${task.taskId}/events`;
    const heard = (data, id) => setEvents((before) => (before.some((each) => each.id === id) ? before : [...before, { ...data, id }].slice(-MOST)));
    const stream = new Stream((last) => path + (last === null ? "" : `?after=${last}`), { state: heard });
    stream.begin();
    return () => stream.end();
  }, [task.taskId]);
  if (events.length === 0) return html`<${Empty}>No events are kept of it.<//>`;
  const action = (each) => (each.currentActionIdx >= 0 ? `action ${each.currentActionIdx + 1}` : null);
  return html`<ol class="history">${events.map((each) => html`<li key=${each.id}><span class="numbers soft"><${Time} at=${each.at} /></span>
    <${StateBadge} task=${each} /> <span class="soft">${[each.attempt > 1 && `attempt ${each.attempt}`, action(each), each.containerStage, each.outcome && ending(each)].filter(Boolean).join(", ")}</span></li>`)}</ol>`;
}
