/** Lists of a workspace: alerts and breaches, erasures, the audit log; the latest first. */

import { path, type Row } from "../core/api.js";
import { button, h } from "../core/dom.js";
import { plain, text } from "../core/format.js";
import type { Place, Shown } from "../core/router.js";
import { Table, column, table, type Column } from "../parts/table.js";
import { empty, identifier, state, when } from "../parts/texts.js";
import { again, type Context } from "./context.js";
import { tabs } from "./tabs.js";

const PAGE = 100;

function at(name: string, head: string): Column {
  return { name, head, cell: (row) => when(row[name]) };
}

const ALERTS: readonly Column[] = [
  column("alert_name", "alert"),
  column("kind"),
  { name: "status", cell: (row) => state(text(row["status"])) },
  column("conditions"),
  at("fired_at", "fired"),
  { name: "observed", cell: (row) => plain(row["observed"]) },
  column("target"),
  at("delivered_at", "delivered"),
  column("failure"),
];

const ERASURES: readonly Column[] = [
  { name: "request_id", head: "request", cell: (row) => h("code", {}, text(row["request_id"]).slice(0, 8)) },
  { name: "status", cell: (row) => state(text(row["status"])) },
  column("model_name", "model"),
  at("requested_at", "asked"),
  at("deadline", "until"),
  column("node_name", "node"),
  column("node_state", "there"),
  column("method"),
  column("exactness"),
  at("completed_at", "done"),
  column("message"),
];

const AUDIT: readonly Column[] = [
  { name: "recorded_at", head: "when", cell: (row) => when(row["recorded_at"]) },
  { name: "acting_role", head: "who", cell: (row) => text(row["acting_role"]) || text(row["session_role"]) },
  column("action"),
  column("object_kind", "kind"),
  column("object_name", "name"),
  {
    name: "details",
    cell: (row) =>
      h("details", {}, h("summary", {}, "details"), h("pre", {}, JSON.stringify(row["details"], null, 1))),
  },
  { name: "chain_position", head: "entry", isNumber: true },
  { name: "hash", cell: (row) => h("code", { title: text(row["hash"]) }, text(row["hash"]).slice(0, 12)) },
];

export async function alerts(context: Context, { names, scope }: Place): Promise<Shown> {
  const name = names["workspace"] ?? "";
  const read = () => context.api.get<Row[]>(`${path("workspaces", name)}/alerts?limit=${PAGE}`, scope);
  const rows = await read();
  const shown = new Table("Alerts and breaches", ALERTS, rows);
  void again(context, scope, async () => shown.update(await read()));
  return {
    title: `Alerts of ${name}`,
    body: h(
      "div",
      {},
      tabs(name, "alerts"),
      rows.length > 0
        ? shown.element
        : empty(
            "There is no alert, and no breach was seen.",
            `CREATE FEDERATED ALERT name ON WORKSPACE ${identifier(name)} WHEN active_nodes < 3 NOTIFY '…';`,
          ),
    ),
  };
}

export async function erasures(context: Context, { names, scope }: Place): Promise<Shown> {
  const name = names["workspace"] ?? "";
  const rows = await context.api.get<Row[]>(`${path("workspaces", name)}/erasures?limit=1000`, scope);
  return {
    title: `Erasures in ${name}`,
    body: h(
      "div",
      {},
      tabs(name, "erasures"),
      rows.length > 0
        ? table("Requests for erasure, by node", ERASURES, rows)
        : empty(
            "Nobody has been erased.",
            "DELETE FROM FEDERATED TRAINING model WHERE data_subject_id = '…';",
          ),
    ),
  };
}

export async function audit(context: Context, { names, scope }: Place): Promise<Shown> {
  const name = names["workspace"] ?? "";
  const read = (offset: number) =>
    context.api.get<Row[]>(`${path("workspaces", name)}/audit?limit=${PAGE}&offset=${offset}`, scope);
  const rows = await read(0);
  const shown = new Table("Audit log, the latest first", AUDIT, rows);
  const more = button(
    "Earlier entries",
    () => {
      more.disabled = true;
      read(rows.length).then(
        (next) => {
          rows.push(...next);
          shown.update(rows);
          more.disabled = next.length < PAGE;
          context.announce(`${rows.length} entries are shown.`);
        },
        (error: unknown) => context.fail(error),
      );
    },
    { disabled: rows.length < PAGE },
  );
  return {
    title: `Audit log of ${name}`,
    body: h("div", {}, tabs(name, "audit"), shown.element, h("p", {}, more)),
  };
}
