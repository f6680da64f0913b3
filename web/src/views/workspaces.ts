/** Every workspace, and whether a run could begin in it. */

import { path, type Row } from "../core/api.js";
import { h } from "../core/dom.js";
import { figure, text } from "../core/format.js";
import { place, type Place, type Shown } from "../core/router.js";
import { table } from "../parts/table.js";
import { empty, link, state, when } from "../parts/texts.js";
import type { Context } from "./context.js";

export async function workspaces(context: Context, { scope }: Place): Promise<Shown> {
  const rows = await context.api.get<Row[]>(path("workspaces") + "?limit=1000", scope);
  const body =
    rows.length === 0
      ? empty("There is no workspace yet.", "CREATE FEDERATED WORKSPACE name WITH (min_nodes = 3);")
      : table(
          "Workspaces",
          [
            { name: "name", cell: (row) => link(place("w", text(row["name"])), text(row["name"])) },
            { name: "status", cell: (row) => state(text(row["status"])) },
            {
              name: "nodes",
              isNumber: true,
              head: "active nodes",
              cell: (row) => `${figure(row["active_nodes"])} of ${figure(row["registered_nodes"])}`,
            },
            { name: "min_nodes_required", isNumber: true, head: "needed" },
            { name: "owner" },
            { name: "created_at", head: "created", cell: (row) => when(row["created_at"]) },
          ],
          rows,
        );
  return { title: "Workspaces", body: h("div", {}, body) };
}
