/** Experiments, and how the arms of one compare. */

import { path, type Row } from "../core/api.js";
import { h } from "../core/dom.js";
import { figure, numeric, plain, text } from "../core/format.js";
import { place, type Place, type Shown } from "../core/router.js";
import { intervals } from "../parts/strips.js";
import { column, numbers, table } from "../parts/table.js";
import { empty, link, when } from "../parts/texts.js";
import type { Context } from "./context.js";
import { trail } from "./tabs.js";

export async function experiments(context: Context, { scope }: Place): Promise<Shown> {
  const rows = await context.api.get<Row[]>(path("experiments") + "?limit=1000", scope);
  const body =
    rows.length === 0
      ? empty(
          "There is no experiment.",
          "CREATE FEDERATED EXPERIMENT name ON MODEL model VERSIONS ('a' => 0.9, 'b' => 0.1);",
        )
      : table(
          "Experiments",
          [
            {
              name: "experiment_name",
              head: "experiment",
              cell: (row) =>
                link(place("experiments", text(row["experiment_name"])), text(row["experiment_name"])),
            },
            column("workspace_name", "workspace"),
            column("model_name", "model"),
            {
              name: "arms",
              cell: (row) =>
                (row["arms"] as Row[])
                  .map((arm) => `${plain(arm["arm"])}: ${figure(arm["share"])}`)
                  .join(", "),
            },
            column("created_by", "by"),
            { name: "created_at", head: "created", cell: (row) => when(row["created_at"]) },
          ],
          rows,
        );
  return { title: "Experiments", body };
}

export async function experiment(context: Context, { names, scope }: Place): Promise<Shown> {
  const name = names["experiment"] ?? "";
  const arms = await context.api.get<Row[]>(path("experiments", name), scope);
  const drawn = intervals(
    arms.map((row) => ({
      estimate: numeric(row["difference"]),
      low: numeric(row["conf_low"]),
      high: numeric(row["conf_high"]),
    })),
  );
  return {
    title: name,
    body: h(
      "div",
      {},
      trail([place("experiments"), "Experiments"]),
      table(
        "Arms",
        [
          column("arm"),
          numbers("version", figure),
          numbers("share", figure),
          numbers("calls", figure),
          numbers("keys", figure),
          numbers("outcomes", figure),
          numbers("mean_outcome", figure),
          numbers("std_error", figure, "standard error"),
          numbers("difference", figure, "above the first arm"),
          { name: "drawn", head: "on one scale", cell: (row) => drawn[arms.indexOf(row)] },
          numbers("conf_low", figure, "from (95 %)"),
          numbers("conf_high", figure, "to (95 %)"),
          numbers("brier_score", figure),
        ],
        arms,
      ),
    ),
  };
}
