// Between the fields of the form and a task in JSON.

import { Faults } from "./send.js";

export const BLANK = {
  kind: "shell", shell: "", command: "", workingDirectory: "", env: "", name: "", tags: "", timeoutSeconds: "",
  entity: "", pools: "", priority: "", cpus: "", memoryMb: "", gpus: "",
};

/** The number that a text says, else the text: the daemon then says what is wrong with it. */
export function number(text) {
  const value = Number(text);
  return text.trim() === "" || Number.isNaN(value) ? text : value;
}

function pairs(text, field, faults) {
  const found = {};
  text.split("\n").forEach((line, i) => {
    if (!line.trim()) return;
    const at = line.indexOf("=");
    if (at < 1) faults.push([field, `line ${i + 1}: expected name=value`]);
    else found[line.slice(0, at).trim()] = line.slice(at + 1);
  });
  return found;
}

const filled = (object) => Object.fromEntries(Object.entries(object).filter(([, value]) => value !== "" && value !== undefined));
const some = (object) => (Object.keys(object).length ? object : undefined);

/** What stands beside the command, of any form. Throws Faults. */
export function common(form, faults = []) {
  const body = filled({
    name: form.name.trim(), entity: form.entity?.trim(), priority: form.priority && number(form.priority),
    timeoutSeconds: form.timeoutSeconds && number(form.timeoutSeconds), tags: some(pairs(form.tags, "tags", faults)),
  });
  if (faults.length) throw new Faults(faults);
  return body;
}

/** The task that the fields ask for. Throws Faults. */
export function bodyOf(form) {
  const faults = [];
  const env = pairs(form.env, "env", faults);
  const argv = form.command.split("\n").map((line) => line.replace(/\r$/, ""));
  while (argv.length && argv.at(-1) === "") argv.pop();
  if (form.kind === "shell" && !form.shell.trim()) faults.push(["shell", "what shall be run?"]);
  if (form.kind === "command" && !argv.length) faults.push(["command", "what shall be run?"]);
  const rest = common(form, faults);
  const resources = filled({ cpus: form.cpus && number(form.cpus), memoryMb: form.memoryMb && number(form.memoryMb), gpus: form.gpus && number(form.gpus) });
  return filled({
    ...(form.kind === "shell" ? { shell: form.shell } : { command: argv }),
    env: some(env), workingDirectory: form.workingDirectory.trim(), ...rest,
    pools: some(form.pools.split(",").map((each) => each.trim()).filter(Boolean)), resources: some(resources),
  });
}

const KNOWN = new Set(["actions", "name", "timeoutSeconds", "entity", "priority", "pools", "resources", "tags"]);
const OF_COMMAND = new Set(["command", "shell", "env", "workingDirectory"]);
const lines = (object) => Object.entries(object ?? {}).map(([name, value]) => `${name}=${value}`).join("\n");
const text = (value) => (value === null || value === undefined ? "" : String(value));

/** The fields for a spec; null where they cannot say all of it. */
export function formOf(spec) {
  const [action, ...others] = spec.actions ?? [];
  const parameters = action?.parameters ?? {};
  const plain = action?.machine === "process" && others.length === 0 && Object.keys(action).every((name) => name === "machine" || name === "parameters")
    && Object.keys(spec).every((name) => KNOWN.has(name)) && Object.keys(parameters).every((name) => OF_COMMAND.has(name));
  const single = [...Object.values(parameters.env ?? {}), ...Object.values(spec.tags ?? {}), ...(parameters.command ?? [])].every((value) => !value.includes("\n"));
  if (!plain || !single || parameters.command?.at(-1) === "") return null;
  return {
    ...BLANK, kind: parameters.command ? "command" : "shell", shell: text(parameters.shell), command: (parameters.command ?? []).join("\n"),
    workingDirectory: text(parameters.workingDirectory), env: lines(parameters.env), name: text(spec.name), tags: lines(spec.tags),
    timeoutSeconds: text(spec.timeoutSeconds), entity: text(spec.entity), pools: (spec.pools ?? []).join(", "), priority: text(spec.priority),
    cpus: text(spec.resources?.cpus), memoryMb: text(spec.resources?.memoryMb), gpus: text(spec.resources?.gpus),
  };
}

/** What a task asked for, to be asked for again: its alias is taken, and its time has passed. */
export function again(spec) {
  const { alias, executeAt, ...rest } = spec;
  return rest;
}

/** [line, column, message] of what is wrong with a text as JSON; null where nothing is. */
export function jsonFault(text) {
  try {
    JSON.parse(text);
    return null;
  } catch (error) {
    const place = /line (\d+) column (\d+)/.exec(error.message);
    const position = /position (\d+)/.exec(error.message);
    const before = position && text.slice(0, Number(position[1])).split("\n");
    const [line, column] = place ? [Number(place[1]), Number(place[2])] : before ? [before.length, before.at(-1).length + 1]
      : /end of/i.test(error.message) ? [text.split("\n").length, text.split("\n").at(-1).length + 1] : [null, null];
    return [line, column, error.message.replace(/^JSON\.parse: /, "").replace(/ (in JSON )?at (position|line) .*$/s, "")];
  }
}
