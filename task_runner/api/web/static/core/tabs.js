// Tabs: the arrow keys move among them, and the address says which is shown.

import { html, useRef } from "../vendor/htm-preact.js";

/** tabs: [[id, title], …]. The panel of the one that is shown is `children`. */
export function Tabs({ label, tabs, shown, show, children }) {
  const list = useRef(null);
  const move = (event) => {
    const at = tabs.findIndex(([id]) => id === shown);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: tabs.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    const next = (to + tabs.length) % tabs.length;
    show(tabs[next][0]);
    list.current.querySelectorAll('[role="tab"]')[next].focus();
  };
  return html`<div role="tablist" aria-label=${label} ref=${list} onKeyDown=${move}>
      ${tabs.map(([id, title]) => html`<button type="button" role="tab" id="tab-${id}" aria-selected=${id === shown} aria-controls="panel-${id}"
        tabindex=${id === shown ? 0 : -1} onClick=${() => show(id)}>${title}</button>`)}
    </div>
    <div role="tabpanel" id="panel-${shown}" aria-labelledby="tab-${shown}">${children}</div>`;
}
