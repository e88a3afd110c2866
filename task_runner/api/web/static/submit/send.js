// Sending a form: what was refused is told at its field, and what was sent twice makes one task.

import { html, useEffect, useRef, useState } from "../vendor/htm-preact.js";
import { ApiError, NoContact, send } from "../core/http.js";
import { go } from "../core/location.js";
import { ErrorNote, say } from "../core/ui.js";

/** 128 random bits; crypto.randomUUID is not there on a page without TLS */
function newKey() {
  return `ui-${[...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}

/** Faults that the page itself sees, in the shape of the daemon's: [["env", "line 2: expected NAME=value"], …] */
export class Faults extends ApiError {
  constructor(faults) {
    super(400, { detail: "This cannot be sent yet.", errors: faults.map(([field, message]) => ({ field, message })) });
  }
}

/** {submit(body), error, busy}. After success the task's page is shown, unless another page was asked for meanwhile. The
 *  key belongs to the content: the same content, sent again after a lost connection or by a second click, gets the task
 *  that the first one made. */
export function useSubmission() {
  const [state, setState] = useState({ error: null, busy: false });
  const last = useRef({ text: null, key: null });
  const busy = useRef(false);
  const submit = async (make) => {
    if (busy.current) return;
    busy.current = true;
    setState({ error: null, busy: true });
    const here = location.pathname;
    try {
      const body = make();
      const text = JSON.stringify(body);
      if (last.current.text !== text) last.current = { text, key: newKey() };
      const task = await send("POST", "/v1/tasks", body, { headers: { "Idempotency-Key": last.current.key } });
      if (location.pathname === here) go(`/ui/tasks/${task.taskId}`);
      else say(`Task ${task.name ?? task.taskId} is accepted.`); // who has gone on meanwhile is not called back
    } catch (error) {
      const lost = error instanceof NoContact;
      setState({ error: lost ? new Error("No answer from the daemon. Submit again: if it has the task already, no second one is made.") : error, busy: false });
    } finally {
      busy.current = false;
    }
  };
  return { submit, ...state };
}

/** Messages for a field: those of its own, and of what is inside it. */
export function faultsOf(error, name) {
  if (!(error instanceof ApiError)) return [];
  return error.fields
    .filter(({ field }) => field === name || field.startsWith(`${name}.`))
    .map(({ field, message }) => (field === name ? message : `${field.slice(name.length + 1)}: ${message}`));
}

/** What was refused and belongs to no field that is shown. */
export function Rest({ error, shown }) {
  if (!(error instanceof ApiError) || !error.fields.length) return html`<${ErrorNote} error=${error} />`;
  const here = (field) => shown.some((name) => field === name || field.startsWith(`${name}.`));
  const rest = error.fields.filter(({ field }) => !here(field));
  const told = rest.length ? rest.map(({ field, message }) => (field ? `${field}: ${message}` : message)).join("; ") : "Some fields need another value.";
  return html`<${ErrorNote} error=${new Error(told)} />`;
}

/** Put the focus on the first field at fault. */
export function useFaultFocus(form, error) {
  useEffect(() => {
    if (error) form.current?.querySelector('[aria-invalid="true"]')?.focus();
  }, [error]);
}

/** A label, a control (`children` is a function of its attributes), a hint, and what is wrong. */
export function Field({ name, label, hint, error, children, wide }) {
  const faults = faultsOf(error, name);
  const id = `field-${name.replaceAll(".", "-")}`;
  const described = [hint && `${id}-hint`, faults.length && `${id}-wrong`].filter(Boolean).join(" ");
  return html`<div class="field ${wide ? "wide" : ""}">
    <label for=${id}>${label}</label>
    ${children({ id, "aria-invalid": faults.length > 0 ? "true" : undefined, "aria-describedby": described || undefined })}
    ${hint && html`<p class="hint" id="${id}-hint">${hint}</p>`}
    ${faults.length > 0 && html`<p class="wrong" id="${id}-wrong">${faults.join("; ")}</p>`}
  </div>`;
}

/** A field for a line of text, or with `rows` for several. */
export function Text({ form, set, name, rows, type = "text", ...more }) {
  const { label, hint, error, wide, ...rest } = more;
  return html`<${Field} name=${name} label=${label} hint=${hint} error=${error} wide=${wide}>${(attributes) => {
    const common = { ...attributes, ...rest, value: form[name], spellcheck: false, autocomplete: "off", onInput: (event) => set({ [name]: event.target.value }) };
    return rows ? html`<textarea rows=${rows} ...${common}></textarea>` : html`<input type=${type} ...${common} />`;
  }}<//>`;
}
