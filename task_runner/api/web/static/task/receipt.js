// What a stop did, process by process.

import { html } from "../vendor/htm-preact.js";
import { between, count, duration } from "../core/format.js";
import { Empty, Facts, Time } from "../core/ui.js";

function processes(title, list, n, kind = "") {
  if (!n) return null;
  return html`<h3>${title}: ${count(n, "process", "processes")}</h3>
    <ul class="plain ${kind}">${list.map((each) => html`<li><code>${each.pid}</code> ${each.command}</li>`)}
    ${n > list.length && html`<li class="soft">and ${count(n - list.length, "other")}</li>`}</ul>`;
}

export function Receipt({ task }) {
  const { receipt, stopRequested } = task;
  if (!receipt && !stopRequested) return html`<${Empty}>Nobody has stopped it.<//>`;
  if (!receipt) return html`<${Empty}>A stop has been asked for; what it does will stand here.<//>`;
  return html`<${Facts} of=${[
      ["Reason", receipt.reason],
      ["Signal", receipt.signal ?? undefined],
      ["Grace", receipt.graceSeconds === null ? undefined : duration(receipt.graceSeconds)],
      ["Asked for", html`<${Time} at=${receipt.requestedAt} />`],
      ["Took", duration(between(receipt.requestedAt, receipt.finishedAt))],
      ["Container", receipt.container ?? undefined],
    ]} />
    ${processes("Got the signal", receipt.signalled, receipt.signalledCount)}
    ${processes("Killed", receipt.killed, receipt.killedCount)}
    ${receipt.finishedAt && !receipt.survivors.length && html`<p class="good">Nothing of it is alive.</p>`}
    ${processes("Survived", receipt.survivors, receipt.survivors.length, "wrong")}`;
}
