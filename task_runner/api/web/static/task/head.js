// What a task is, how it stands, and why.

import { html } from "../vendor/htm-preact.js";
import { useUse } from "../core/events.js";
import { between, bytes, count, duration, summary, UNKNOWN } from "../core/format.js";
import { Action, Facts, Progress, say, Time, useNow } from "../core/ui.js";
import { isFinal } from "./live.js";

/** How it ended, in a few words; null while it has not. */
export function ending({ exitCode, signal }) {
  if (exitCode !== null && exitCode !== undefined) return `exit code ${exitCode}`;
  return signal ? `ended by ${signal}` : null;
}

export function Id({ task }) {
  const copy = async () => {
    await navigator.clipboard.writeText(task.taskId);
    say("The id has been copied.");
  };
  // where the page is not served over TLS or from this machine, browsers have no clipboard
  return html`<span class="row id"><code>${task.taskId}</code>${navigator.clipboard && html`<${Action} class="quiet" act=${copy} aria-label="Copy the id">Copy<//>`}</span>`;
}

/** Why it waits, hangs, or ended badly. */
export function Why({ task }) {
  const notes = [
    task.pendingReason && ["", `It waits: ${task.pendingReason}.`],
    task.stalled && ["warning", html`Stalled since <${Time} at=${task.stalled.since} />: ${task.stalled.reason}.`],
    task.oomKilled && ["error", "The kernel killed processes of it because there was no memory for them."],
    task.error && [task.outcome === "cancelled" ? "" : "error", task.error],
    task.damage && ["warning", `Its files were damaged: ${task.damage}`],
    task.retryAt && ["", html`Its next attempt begins at <${Time} at=${task.retryAt} />.`],
  ];
  return notes.filter(Boolean).map(([kind, words]) => html`<p class="note ${kind}">${words}</p>`);
}

/** Its run time by now, pauses left out. */
function ran(task, now) {
  const span = between(task.startedAt, task.finishedAt ?? task.pausedAt, now);
  return span === null ? null : span - (task.pausedSeconds ?? 0);
}

function limited(limits) {
  if (limits.length === 0) return undefined;
  return html`<ul class="plain">${limits.map((each) => html`<li><code>${each.limit}</code> ${each.asked}: ${each.by ?? "not enforced"}${each.note && html`, <span class="soft">${each.note}</span>`}</li>`)}</ul>`;
}

export function FactSheet({ task }) {
  const now = useNow();
  const use = useUse()(task.taskId);
  const over = isFinal(task);
  const total = task.accounting ?? task.usage;
  const written = (task.output?.bytes ?? 0) + (task.stderr?.bytes ?? 0);
  const live = use && !over;
  const memory = task.accounting?.memoryPeakBytes ?? task.usage?.maxRssBytes;
  const tags = Object.entries(task.tags ?? {});
  return html`<section class="card" aria-label="Facts">
    <p class="command mono" tabindex="0" title=${summary(task.spec)}>${summary(task.spec)}</p>
    <${Facts} of=${[
      ["Progress", task.progress ? html`<${Progress} value=${task.progress} />${task.progress.percent !== null && task.progress.message && html` <span class="soft">${task.progress.message}</span>`}` : undefined],
      ["Ended", over ? ending(task) ?? UNKNOWN : undefined],
      ["Run time", task.startedAt ? duration(ran(task, now)) : undefined],
      ["Paused", task.pausedSeconds > 0 || task.pausedAt ? duration((task.pausedSeconds ?? 0) + (between(task.pausedAt, null, now) ?? 0)) : undefined],
      ["Accepted", html`<${Time} at=${task.createdAt} />`],
      ["Due", task.executeAt ? html`<${Time} at=${task.executeAt} />` : undefined],
      ["Started", task.startedAt ? html`<${Time} at=${task.startedAt} />` : undefined],
      ["Over", task.finishedAt ? html`<${Time} at=${task.finishedAt} />` : undefined],
      ["Processor now", live ? (use.cpus === null ? UNKNOWN : `${use.cpus.toFixed(2)} of a CPU`) : undefined],
      ["Memory now", live && use.rssBytes !== null ? `${bytes(use.rssBytes)} in ${count(use.processes, "process", "processes")}` : undefined],
      ["Processor in sum", total?.cpuSeconds || !live ? (total ? duration(total.cpuSeconds) : undefined) : duration(use.cpuSeconds)],
      ["Memory at most", memory ? bytes(memory) : undefined],
      ["Read, written", total && (total.readBytes ?? total.writtenBytes ?? null) !== null ? `${bytes(total.readBytes)}, ${bytes(total.writtenBytes)}` : undefined],
      ["Output", task.output ? bytes(live && use.outputBytes !== null ? use.outputBytes : written) : undefined],
      ["Entity", task.entity ? html`<a href=${`/ui/?entity=${encodeURIComponent(task.entity)}`}>${task.entity}</a>` : undefined],
      ["Batch", task.batch ? html`<a href=${`/ui/batches/${encodeURIComponent(task.batch)}`}>${task.batch}</a>` : undefined],
      ["Template", task.template ?? undefined],
      ["Alias", task.alias ?? undefined],
      ["Priority", task.priority ? String(task.priority) : undefined],
      ["Tags", tags.length ? html`<span class="row">${tags.map(([key, value]) => html`<a class="tag" href=${`/ui/?tag=${encodeURIComponent(`${key}=${value}`)}`}>${key}=${value}</a>`)}</span>` : undefined],
      ["Came in by", task.origin],
      ["User", task.userId !== null ? `number ${task.userId}` : undefined],
      ["GPUs", task.gpus?.length ? task.gpus.join(", ") : undefined],
      ["Attempt", task.attempt > 1 ? String(task.attempt) : undefined],
      ["Limits", limited(task.limits ?? [])],
    ]} />
  </section>`;
}

