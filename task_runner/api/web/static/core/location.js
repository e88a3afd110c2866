// The address is the state of a page. Links stay plain links; those below /ui/ do not load the page anew.

import { useEffect, useState } from "../vendor/htm-preact.js";

const listeners = new Set();

function tell() {
  keep();
  listeners.forEach((heard) => heard());
}

window.addEventListener("popstate", tell);
document.addEventListener("click", (event) => {
  const link = event.target.closest?.("a[href]");
  const plain = event.button === 0 && !event.ctrlKey && !event.metaKey && !event.shiftKey && !event.altKey;
  if (!link || !plain || event.defaultPrevented || link.target || link.hasAttribute("download")) return;
  if (link.origin !== location.origin || !link.pathname.startsWith("/ui/")) return;
  event.preventDefault();
  go(link.pathname + link.search + link.hash);
});

/** Show another page of ours. */
export function go(address, { replace = false } = {}) {
  if (address === location.pathname + location.search + location.hash) return;
  history[replace ? "replaceState" : "pushState"](null, "", address);
  tell();
}

const shown = { path: null, search: "" };

/** The page of this path is shown from now on. */
export function shows(path) {
  shown.path = path;
  keep();
}

function keep() {
  if (location.pathname === shown.path) shown.search = location.search;
}

/** Change parameters of the address; null, "" or an empty list removes one. Without `push` there is no new entry in the history.
 *  A page that is being left, since another was asked for that is not here yet, changes nothing. */
export function setQuery(changes, { push = false } = {}) {
  if (location.pathname !== shown.path) return;
  const parameters = new URLSearchParams(location.search);
  for (const [name, value] of Object.entries(changes)) {
    parameters.delete(name);
    for (const each of Array.isArray(value) ? value : [value]) {
      if (each !== null && each !== undefined && each !== "") parameters.append(name, each);
    }
  }
  const text = parameters.toString();
  go(location.pathname + (text && `?${text}`), { replace: !push });
}

function useChanges() {
  const [, redraw] = useState(0);
  useEffect(() => {
    const heard = () => redraw((n) => n + 1);
    listeners.add(heard);
    return () => listeners.delete(heard);
  }, []);
}

/** {path, query: URLSearchParams} of the address, as it is now. */
export function useLocation() {
  useChanges();
  return { path: location.pathname, query: new URLSearchParams(location.search) };
}

/** The parameters of the page that is shown; one that is being left keeps those it had. */
export function useQuery() {
  useChanges();
  return new URLSearchParams(shown.search);
}
