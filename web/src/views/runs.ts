/** Runs: of everything, of a workspace, or of a model; the latest first. */

import { path, type Row } from "../core/api.js";
import { h } from "../core/dom.js";
import { figure, optional, text } from "../core/format.js";
import { place, type Place, type Shown } from "../core/router.js";
import { Table, column, numbers, type Column } from "../parts/table.js";
import { empty, link, state, when } from "../parts/texts.js";
import { again, type Context } from "./context.js";
import { tabs } from "./tabs.js";

const RUNS: readonly Column[] = [
  {
    name: "run",
    cell: (row) =>
      link(place("runs", text(row["run_id"])), `${text(row["model_name"])} ${figure(row["run"])}`),
  },
  { name: "status", cell: (row) => state(text(row["status"])) },
  column("workspace_name", "workspace"),
  numbers("rounds", optional),
  numbers("version", optional),
  { name: "queued_at", head: "started", cell: (row) => when(row["queued_at"]) },
  { name: "finished_at", head: "ended", cell: (row) => when(row["finished_at"]) },
  column("started_by", "by"),
  column("message"),
];

/** A table of the runs at a path, which goes on being asked for. */
export async function runList(
  context: Context,
  place: Place,
  at: string,
  caption: string,
): Promise<HTMLElement> {
  const read = () => context.api.get<Row[]>(at, place.scope);
  const shown = new Table(caption, RUNS);
  const nothing = empty("There is no run yet.", "START FEDERATED TRAINING model;");
  const whole = h("div", {});
  const show = (rows: readonly Row[]) => {
    const part = rows.length === 0 ? nothing : shown.element;
    if (whole.lastChild !== part) whole.replaceChildren(part);
    shown.update(rows);
  };
  show(await read());
  void again(context, place.scope, async () => show(await read()));
  return whole;
}

export async function runs(context: Context, at: Place): Promise<Shown> {
  return { title: "Runs", body: await runList(context, at, path("runs") + "?limit=100", "The latest runs") };
}

export async function workspaceRuns(context: Context, at: Place): Promise<Shown> {
  const name = at.names["workspace"] ?? "";
  const list = await runList(
    context,
    at,
    `${path("runs")}?limit=100&workspace=${encodeURIComponent(name)}`,
    `The latest runs in ${name}`,
  );
  return { title: `Runs in ${name}`, body: h("div", {}, tabs(name, "runs"), list) };
}
