// The frame around the pages: who is signed in, where one can go, and which page the address means.

import { html, render, useEffect, useRef, useState } from "./vendor/htm-preact.js";
import { useConnected } from "./core/events.js";
import { ApiError, get, onSignedOut, send } from "./core/http.js";
import { go, shows, useLocation } from "./core/location.js";
import { Session } from "./core/session.js";
import { Announcer, Confirmation, Empty, ErrorNote, Heading, pageChanges, say, useKeys } from "./core/ui.js";
import { Login } from "./pages/login.js";

// each page is loaded when it is first shown
const PAGES = [
  [/^\/ui\/$/, () => import("./pages/tasks.js")],
  [/^\/ui\/tasks\/([^/]+)$/, () => import("./pages/task.js")],
  [/^\/ui\/submit$/, () => import("./pages/submit.js")],
  [/^\/ui\/batches$/, () => import("./pages/batches.js")],
  [/^\/ui\/batches\/([^/]+)$/, () => import("./pages/batch.js")],
  [/^\/ui\/timeline$/, () => import("./pages/timeline.js")],
  [/^\/ui\/node$/, () => import("./pages/node.js")],
  [/^\/ui\/templates$/, () => import("./pages/templates.js")],
];

const NAVIGATION = [
  ["/ui/", "Tasks", "1"],
  ["/ui/batches", "Batches", "2"],
  ["/ui/timeline", "Timeline", "3"],
  ["/ui/node", "Node", "4"],
  ["/ui/templates", "Templates", "5"],
  ["/ui/submit", "New task", "6"],
];

function Page({ path }) {
  const [page, setPage] = useState({ path: null });
  useEffect(() => {
    let left = false;
    const found = PAGES.find(([pattern]) => pattern.test(path));
    if (!found) {
      setPage({ path, missing: true });
      return undefined;
    }
    const [, id] = found[0].exec(path);
    found[1]().then(
      (module) => {
        if (left) return;
        shows(path);
        setPage({ path, component: module.default, id: id && decodeURIComponent(id) });
      },
      () => left || setPage({ path, error: new Error("this part of the page could not be loaded: is the daemon there?") }),
    );
    return () => { left = true; };
  }, [path]);
  if (page.error) return html`<${ErrorNote} error=${page.error} />`;
  if (page.missing) return html`<${Heading} title="Nothing here" /><${Empty}>There is no page at ${path}.<//>`;
  return page.component ? html`<${page.component} key=${page.path} id=${page.id} />` : null;
}

function Contact() {
  const connected = useConnected();
  if (connected !== false) return null;
  return html`<p class="note contact" role="status">No contact with the daemon, trying again. Tasks run on meanwhile.</p>`;
}

function Frame({ session, path, signOut }) {
  const main = useRef(null);
  const first = useRef(true);
  useEffect(() => {
    if (!first.current) pageChanges();
    first.current = false;
  }, [path]);
  useKeys(Object.fromEntries(NAVIGATION.map(([address, , key]) => [key, () => go(address)])));
  const current = (address) => (address === "/ui/" ? path === "/ui/" || path.startsWith("/ui/tasks/") : path.startsWith(address));
  return html`<a class="skip" href="#main" onClick=${(event) => { event.preventDefault(); main.current.focus(); }}>To the content</a>
    <header class="top">
      <a class="brand" href="/ui/">Task Runner</a>
      <nav aria-label="Pages">${NAVIGATION.map(([address, title, key]) => html`
        <a href=${address} aria-current=${current(address) ? "page" : undefined} aria-keyshortcuts=${key} title="key: ${key}">${title}</a>`)}
      </nav>
      <div class="who">
        <a href="/docs" target="_blank">API</a>
        ${session.free ? html`<span>no token needed</span>` : html`<span>${session.name}</span> <button type="button" class="quiet" onClick=${signOut}>Sign out</button>`}
      </div>
    </header>
    <main id="main" ref=${main} tabindex="-1"><${Contact} /><${Page} path=${path} /></main>`;
}

function App() {
  const { path, query } = useLocation();
  const [session, setSession] = useState(null); // null: not known yet; false: nobody
  const [error, setError] = useState(null);
  const look = () => get("/ui/session").then(
    (found) => { setError(null); setSession(found); },
    (failure) => (failure instanceof ApiError && failure.status === 401 ? setSession(false) : setError(failure)),
  );
  useEffect(() => { look(); return onSignedOut(() => setSession(false)); }, []);
  useEffect(() => {
    if (!error) return undefined;
    const timer = setTimeout(look, 2000);
    return () => clearTimeout(timer);
  }, [error]);
  const [undone, setUndone] = useState(null); // what a sign-out has not done
  const leaving = useRef(null); // the sign-out that is under way
  const leave = async () => {
    setUndone(null);
    try {
      await send("POST", "/ui/logout");
    } catch (failure) {
      if (!(failure instanceof ApiError && failure.status === 507)) return say(failure.message);
      setUndone(failure);
    }
    setSession(false);
  };
  const signOut = () => { leaving.current = leave(); };
  const signedIn = async () => {
    setUndone(null);
    await look();
    if (location.pathname !== "/ui/login") return; // as it is now: who has gone on meanwhile is not called back
    // only a path of this daemon: nobody is sent elsewhere by a crafted link
    const next = new URL(query.get("next") || "/ui/", location.origin);
    if (next.origin !== location.origin) go("/ui/", { replace: true });
    else if (next.pathname.startsWith("/ui/")) go(next.pathname + next.search, { replace: true });
    else location.assign(next.href); // the path alone could be "//elsewhere"
  };
  useEffect(() => { if (session && path === "/ui/login") signedIn(); }, [session, path]);
  if (session === null) return html`<main class="alone"><${ErrorNote} error=${error} /></main>`;
  if (session === false) return html`<${Login} free=${() => leaving.current} done=${signedIn} undone=${undone} />`;
  return html`<${Session.Provider} value=${session}><${Frame} session=${session} path=${path} signOut=${signOut} /><${Confirmation} /><${Announcer} /><//>`;
}

render(html`<${App} />`, document.getElementById("app"));
