/**
 * The nodes around the coordinator, as the coordinator last found them.
 *
 * What always holds: a state is told by shape, line and word; the diagram says nothing that the table of nodes
 * below it does not, so that who hears the page misses nothing.
 */

import type { Row } from "../core/api.js";
import { fill, s } from "../core/dom.js";
import { text } from "../core/format.js";
import { shape } from "./texts.js";

const MOST = 24;
const LONGEST = 16;
const CENTRE = { x: 300, y: 190 };
const REACH = { x: 225, y: 140 };

export class Network {
  readonly element = s("svg", { class: "network", viewBox: "0 0 600 380", role: "img" });
  #shown = "";

  /** Draw the nodes: rows with name and status; nothing where they are as they were. */
  update(nodes: readonly Row[]): void {
    const seen = JSON.stringify(nodes.map((node) => [node["name"], node["status"]]));
    if (seen === this.#shown) return;
    this.#shown = seen;
    const drawn = nodes.slice(0, MOST);
    this.element.setAttribute("aria-label", says(nodes));
    fill(this.element,
      drawn.map((node, i) => spoke(node, at(i, drawn.length))),
      s("g", { class: "coordinator" },
        s("rect", { x: CENTRE.x - 62, y: CENTRE.y - 22, width: 124, height: 44, rx: 8 }),
        label("coordinator", CENTRE.x, CENTRE.y + 5)),
      drawn.map((node, i) => dot(node, at(i, drawn.length))),
      nodes.length > MOST && label(`and ${nodes.length - MOST} more, in the table`, CENTRE.x, 375));
  }
}

interface Spot {
  readonly x: number;
  readonly y: number;
}

function at(place: number, of: number): Spot {
  const angle = (2 * Math.PI * place) / of - Math.PI / 2;
  return { x: CENTRE.x + REACH.x * Math.cos(angle), y: CENTRE.y + REACH.y * Math.sin(angle) };
}

function spoke(node: Row, spot: Spot): SVGElement {
  return s("line", { x1: CENTRE.x, y1: CENTRE.y, x2: spot.x, y2: spot.y, "data-state": text(node["status"]) });
}

function dot(node: Row, spot: Spot): SVGElement {
  const [name, status] = [text(node["name"]), text(node["status"])];
  return s("g", { class: "node", "data-state": status, "data-node": name },
    s("circle", { cx: spot.x, cy: spot.y, r: 17 }),
    label(shape(status), spot.x, spot.y + 5, "glyph"),
    label(name.length > LONGEST ? name.slice(0, LONGEST - 1) + "…" : name, spot.x, spot.y + 33),
    label(status, spot.x, spot.y - 23, "word"));
}

function label(content: string, x: number, y: number, kind?: string): SVGElement {
  return s("text", { x, y, "text-anchor": "middle", class: kind }, content);
}

function says(nodes: readonly Row[]): string {
  const counts = new Map<string, number>();
  for (const node of nodes) counts.set(text(node["status"]), (counts.get(text(node["status"])) ?? 0) + 1);
  const parts = [...counts].map(([status, count]) => `${count} ${status}`);
  return `The coordinator and its nodes: ${parts.join(", ") || "none"}. The table below names them.`;
}
