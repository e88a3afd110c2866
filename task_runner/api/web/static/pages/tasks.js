// The list of tasks.

import { html } from "../vendor/htm-preact.js";
import { KeysHelp } from "../core/keys.js";
import { useQuery } from "../core/location.js";
import { Heading, useKeys } from "../core/ui.js";
import { Counts, Filters, parametersOf } from "../tasks/filters.js";
import { LIST_KEYS, TaskList } from "../tasks/list.js";

export default function Page() {
  const query = useQuery();
  const parameters = parametersOf(query);
  useKeys({ "/": () => document.getElementById("filter-q").focus() });
  const filtered = Object.keys(parameters).length > 0;
  return html`<${Heading} title="Tasks"><${KeysHelp} keys=${[["/", "search"], ...LIST_KEYS]} /><//>
    <${Counts} query=${query} />
    <${Filters} query=${query} />
    <${TaskList} parameters=${parameters} empty=${filtered
      ? "No task fits these filters." : html`No tasks yet. <a href="/ui/submit">Make one</a>, or: <code>task-runner run -- echo hello</code>`} />`;
}
