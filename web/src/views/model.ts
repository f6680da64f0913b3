/** A model: its versions, how the current one does, its runs. */

import { path, type Row, type Told } from "../core/api.js";
import { h } from "../core/dom.js";
import { figure, heading, optional, plain, text } from "../core/format.js";
import { place, type Place, type Shown } from "../core/router.js";
import { column, numbers, table } from "../parts/table.js";
import { empty, facts, identifier, said, section, when } from "../parts/texts.js";
import type { Context } from "./context.js";
import { report } from "./report.js";
import { runList } from "./runs.js";
import { trail } from "./tabs.js";

export async function model(context: Context, at: Place): Promise<Shown> {
  const [workspace, name] = [at.names["workspace"] ?? "", at.names["model"] ?? ""];
  const here = path("workspaces", workspace, "models", name);
  const [found, versions, list] = await Promise.all([
    context.api.get<Row>(here, at.scope),
    context.api.get<Row[]>(here + "/versions", at.scope),
    runList(context, at, here + "/runs?limit=100", "Its runs"),
  ]);
  const body = h("div", {}, trail([place("w", workspace), workspace]), about(found));
  if (found["current_version"] === null) {
    body.append(empty("No version predicts yet.", `START FEDERATED TRAINING ${identifier(name)};`));
  } else {
    const told = await context.api.getTold<{ metrics: Row }>(here + "/evaluate", at.scope);
    body.append(
      section("Versions", versionTable(versions, told.found.metrics)),
      h("div", { class: "report" }, figures(told), await report(context, at, here)),
    );
  }
  body.append(section("Runs", list));
  return { title: name, body };
}

function about(found: Row): HTMLElement {
  const options = (found["options"] ?? {}) as Row;
  return facts(
    ["Owner", text(found["owner"])],
    ["Created", when(found["created_at"])],
    ["Current version", optional(found["current_version"])],
    ...Object.entries(options).map(([name, value]) => [heading(name), plain(value)] as const),
  );
}

function versionTable(versions: readonly Row[], metrics: Row): HTMLElement {
  const accuracy = typeof metrics["global_rmse"] === "number" ? "R²" : "accuracy";
  return table(
    "Versions",
    [
      numbers("version", figure),
      column("tags"),
      { name: "is_current", head: "current", cell: (row) => (row["is_current"] === true ? "● current" : "") },
      numbers("round_number", figure, "round"),
      numbers("global_loss", figure, "loss"),
      numbers("global_loss_std_error", figure, "± loss"),
      numbers("global_accuracy", figure, accuracy),
      numbers("global_accuracy_std_error", figure, `± ${accuracy}`),
      {
        name: "epsilon",
        head: "ε spent",
        isNumber: true,
        cell: (row) => (row["epsilon"] === null ? "no budget" : figure(row["epsilon"])),
      },
      { name: "created_at", head: "made", cell: (row) => when(row["created_at"]) },
      { name: "retired_at", head: "retired", cell: (row) => when(row["retired_at"]) },
    ],
    versions,
  );
}

function figures({ found, notices }: Told<{ metrics: Row }>): HTMLElement {
  const rows = Object.entries(found.metrics).map(([metric, value]): Row => ({ metric, value }));
  return section(
    "On held-out rows of all nodes",
    said(notices),
    table(
      "Figures of the current version",
      [{ name: "metric", cell: (row) => heading(text(row["metric"])) }, numbers("value", figure)],
      rows,
    ),
  );
}
