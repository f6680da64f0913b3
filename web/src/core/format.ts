/**
 * Figures as people read them.
 *
 * What always holds: what the catalog does not know is `UNKNOWN`, never a number; nothing is rounded to less
 * than four significant digits.
 */

import type { Value } from "./api.js";

export const UNKNOWN = "unknown";

const FIGURE = new Intl.NumberFormat("en", { maximumSignificantDigits: 4 });
const COUNT = new Intl.NumberFormat("en");
const TIME = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

/** A measured number: whole ones in full, others to four significant digits, very small ones with an exponent. */
export function figure(value: Value | undefined): string {
  if (typeof value !== "number" || !Number.isFinite(value)) return UNKNOWN;
  if (Number.isInteger(value)) return COUNT.format(value);
  return Math.abs(value) < 1e-4 ? Number(value.toPrecision(4)).toExponential() : FIGURE.format(value);
}

/** A figure that there need not be: not every round is evaluated. */
export function optional(value: Value | undefined): string {
  return value === null ? "none" : figure(value);
}

/** A point in time, in the reader's zone. */
export function time(value: Value | undefined): string {
  return typeof value === "string" ? TIME.format(new Date(value)) : UNKNOWN;
}

/** How long something took. */
export function seconds(value: Value | undefined): string {
  return typeof value === "number" ? `${figure(value)} s` : UNKNOWN;
}

/** Whatever it is, on one line; empty for what is not there. */
export function plain(value: Value | undefined): string {
  if (value === null || value === undefined) return "";
  if (typeof value === "number") return figure(value);
  if (typeof value === "string") return value;
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (Array.isArray(value)) return value.map((one: Value) => plain(one)).join(", ");
  return Object.entries(value)
    .map(([name, one]) => `${name}: ${plain(one)}`)
    .join("; ");
}

/** A column's name as a heading. */
export function heading(column: string): string {
  return column.replaceAll("_", " ");
}

/** The number that a cell is; null where it is none. */
export function numeric(value: Value | undefined): number | null {
  return typeof value === "number" && Number.isFinite(value) ? value : null;
}

/** The text that a cell is; empty where it is none. */
export function text(value: Value | undefined): string {
  return typeof value === "string" ? value : "";
}
