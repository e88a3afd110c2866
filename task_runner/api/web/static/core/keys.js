// The keys of a page, shown by "?".

import { html, useEffect, useRef, useState } from "../vendor/htm-preact.js";
import { useKeys } from "./ui.js";

/** Keys that a page has, in words: [["j", "next task"], …]. Once in a page. */
export function KeysHelp({ keys }) {
  const [shown, setShown] = useState(false);
  const dialog = useRef(null);
  useKeys({ "?": () => setShown(true) });
  useEffect(() => {
    if (shown && !dialog.current.open) dialog.current.showModal();
  }, [shown]);
  const close = () => setShown(false);
  const list = (title, pairs) => html`<h3>${title}</h3><dl class="keys">${pairs.map(([key, meaning]) => html`<div><dt><kbd>${key}</kbd></dt><dd>${meaning}</dd></div>`)}</dl>`;
  return html`<button type="button" class="quiet" aria-keyshortcuts="?" onClick=${() => setShown(true)}>Keys</button>
    ${shown && html`<dialog ref=${dialog} aria-labelledby="keys-title" onClose=${close} onCancel=${close}>
      <h2 id="keys-title">Keys</h2>
      ${list("Here", keys)}
      ${list("Everywhere", [["1", "tasks"], ["2", "batches"], ["3", "timeline"], ["4", "node"], ["5", "templates"], ["6", "new task"], ["?", "these keys"]])}
      <div class="buttons"><button type="button" autofocus onClick=${close}>Close</button></div>
    </dialog>`}`;
}
