// A task that is one command.

import { html, useRef } from "../vendor/htm-preact.js";
import { bodyOf } from "./fill.js";
import { faultsOf, Rest, Text, useFaultFocus, useSubmission } from "./send.js";

const SHOWN = ["shell", "command", "workingDirectory", "env", "name", "tags", "timeoutSeconds", "entity", "pools", "priority", "resources"];

const QUEUED = ["pools", "priority", "resources"];

export function CommandForm({ form, set, toJson }) {
  const element = useRef(null);
  const { submit, error, busy } = useSubmission();
  useFaultFocus(element, error);
  const text = (name, label, more) => html`<${Text} form=${form} set=${set} error=${error} name=${name} label=${label} ...${more} />`;
  const kind = (value, label) => html`<label class="inline"><input type="radio" name="kind" value=${value} checked=${form.kind === value} onChange=${() => set({ kind: value })} /> ${label}</label>`;
  return html`<form ref=${element} class="form card" noValidate onSubmit=${(event) => { event.preventDefault(); submit(() => bodyOf(form)); }}>
    <${Rest} error=${error} shown=${SHOWN} />
    <fieldset class="wide"><legend>Run</legend>
      <div class="row">${kind("shell", "a line for the shell")}${kind("command", "a program with arguments")}</div>
      ${form.kind === "shell"
        ? text("shell", "Shell line", { rows: 3, hint: html`By <code>/bin/sh -c</code>.`, placeholder: "make all && make check" })
        : text("command", "Program and arguments", { rows: 4, hint: "Each on a line of its own; no shell is involved.", placeholder: "make\nall" })}
    </fieldset>
    ${text("name", "Name", { hint: "For people." })}
    ${text("timeoutSeconds", "Time limit (seconds)", { inputmode: "decimal", hint: "Then it is stopped. Empty: no limit." })}
    ${text("env", "Environment", { rows: 3, placeholder: "NAME=value", hint: "One variable a line." })}
    ${text("tags", "Tags", { rows: 3, placeholder: "key=value", hint: "One a line; the list can be filtered by them." })}
    ${text("workingDirectory", "Working directory", { hint: "Empty: the task's own directory." })}
    ${text("entity", "Entity", { hint: "Tasks of one entity run one at a time." })}
    <details class="wide" open=${Boolean(form.pools || form.priority || form.cpus || form.memoryMb || form.gpus || QUEUED.some((name) => faultsOf(error, name).length))}><summary>Queue and resources</summary><div class="form">
      ${text("priority", "Priority", { inputmode: "numeric", hint: "-1000 to 1000; who has more starts first." })}
      ${text("pools", "Pools", { hint: "Names, with commas between." })}
      <${Text} form=${{ "resources.cpus": form.cpus }} set=${(change) => set({ cpus: change["resources.cpus"] })} error=${error} name="resources.cpus" label="CPUs" inputmode="decimal" hint="Set aside while it runs." />
      <${Text} form=${{ "resources.memoryMb": form.memoryMb }} set=${(change) => set({ memoryMb: change["resources.memoryMb"] })} error=${error} name="resources.memoryMb" label="Memory (MiB)" inputmode="numeric" hint="Set aside while it runs." />
      <${Text} form=${{ "resources.gpus": form.gpus }} set=${(change) => set({ gpus: change["resources.gpus"] })} error=${error} name="resources.gpus" label="GPUs" inputmode="numeric" />
    </div></details>
    <div class="buttons wide"><button type="button" onClick=${() => toJson(form)}>As JSON</button>
      <button class="primary" aria-busy=${busy}>${busy ? "Submitting …" : "Submit"}</button></div>
  </form>`;
}
