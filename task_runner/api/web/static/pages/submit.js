// The form for a new task.

import { html, useEffect, useState } from "../vendor/htm-preact.js";
import { get, route } from "../core/http.js";
import { setQuery, useQuery } from "../core/location.js";
import { useMay } from "../core/session.js";
import { Tabs } from "../core/tabs.js";
import { Empty, ErrorNote, Heading } from "../core/ui.js";
import { CommandForm } from "../submit/command.js";
import { again, BLANK, bodyOf, formOf } from "../submit/fill.js";
import { RawForm } from "../submit/raw.js";
import { Faults } from "../submit/send.js";
import { TemplateForm } from "../submit/template.js";

export default function Page() {
  const may = useMay();
  const query = useQuery();
  const [form, setForm] = useState(BLANK);
  const [text, setText] = useState("");
  const [error, setError] = useState(null);
  const earlier = query.get("again");
  const all = may("submit");
  useEffect(() => {
    if (!earlier) return undefined;
    const controller = new AbortController();
    get(route`/v1/tasks/${earlier}`, {}, { signal: controller.signal }).then(({ spec }) => {
      const wanted = again(spec);
      const fields = formOf(wanted);
      if (fields) setForm(fields);
      setText(JSON.stringify(wanted, null, 2));
      setQuery({ tab: fields ? null : "json" });
    }, (failure) => controller.signal.aborted || setError(failure));
    return () => controller.abort();
  }, [earlier]);
  const toJson = (fields) => {
    try {
      setText(JSON.stringify(bodyOf(fields), null, 2));
      setError(null);
      setQuery({ tab: "json" });
    } catch (failure) {
      if (!(failure instanceof Faults)) throw failure;
      setError(failure);
    }
  };
  const tabs = all ? [["command", "Command"], ["template", "Template"], ["json", "JSON"]] : [["template", "Template"]];
  const wanted = query.get("tab") ?? (query.has("template") ? "template" : "command");
  const shown = tabs.some(([id]) => id === wanted) ? wanted : tabs[0][0];
  if (!may("submit-template")) return html`<${Heading} title="New task" /><${Empty}>Your token does not allow to submit tasks.<//>`;
  return html`<${Heading} title="New task" />
    <${ErrorNote} error=${error} />
    ${earlier && html`<p class="note">Filled in from task <a href="/ui/tasks/${earlier}" class="mono">${earlier}</a>, without its alias and its time.</p>`}
    <${Tabs} label="Ways to say it" tabs=${tabs} shown=${shown} show=${(tab) => setQuery({ tab })}>
      ${shown === "command" && html`<${CommandForm} form=${form} set=${(change) => setForm((before) => ({ ...before, ...change }))} toJson=${toJson} />`}
      ${shown === "template" && html`<${TemplateForm} chosen=${query.get("template")} />`}
      ${shown === "json" && html`<${RawForm} text=${text} set=${setText} />`}
    <//>`;
}
