/**
 * A gauge: how much of a whole is used.
 *
 * What always holds: the figures stand beside the arc in words; more than the whole is drawn as all of it.
 */

import { h, s } from "../core/dom.js";
import { figure } from "../core/format.js";

const RADIUS = 80;
const LENGTH = Math.PI * RADIUS;
const ARC = `M 20 100 A ${RADIUS} ${RADIUS} 0 0 1 180 100`;

export function gauge(label: string, used: number, whole: number): HTMLElement {
  const share = whole > 0 ? Math.min(1, Math.max(0, used / whole)) : 0;
  const says = `${figure(used)} of ${figure(whole)} spent`;
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
      s("text", { x: 100, y: 92, "text-anchor": "middle" }, `${Math.round(share * 100)} %`),
    ),
    h("p", {}, `ε: ${says}`),
  );
}
