// The counts of a batch, as words and as a bar.

import { html } from "../vendor/htm-preact.js";

const WAITING = ["scheduled", "pending"];

/** [[word, number], …] of a batch: all that is not 0. */
export function countsOf(batch) {
  const all = Object.entries(batch.states ?? {});
  const sum = (pairs) => pairs.reduce((total, [, n]) => total + n, 0);
  return [
    ["ok", batch.numTasksOk], ["failed", batch.numTasksFailed], ["cancelled", batch.numTasksCancelled],
    ["running", sum(all.filter(([state]) => !WAITING.includes(state)))], ["waiting", sum(all.filter(([state]) => WAITING.includes(state)))],
  ].filter(([, n]) => n > 0);
}

/** A bar of 100 parts by 8, and beside it the words: colour says nothing alone. */
export function Counts({ batch }) {
  const counts = countsOf(batch);
  const total = counts.reduce((all, [, n]) => all + n, 0);
  const words = counts.map(([word, n]) => `${n.toLocaleString("en")} ${word}`).join(", ");
  let x = 0;
  return html`<div class="batch-counts">
    <svg class="bar" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">${counts.map(([word, n]) => {
      const width = (n / total) * 100;
      const rect = html`<rect class=${word} x=${x} y="0" width=${width} height="8" />`;
      x += width;
      return rect;
    })}</svg>
    <span class="words">${counts.map(([word, n]) => html`<span class="part"><span class="swatch ${word}" aria-hidden="true"></span>${n.toLocaleString("en")} ${word}</span>`)}${!words && "no tasks"}</span>
  </div>`;
}

export function BatchBadge({ batch }) {
  const word = batch.finishedAt ? (batch.numTasksFailed ? "failed" : batch.numTasksCancelled ? "cancelled" : "succeeded") : batch.paused ? "paused" : "running";
  const title = { failed: "over, not all well", cancelled: "over, cancelled", succeeded: "over, all well" }[word] ?? (word === "paused" ? "paused" : "not over");
  return html`<span class="badge ${word}">${title}</span>`;
}
