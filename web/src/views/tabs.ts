/** The views of one workspace, and of one model, as a navigation each. */

import { h } from "../core/dom.js";
import { place } from "../core/router.js";
import { link } from "../parts/texts.js";

const OF_WORKSPACE = [
  ["nodes", "Nodes and models"],
  ["runs", "Runs"],
  ["budget", "Privacy budget"],
  ["quality", "Data quality"],
  ["alerts", "Alerts"],
  ["erasures", "Erasures"],
  ["audit", "Audit log"],
] as const;

export function tabs(workspace: string, current: (typeof OF_WORKSPACE)[number][0]): HTMLElement {
  return h(
    "nav",
    { class: "tabs", "aria-label": `Of workspace ${workspace}` },
    h(
      "ul",
      {},
      OF_WORKSPACE.map(([name, label]) =>
        h(
          "li",
          {},
          link(
            name === "nodes" ? place("w", workspace) : place("w", workspace, name),
            label,
            name === current,
          ),
        ),
      ),
    ),
  );
}

/** Where one is: workspace, then what is below it. */
export function trail(...links: readonly (readonly [string, string])[]): HTMLElement {
  return h(
    "nav",
    { class: "trail", "aria-label": "Where this is" },
    h(
      "ol",
      {},
      links.map(([to, label]) => h("li", {}, link(to, label))),
    ),
  );
}
