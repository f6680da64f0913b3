/**
 * A workspace: its nodes on a live diagram, its models.
 *
 * What always holds: diagram and table are of the same answer; they are asked for anew while the page is seen.
 */

import { path, type Row } from "../core/api.js";
import { h } from "../core/dom.js";
import { figure, optional, seconds, text } from "../core/format.js";
import { place, type Place, type Shown } from "../core/router.js";
import { Network } from "../parts/network.js";
import { Table, column, numbers, table, type Column } from "../parts/table.js";
import { empty, facts, identifier, link, section, state, when } from "../parts/texts.js";
import { again, type Context } from "./context.js";
import { tabs } from "./tabs.js";

const NODES: readonly Column[] = [
  column("name"),
  { name: "status", cell: (row) => state(text(row["status"])) },
  { name: "connection_status", head: "connection", cell: (row) => state(text(row["connection_status"])) },
  column("failure_reason", "why"),
  numbers("rounds_participated", figure, "rounds"),
  numbers("avg_round_time_seconds", seconds, "time of a round"),
  numbers("dataset_size", figure, "rows"),
  numbers("contribution_score", figure, "contribution"),
  { name: "last_seen", cell: (row) => when(row["last_seen"]) },
  { name: "certificate_expires", cell: (row) => when(row["certificate_expires"]) },
];

export async function workspace(context: Context, { names, scope }: Place): Promise<Shown> {
  const name = names["workspace"] ?? "";
  const at = path("workspaces", name);
  const read = () =>
    Promise.all([context.api.get<Row>(at, scope), context.api.get<Row[]>(at + "/nodes?limit=1000", scope)]);
  const [[found, nodes], models] = await Promise.all([
    read(),
    context.api.get<Row[]>(at + "/models?limit=1000", scope),
  ]);
  const shown = new Nodes(name);
  const about = h("div", {});
  const show = (workspace: Row, rows: readonly Row[]) => {
    about.replaceChildren(summary(workspace));
    shown.update(rows);
  };
  show(found, nodes);
  void again(context, scope, async () => show(...(await read())));
  return {
    title: name,
    body: h(
      "div",
      {},
      tabs(name, "nodes"),
      about,
      shown.element,
      section("Models", modelTable(name, models)),
    ),
  };
}

/** The diagram and the table, or what to type where no node is registered. */
class Nodes {
  readonly element = h("section", {});
  readonly #network = new Network();
  readonly #table = new Table("Nodes", NODES);
  readonly #full = [h("h2", {}, "Nodes"), this.#network.element, this.#table.element];
  readonly #empty: HTMLElement[];

  constructor(workspace: string) {
    this.#empty = [
      h("h2", {}, "Nodes"),
      empty(
        "No node is registered here.",
        `REGISTER FEDERATED NODE 'name' IN WORKSPACE ${identifier(workspace)} WITH (endpoint = 'https://…', certificate = '…');`,
      ),
    ];
  }

  update(rows: readonly Row[]): void {
    const parts = rows.length === 0 ? this.#empty : this.#full;
    if (this.element.lastChild !== parts.at(-1)) this.element.replaceChildren(...parts);
    this.#network.update(rows);
    this.#table.update(rows);
  }
}

function summary(workspace: Row): HTMLElement {
  return facts(
    ["Status", state(text(workspace["status"]))],
    ["Owner", text(workspace["owner"])],
    ["Active nodes", `${figure(workspace["active_nodes"])} of ${figure(workspace["registered_nodes"])}`],
    ["Nodes that a run needs", figure(workspace["min_nodes_required"])],
  );
}

function modelTable(workspace: string, models: readonly Row[]): HTMLElement {
  if (models.length === 0) {
    return empty(
      "There is no model yet.",
      `CREATE FEDERATED MODEL name IN WORKSPACE ${identifier(workspace)} WITH (algorithm = 'logistic_regression', features = ['…'], target = '…');`,
    );
  }
  const option = (row: Row, name: string) => text((row["options"] as Row | null)?.[name]);
  return table(
    "Models",
    [
      { name: "name", cell: (row) => link(place("w", workspace, "m", text(row["name"])), text(row["name"])) },
      { name: "algorithm", cell: (row) => option(row, "algorithm") },
      { name: "target", cell: (row) => option(row, "target") },
      numbers("current_version", optional, "version"),
      column("owner"),
      { name: "created_at", head: "created", cell: (row) => when(row["created_at"]) },
    ],
    models,
  );
}
