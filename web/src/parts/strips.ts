/**
 * One figure a row on a scale that all rows share: intervals (a forest plot) and bars.
 *
 * What always holds: the drawing is one more column of a table that has the figures, and says nothing else.
 */

import { s } from "../core/dom.js";

const WIDTH = 200;
const HEIGHT = 22;

export interface Interval {
  readonly estimate: number | null;
  readonly low: number | null;
  readonly high: number | null;
}

/** A drawing of each interval, on the scale that holds all of them and zero. */
export function intervals(all: readonly Interval[]): SVGElement[] {
  const numbers = all.flatMap((one) => [one.estimate, one.low, one.high]).filter((one) => one !== null);
  const scale = linear(Math.min(0, ...numbers), Math.max(0, ...numbers));
  return all.map((one) =>
    strip(
      s("line", { class: "zero", x1: scale(0), x2: scale(0), y1: 0, y2: HEIGHT }),
      one.low !== null &&
        one.high !== null &&
        s("line", {
          class: "interval",
          x1: scale(one.low),
          x2: scale(one.high),
          y1: HEIGHT / 2,
          y2: HEIGHT / 2,
        }),
      one.estimate !== null && s("circle", { class: "mark", cx: scale(one.estimate), cy: HEIGHT / 2, r: 4 }),
    ),
  );
}

/** A bar from zero for each value. */
export function bars(all: readonly (number | null)[]): SVGElement[] {
  const numbers = all.filter((one) => one !== null);
  const scale = linear(Math.min(0, ...numbers), Math.max(0, ...numbers));
  return all.map((one) =>
    strip(
      s("line", { class: "zero", x1: scale(0), x2: scale(0), y1: 0, y2: HEIGHT }),
      one !== null &&
        s("rect", {
          class: "bar",
          x: Math.min(scale(0), scale(one)),
          width: Math.abs(scale(one) - scale(0)),
          y: 5,
          height: HEIGHT - 10,
        }),
    ),
  );
}

function strip(...parts: (SVGElement | false)[]): SVGElement {
  return s("svg", { class: "strip", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, "aria-hidden": "true" }, parts);
}

function linear(low: number, high: number): (value: number) => number {
  const span = high - low || 1;
  return (value) => 6 + ((value - low) / span) * (WIDTH - 12);
}
