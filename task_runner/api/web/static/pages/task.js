// The page of one task.

import { html, useEffect, useState } from "../vendor/htm-preact.js";
import { setQuery, useQuery } from "../core/location.js";
import { KeysHelp } from "../core/keys.js";
import { useMay } from "../core/session.js";
import { ErrorNote, Heading, StateBadge, useKeys } from "../core/ui.js";
import { Actions } from "../task/actions.js";
import { Attempts, useAttempt } from "../task/attempts.js";
import { Containers, withContainer } from "../task/container.js";
import { Controls, stop } from "../task/control.js";
import { Explain } from "../task/explain.js";
import { Files } from "../task/files.js";
import { FactSheet, Id, Why } from "../task/head.js";
import { History } from "../task/history.js";
import { isFinal, useTask } from "../task/live.js";
import { Log } from "../task/log.js";
import { Receipt } from "../task/receipt.js";
import { Spec } from "../task/spec.js";

const KEYS = [
  ["f", "follow the log, or stay"],
  ["/", "search the log"],
  ["n / N", "next, previous match"],
  ["w", "wrap lines"],
  ["g / G", "top, end of the log"],
  ["s", "stop the task"],
];

/** The parts below the log: name, title, what is shown. */
function sections({ task, changes, attempt, actions, may }) {
  return [
    ["explain", "Explain", () => html`<${Explain} task=${task} changes=${changes} />`],
    may("logs") && ["files", "Files", () => html`<${Files} task=${task} />`],
    (task.receipt || task.stopRequested) && ["receipt", "Receipt of the stop", () => html`<${Receipt} task=${task} />`],
    task.attempts.length > 0 && ["attempts", "Attempts", () => html`<${Attempts} task=${task} attempt=${attempt} />`],
    withContainer(actions ?? []).length > 0 && ["container", "Container", () => html`<${Containers} actions=${actions} />`],
    ["events", "Events", () => html`<${History} task=${task} />`],
    ["spec", "Spec", () => html`<${Spec} task=${task} />`],
  ].filter(Boolean);
}

function Sections(properties) {
  const query = useQuery();
  const all = sections(properties);
  const [name, title, show] = all.find(([each]) => each === query.get("tab")) ?? all[0];
  const choose = (each) => setQuery({ tab: each, folder: null });
  const pressed = (event) => {
    const way = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!way) return;
    const next = all.at((all.findIndex(([each]) => each === name) + way) % all.length)[0];
    choose(next);
    event.currentTarget.querySelector(`[data-tab="${next}"]`).focus();
  };
  return html`<section class="card" aria-label="More about the task">
    <div role="tablist" aria-label="More about the task" onKeyDown=${pressed}>${all.map(([each, label]) => html`
      <button type="button" role="tab" id=${`tab-${each}`} key=${each} data-tab=${each} aria-selected=${String(each === name)} aria-controls="tab-panel"
        tabindex=${each === name ? 0 : -1} onClick=${() => choose(each)}>${label}</button>`)}</div>
    <div role="tabpanel" id="tab-panel" aria-labelledby=${`tab-${name}`} key=${name}>${show()}</div>
  </section>`;
}

export default function Page({ id }) {
  const { value: task, error, reload, changes } = useTask(id);
  const [refusal, setRefusal] = useState(null);
  const { attempt, actions } = useAttempt(task);
  const may = useMay();
  // the answer to a request says how the task was then, and may come later than news of what has become of it since
  const changed = () => reload();
  const askStop = async () => {
    if (!task || isFinal(task) || !may("control")) return;
    try {
      if (await stop(task)) changed();
    } catch (failure) {
      setRefusal(failure);
    }
  };
  useKeys({ s: askStop });
  useEffect(() => setRefusal(null), [task?.state]);
  if (!task) return html`<${Heading} title=${`Task ${id}`} /><${ErrorNote} error=${error} />`;
  return html`<div class="task">
    <${Heading} title=${task.name ?? `Task ${task.taskId}`}><${StateBadge} task=${task} /><${Id} task=${task} /><${KeysHelp} keys=${KEYS} /><//>
    <div class="row controls"><${Controls} task=${task} changed=${changed} onError=${setRefusal} /></div>
    <${ErrorNote} error=${refusal ?? (error?.status ? error : null)} />
    <${Why} task=${task} />
    <${FactSheet} task=${task} />
    ${actions && html`<${Actions} task=${task} actions=${actions} attempt=${attempt} />`}
    ${attempt !== task.attempt && html`<p class="note">This is attempt ${attempt} of ${task.attempt}. <button type="button" onClick=${() => setQuery({ attempt: null, action: null, at: null }, { push: true })}>Show the last</button></p>`}
    ${actions && (may("logs") ? html`<${Log} key=${attempt} task=${task} attempt=${attempt} actions=${actions} />` : html`<p class="note">To see what it writes, a token needs the scope "logs".</p>`)}
    <${Sections} ...${{ task, changes, attempt, actions, may }} />
  </div>`;
}
