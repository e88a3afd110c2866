// What was asked for, as it was.

import { html } from "../vendor/htm-preact.js";
import { Action, say } from "../core/ui.js";

export function Spec({ task }) {
  const text = JSON.stringify(task.spec, null, 2);
  const copy = async () => {
    await navigator.clipboard.writeText(text);
    say("The spec has been copied.");
  };
  return html`${navigator.clipboard && html`<${Action} act=${copy}>Copy<//>`}
    <pre class="json" tabindex="0" aria-label="Spec as JSON">${text}</pre>
    ${task.metadata && html`<h3>Metadata</h3><pre class="json" tabindex="0" aria-label="Metadata as JSON">${JSON.stringify(task.metadata, null, 2)}</pre>`}`;
}
