// The containers of a task's actions.

import { html } from "../vendor/htm-preact.js";
import { bytes, duration } from "../core/format.js";
import { Facts } from "../core/ui.js";
import { ending } from "./head.js";

export const withContainer = (actions) => actions.filter((each) => each.container);

export function Containers({ actions }) {
  return withContainer(actions).map(({ index, container }) => html`<h3>Action ${index + 1}</h3><${Facts} of=${[
    ["Engine", container.engine],
    ["Image", container.image],
    ["Image that was run", container.imageId ?? undefined],
    ["Name", container.name],
    ["Id", container.id ?? undefined],
    ["Stage", container.stage ?? undefined],
    ["Ended", ending(container) ?? undefined],
    ["Error", container.error ?? undefined],
    ["Output", container.outputNote ?? undefined],
    ["Processor in sum", container.accounting ? duration(container.accounting.cpuSeconds) : undefined],
    ["Memory at most", container.accounting ? bytes(container.accounting.memoryPeakBytes) : undefined],
  ]} />`);
}
