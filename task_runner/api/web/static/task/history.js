// What happened to a task, event by event.

import { html, useEffect, useState } from "../vendor/htm-preact.js";
import { route } from "../core/http.js";
import { Empty, StateBadge, Time } from "../core/ui.js";
import { ending } from "./head.js";

const MOST = 500;

/** The events of one task; its own stream is held open only while this is shown and the tab is seen. */
export function History({ task }) {
  const [events, setEvents] = useState([]);
  useEffect(() => {
    let source = null;
    let last = null;
    const open = () => {
      if (source || document.hidden) return;
      source = new EventSource(route`/v1/tasks/${task.taskId}/events` + (last === null ? "" : `?after=${last}`));
      source.addEventListener("state", (event) => {
        last = event.lastEventId;
        const told = { ...JSON.parse(event.data), id: event.lastEventId };
        setEvents((before) => (before.some((each) => each.id === told.id) ? before : [...before, told].slice(-MOST)));
      });
    };
    const shut = () => {
      source?.close();
      source = null;
    };
    const turn = () => (document.hidden ? shut() : open());
    document.addEventListener("visibilitychange", turn);
    open();
    return () => {
      document.removeEventListener("visibilitychange", turn);
      shut();
    };
  }, [task.taskId]);
  if (events.length === 0) return html`<${Empty}>No events are kept of it.<//>`;
  const action = (each) => (each.currentActionIdx >= 0 ? `action ${each.currentActionIdx + 1}` : null);
  return html`<ol class="history">${events.map((each) => html`<li key=${each.id}><span class="numbers soft"><${Time} at=${each.at} /></span>
    <${StateBadge} task=${each} /> <span class="soft">${[each.attempt > 1 && `attempt ${each.attempt}`, action(each), each.containerStage, each.outcome && ending(each)].filter(Boolean).join(", ")}</span></li>`)}</ol>`;
}
