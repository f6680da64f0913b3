/**
 * A gauge: how much of a whole is used.
 *
 * What always holds: the figures stand beside the arc in words; more than the whole is drawn as all of it;
 * it says 100 % where nothing is left, and only there.
 */

import { h, s } from "../core/dom.js";
import { figure } from "../core/format.js";

const RADIUS = 80;
const LENGTH = Math.PI * RADIUS;
const ARC = `M 20 100 A ${RADIUS} ${RADIUS} 0 0 1 180 100`;

export function gauge(label: string, used: number, whole: number): HTMLElement {
  const share = shareOf(used, whole);
  const says = `${amount(used, whole)} of ${figure(whole)} spent`;
  const level = share >= 0.9 ? "high" : share >= 0.7 ? "middle" : "low";
  return h(
    "div",
    {
      class: "gauge",
      role: "meter",
      "aria-label": label,
      "aria-valuemin": 0,
      "aria-valuemax": whole,
      "aria-valuenow": Math.min(used, whole),
      "aria-valuetext": says,
      "data-level": level,
    },
    s(
      "svg",
      { viewBox: "0 0 200 112", "aria-hidden": "true" },
      s("path", { d: ARC, class: "whole" }),
      s("path", { d: ARC, class: "used", "stroke-dasharray": `${share * LENGTH} ${LENGTH}` }),
      s("text", { x: 100, y: 92, "text-anchor": "middle" }, percent(used, whole)),
    ),
    h("p", {}, `ε: ${says}`),
  );
}

/** Of what is spent: sums of decimal fractions are off by less than this. */
const EXACT = 1e-9;

function shareOf(used: number, whole: number): number {
  const share = whole > 0 ? Math.max(0, used / whole) : 0;
  return share > 1 - EXACT ? 1 : share;
}

/** The share in whole parts of a hundred: never all while something is left, never none while something is spent. */
export function percent(used: number, whole: number): string {
  const share = shareOf(used, whole);
  return share > 0 && share < 0.01 ? "< 1 %" : `${Math.floor(share * 100)} %`;
}

function amount(used: number, whole: number): string {
  const isRounded = figure(used) === figure(whole) && shareOf(used, whole) < 1;
  return isRounded ? "nearly all" : figure(used);
}
