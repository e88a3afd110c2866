// Who is there? A token is shown once; after that a cookie that scripts cannot read stands for it.

import { html, useState } from "../vendor/htm-preact.js";
import { beginSession, send } from "../core/http.js";
import { ErrorNote, Heading } from "../core/ui.js";

// ``undone``: what the sign-out before this has not done; it may come to be known while this is shown already, since
// any refused request can tell of the sign-out before the answer to it does. ``free()`` promises that this answer has
// come: it takes the cookie away, and must not take that of the next session
export function Login({ free, done, undone }) {
  const [token, setToken] = useState("");
  const [error, setError] = useState(null);
  const [busy, setBusy] = useState(false);
  const submit = async (event) => {
    event.preventDefault();
    setBusy(true);
    setError(null);
    try {
      await free();
      await send("POST", "/ui/login", { token: token.trim() });
      beginSession();
      setToken("");
      await done();
    } catch (failure) {
      setError(failure);
    } finally {
      setBusy(false);
    }
  };
  return html`<main class="alone">
    <${Heading} title="Sign in" />
    <form class="card stack" onSubmit=${submit}>
      <label for="token">Token</label>
      <input id="token" type="password" autocomplete="current-password" spellcheck="false" autofocus required
        aria-describedby="token-help" value=${token} onInput=${(event) => setToken(event.target.value)} />
      <p id="token-help" class="hint">The first admin token lies in the file <code>token</code> of the daemon's state directory;
        <code>task-runner token create</code> makes others.</p>
      <${ErrorNote} error=${error ?? undone} />
      <button class="primary" disabled=${busy}>Sign in</button>
    </form>
  </main>`;
}
