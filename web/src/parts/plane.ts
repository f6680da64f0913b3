/**
 * Shares against shares: a square from 0 to 1 both ways (ROC, calibration).
 *
 * What always holds: the diagonal is drawn, and the points are those of the rows, which a table below has too.
 */

import { h, s, type Child } from "../core/dom.js";

export interface Mark {
  readonly x: number;
  readonly y: number;
}

const SIDE = 240;
const EDGE = 44;
const TICKS = [0, 0.25, 0.5, 0.75, 1];

/** title: what is drawn; across, up: the axes. isJoined: a line through the points, else a mark for each. */
export function plane(
  title: string,
  across: string,
  up: string,
  marks: readonly Mark[],
  isJoined: boolean,
  ...below: Child[]
): HTMLElement {
  return h(
    "figure",
    { class: "plane" },
    h("figcaption", {}, title),
    s(
      "svg",
      {
        viewBox: `0 0 ${SIDE + EDGE + 12} ${SIDE + EDGE + 12}`,
        role: "img",
        "aria-label": `${title}; the table has its figures`,
      },
      grid(),
      axes(across, up),
      s("line", { class: "diagonal", x1: EDGE, y1: SIDE + 8, x2: EDGE + SIDE, y2: 8 }),
      isJoined &&
        s("polyline", {
          class: "joined",
          points: marks.map((mark) => `${px(mark.x)},${py(mark.y)}`).join(" "),
        }),
      !isJoined && marks.map((mark) => s("circle", { class: "mark", cx: px(mark.x), cy: py(mark.y), r: 5 })),
    ),
    below,
  );
}

function px(x: number): number {
  return EDGE + x * SIDE;
}

function py(y: number): number {
  return 8 + (1 - y) * SIDE;
}

function grid(): SVGElement {
  return s(
    "g",
    { class: "grid" },
    TICKS.map((tick) => [
      s("line", { x1: px(tick), x2: px(tick), y1: py(0), y2: py(1) }),
      s("line", { x1: px(0), x2: px(1), y1: py(tick), y2: py(tick) }),
      s("text", { x: px(tick), y: py(0) + 16, "text-anchor": "middle" }, tick),
      s("text", { x: px(0) - 6, y: py(tick) + 4, "text-anchor": "end" }, tick),
    ]),
  );
}

function axes(across: string, up: string): SVGElement {
  return s(
    "g",
    {},
    s("text", { x: px(0.5), y: py(0) + 34, "text-anchor": "middle" }, across),
    s("text", { x: 12, y: py(0.5), "text-anchor": "middle", transform: `rotate(-90 12 ${py(0.5)})` }, up),
  );
}
