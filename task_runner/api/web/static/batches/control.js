// What can be done with a batch.

import { html } from "../vendor/htm-preact.js";
import { request, route } from "../core/http.js";
import { useMay } from "../core/session.js";
import { Action, confirm, say } from "../core/ui.js";

const ASKED = {
  stop: () => ({ title: "Stop the batch?", text: "All its tasks that are not over are stopped; those that wait never start.", yes: "Stop", danger: true }),
  pause: () => ({ title: "Pause the batch?", text: "What runs is frozen, and nothing starts, until it is resumed.", yes: "Pause" }),
};

/** `done(batch)` gets what the batch is afterwards. */
export function BatchButtons({ batch, done, onError }) {
  const may = useMay();
  if (!may("control") || batch.finishedAt) return null;
  const act = async (verb) => {
    if (ASKED[verb] && !(await confirm(ASKED[verb]()))) return;
    const answer = await request(route`/v1/batches/${batch.batchId}/${verb}`, { method: "POST", body: {} });
    done(await answer.json());
    say({ stop: "The batch is being stopped.", pause: "The batch is paused.", resume: "The batch goes on." }[verb]);
  };
  return html`${batch.paused
    ? html`<${Action} onError=${onError} act=${() => act("resume")}>Resume<//>`
    : html`<${Action} onError=${onError} act=${() => act("pause")}>Pause<//>`}
    <${Action} class="danger" onError=${onError} act=${() => act("stop")}>Stop<//>`;
}
