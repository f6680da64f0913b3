/**
 * The privacy budget: what is spent, how it went, how far the rest may reach.
 *
 * What always holds: the forecast is the catalog's (estimated_remaining_rounds), and where it has none that is
 * said; the line to it joins two figures of the catalog and is no model of its own.
 */

import { path, type Row } from "../core/api.js";
import { h } from "../core/dom.js";
import { UNKNOWN, figure, numeric, optional } from "../core/format.js";
import type { Place, Shown } from "../core/router.js";
import { Curve } from "../parts/curve.js";
import { gauge } from "../parts/gauge.js";
import { column, numbers, table } from "../parts/table.js";
import { empty, facts, identifier, section, when } from "../parts/texts.js";
import type { Context } from "./context.js";
import { tabs } from "./tabs.js";

const MOST = 1_000;
const LISTED = 100;

export async function budget(context: Context, { names, scope }: Place): Promise<Shown> {
  const name = names["workspace"] ?? "";
  const at = path("workspaces", name) + "/budget";
  const [now, latest] = await Promise.all([
    context.api.get<Row>(at, scope),
    context.api.get<Row[]>(`${at}/history?limit=${MOST}`, scope),
  ]);
  const history = latest.toReversed();
  const body = h("div", {}, tabs(name, "budget"), standing(name, now));
  if (history.length > 0) {
    // Those before the latest ones are neither counted nor drawn.
    const across = history.length < MOST ? "charged rounds" : `the latest ${figure(MOST)} charged rounds`;
    const curve = new Curve(
      `Spent, by ${across}`,
      across,
      [
        { label: "ε spent", colour: "series-1" },
        { label: "budget", colour: "series-2" },
        { label: "forecast", colour: "series-1", dash: [4, 4] },
      ],
      scope,
    );
    curve.put(...points(now, history));
    body.append(section("History and forecast", curve.element), section("Charges", charges(latest)));
  }
  return { title: `Privacy budget of ${name}`, body };
}

function standing(name: string, now: Row): HTMLElement {
  const [whole, used] = [numeric(now["total_epsilon"]), numeric(now["consumed_epsilon"])];
  if (whole === null) {
    return empty(
      "This workspace has no privacy budget: answers leave its nodes without noise.",
      `ALTER FEDERATED WORKSPACE ${identifier(name)} SET (privacy_budget = …);`,
    );
  }
  const rounds = numeric(now["estimated_remaining_rounds"]);
  return section(
    "Now",
    h(
      "div",
      { class: "pair" },
      gauge(`Privacy budget of ${name}`, used ?? 0, whole),
      facts(
        ["ε of the budget", figure(whole)],
        ["ε spent by the most charged node", figure(used)],
        ["ε left", figure(now["remaining_epsilon"])],
        ["δ", figure(now["delta"])],
        ["Rounds closed", figure(now["rounds_completed"])],
        ["Rounds that the rest lasts for, as the last ones went", rounds === null ? UNKNOWN : figure(rounds)],
      ),
    ),
  );
}

function points(now: Row, history: readonly Row[]): { x: number; y: (number | null)[] }[] {
  const whole = numeric(now["total_epsilon"]);
  const spent = history.map((row, i) => ({
    x: i + 1,
    y: [numeric(row["cumulative_epsilon"]), whole, null as number | null],
  }));
  const [last, rounds, consumed] = [
    spent.at(-1),
    numeric(now["estimated_remaining_rounds"]),
    numeric(now["consumed_epsilon"]),
  ];
  if (last === undefined || rounds === null || rounds === 0 || whole === null || consumed === null)
    return spent;
  last.y[2] = consumed;
  return [...spent, { x: last.x + rounds, y: [null, whole, whole] }];
}

function charges(rows: readonly Row[]): HTMLElement {
  return table(
    rows.length < LISTED
      ? "Charged rounds, the latest first"
      : `The latest ${LISTED} charged rounds, the latest first`,
    [
      { name: "timestamp", head: "when", cell: (row) => when(row["timestamp"]) },
      column("model_name", "model"),
      numbers("round_number", figure, "round"),
      numbers("cumulative_epsilon", figure, "ε until then"),
      numbers("epsilon_per_round", figure, "ε of the round"),
      numbers("noise_multiplier", figure),
      numbers("clipping_threshold", optional),
    ],
    rows.slice(0, LISTED),
  );
}
