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
const HEIGHT = 380;
/** The same diagram for a phone is as high and less wide, so that names stay as large. */
const WIDE = 600;
const NARROW = 340;

export class Network {
  readonly #width = matchMedia("(max-width: 40rem)").matches ? NARROW : WIDE;
  readonly element = s("svg", { class: "network", viewBox: `0 0 ${this.#width} ${HEIGHT}`, role: "img" });
  #shown = "";

  /** Draw the nodes: rows with name and status; nothing where they are as they were. */
  update(nodes: readonly Row[]): void {
    const seen = JSON.stringify(nodes.map((node) => [node["name"], node["status"]]));
    if (seen === this.#shown) return;
    this.#shown = seen;
    const drawn = nodes.slice(0, MOST);
    this.element.setAttribute("aria-label", says(nodes));
    const centre = { x: this.#width / 2, y: HEIGHT / 2 };
    const around = (i: number) => at(centre, i, drawn.length);
    fill(
      this.element,
      drawn.map((node, i) => spoke(node, centre, around(i))),
      s(
        "g",
        { class: "coordinator" },
        s("rect", { x: centre.x - 62, y: centre.y - 22, width: 124, height: 44, rx: 8 }),
        label("coordinator", centre.x, centre.y + 5),
      ),
      drawn.map((node, i) => dot(node, around(i))),
      nodes.length > MOST && label(`and ${nodes.length - MOST} more, in the table`, centre.x, HEIGHT - 5),
    );
  }
}

interface Spot {
  readonly x: number;
  readonly y: number;
}

function at(centre: Spot, place: number, of: number): Spot {
  const angle = (2 * Math.PI * place) / of - Math.PI / 2;
  return { x: centre.x + 0.74 * centre.x * Math.cos(angle), y: centre.y + 0.74 * centre.y * Math.sin(angle) };
}

function spoke(node: Row, centre: Spot, spot: Spot): SVGElement {
  return s("line", {
    x1: centre.x,
    y1: centre.y,
    x2: spot.x,
    y2: spot.y,
    "data-state": text(node["status"]),
  });
}

function dot(node: Row, spot: Spot): SVGElement {
  const [name, status] = [text(node["name"]), text(node["status"])];
  return s(
    "g",
    { class: "node", "data-state": status, "data-node": name },
    s("circle", { cx: spot.x, cy: spot.y, r: 17 }),
    label(shape(status), spot.x, spot.y + 5, "glyph"),
    label(name.length > LONGEST ? name.slice(0, LONGEST - 1) + "…" : name, spot.x, spot.y + 33),
    label(status, spot.x, spot.y - 23, "word"),
  );
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
