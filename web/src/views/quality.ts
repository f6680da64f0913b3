/** Data quality: what round 0 of each model's latest run found, over all nodes and by node where nodes tell. */

import { path, type Row, type Value } from "../core/api.js";
import { h } from "../core/dom.js";
import { figure, text } from "../core/format.js";
import type { Place, Shown } from "../core/router.js";
import { column, numbers, table } from "../parts/table.js";
import { empty, said, section } from "../parts/texts.js";
import type { Context } from "./context.js";
import { tabs } from "./tabs.js";

export async function quality(context: Context, { names, scope }: Place): Promise<Shown> {
  const name = names["workspace"] ?? "";
  const at = path("workspaces", name) + "/data_quality";
  const { found, notices } = await context.api.getTold<Row[]>(at, scope);
  const models = [...new Set(found.map((row) => text(row["model_name"])))];
  return {
    title: `Data quality in ${name}`,
    body: h(
      "div",
      {},
      tabs(name, "quality"),
      said(notices),
      models.length === 0 && empty("No run has gathered statistics yet.", "START FEDERATED TRAINING model;"),
      models.map((model) =>
        section(
          model,
          of(
            model,
            found.filter((row) => row["model_name"] === model),
          ),
        ),
      ),
    ),
  };
}

function of(model: string, found: readonly Row[]): HTMLElement {
  return table(
    `What round 0 found for ${model}`,
    [
      column("node"),
      column("feature"),
      numbers("mean", figure),
      numbers("scale", figure),
      { name: "missing", isNumber: true, cell: (row) => told(row["missing"]) },
      { name: "outliers", isNumber: true, cell: (row) => told(row["outliers"]) },
    ],
    found.flatMap(features),
  );
}

/** A row for each input that has a statistic, or is counted. */
function features(row: Row): Row[] {
  const statistics = object(row["feature_statistics"]);
  const [missing, outliers] = [object(row["missing_values"]), object(row["outliers"])];
  const inputs = new Set([...Object.keys(statistics), ...Object.keys(missing), ...Object.keys(outliers)]);
  return [...inputs].map((feature) => ({
    node: row["node_name"] ?? "all nodes",
    feature,
    mean: object(statistics[feature])["mean"] ?? null,
    scale: object(statistics[feature])["scale"] ?? null,
    missing: missing[feature] ?? null,
    outliers: outliers[feature] ?? null,
  }));
}

function told(value: Value | undefined): string {
  return typeof value === "number" ? figure(value) : "not told";
}

function object(value: Value | undefined): Row {
  return value !== null && typeof value === "object" && !Array.isArray(value) ? (value as Row) : {};
}
