/**
 * The report of a model's current version: coefficients, ROC, calibration, confusion, importance.
 *
 * What always holds: a part that the catalog has not (another algorithm, a privacy budget) says why, in the
 * catalog's own words, and the others are shown.
 */

import { Problem, type Row } from "../core/api.js";
import { h } from "../core/dom.js";
import { figure, numeric, text } from "../core/format.js";
import type { Place } from "../core/router.js";
import { plane } from "../parts/plane.js";
import { bars, intervals } from "../parts/strips.js";
import { column, numbers, table, type Column } from "../parts/table.js";
import { said, section } from "../parts/texts.js";
import type { Context } from "./context.js";

type Render = (rows: readonly Row[]) => HTMLElement;

const NOT_DRAWN = { estimate: null, low: null, high: null };

const PARTS: readonly (readonly [string, string, Render])[] = [
  ["Coefficients with intervals of 95 %", "coefficients", coefficients],
  ["ROC curve", "roc", roc],
  ["Calibration", "calibration", calibration],
  ["Confusion matrix", "confusion", confusion],
  ["Importance of features", "importance", importance],
];

export async function report(context: Context, at: Place, here: string): Promise<HTMLElement[]> {
  return Promise.all(
    PARTS.map(async ([title, name, render]) => {
      try {
        const { found, notices } = await context.api.getTold<Row[]>(`${here}/${name}`, at.scope);
        return section(title, said(notices), render(found));
      } catch (error) {
        if (!(error instanceof Problem)) throw error;
        const { detail, hint } = error.document;
        return section(title, h("p", { class: "empty" }, detail, hint === undefined ? "" : ` ${hint}`));
      }
    }),
  );
}

export function coefficients(rows: readonly Row[]): HTMLElement {
  // An intercept is about where zero lies in each column: on the scale of the others it hides them.
  const isIntercept = (row: Row) => text(row["term"]).endsWith("(intercept)");
  const drawn = intervals(
    rows.map((row) =>
      isIntercept(row)
        ? NOT_DRAWN
        : {
            estimate: numeric(row["estimate"]),
            low: numeric(row["conf_low"]),
            high: numeric(row["conf_high"]),
          },
    ),
  );
  return table(
    "Coefficients with intervals of 95 %",
    [
      column("term"),
      numbers("estimate", figure),
      {
        name: "interval",
        head: "on one scale",
        cell: (row) => (isIntercept(row) ? "" : drawn[rows.indexOf(row)]),
      },
      numbers("conf_low", figure, "from"),
      numbers("conf_high", figure, "to"),
      numbers("std_error", figure, "standard error"),
      numbers("p_value", figure, "p"),
    ],
    rows,
  );
}

function roc(rows: readonly Row[]): HTMLElement {
  return plane(
    "Receiver operating characteristic",
    "false positives",
    "true positives",
    marks(rows, "fpr", "tpr"),
    true,
    asTable("Points of the ROC curve", rows, [
      // Above the first threshold, which is infinite and null in JSON, nobody is predicted positive.
      numbers("threshold", (value) => (value === null ? "∞" : figure(value))),
      numbers("fpr", figure),
      numbers("tpr", figure),
    ]),
  );
}

function calibration(rows: readonly Row[]): HTMLElement {
  return plane(
    "Calibration by tenths of probability",
    "predicted",
    "observed",
    marks(rows, "predicted", "observed"),
    false,
    asTable(
      "Calibration",
      rows,
      ["bin", "predicted", "observed", "count"].map((name) => numbers(name, figure)),
    ),
  );
}

function marks(rows: readonly Row[], x: string, y: string): { x: number; y: number }[] {
  return rows.flatMap((row) => {
    const [across, up] = [numeric(row[x]), numeric(row[y])];
    return across === null || up === null ? [] : [{ x: across, y: up }];
  });
}

function asTable(caption: string, rows: readonly Row[], columns: readonly Column[]): HTMLElement {
  return h("details", {}, h("summary", {}, "The figures as a table"), table(caption, columns, rows));
}

export function confusion(rows: readonly Row[]): HTMLElement {
  const classes = [...new Set(rows.map((row) => text(row["actual"])))];
  const counts = new Map(
    rows.map((row) => [JSON.stringify([row["predicted"], row["actual"]]), numeric(row["count"]) ?? 0]),
  );
  const most = Math.max(1, ...counts.values());
  const cell = (predicted: string, actual: string) => {
    const count = counts.get(JSON.stringify([predicted, actual])) ?? 0;
    return h("td", { class: `number shade-${Math.round((4 * count) / most)}` }, figure(count));
  };
  return h(
    "div",
    { class: "scroll", role: "region", tabindex: 0, "aria-label": "Confusion matrix" },
    h(
      "table",
      { class: "confusion" },
      h("caption", {}, "Held-out rows: their classes down, what is predicted across"),
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          h("th", { scope: "col" }, "actual"),
          classes.map((one) => h("th", { scope: "col" }, `predicted ${one}`)),
        ),
      ),
      h(
        "tbody",
        {},
        classes.map((actual) =>
          h(
            "tr",
            {},
            h("th", { scope: "row" }, actual),
            classes.map((predicted) => cell(predicted, actual)),
          ),
        ),
      ),
    ),
  );
}

function importance(rows: readonly Row[]): HTMLElement {
  const drawn = bars(rows.map((row) => numeric(row["importance"])));
  return table(
    "By how much the loss grows where a feature is shuffled",
    [
      column("feature"),
      numbers("importance", figure),
      { name: "bar", head: "on one scale", cell: (row) => drawn[rows.indexOf(row)] },
      numbers("std_error", figure, "standard error"),
    ],
    rows,
  );
}
