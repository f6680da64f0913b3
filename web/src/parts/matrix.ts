/**
 * Who took part in which round: nodes down, rounds across.
 *
 * What always holds: it is a table, each cell a shape and a word; no more than a page of rounds is in the
 * document however long the run, the latest page until the reader turns back.
 */

import type { Row } from "../core/api.js";
import { button, fill, h } from "../core/dom.js";
import { numeric, text } from "../core/format.js";
import { shape, unseen } from "./texts.js";

const PAGE = 40;
const OUTCOMES = ["received", "pending", "dropped", "refused", "rejected"];

interface Part {
  readonly outcome: string;
  readonly reason: string;
}

export class Matrix {
  readonly element = h("div", { class: "matrix" });
  readonly #body = h("div", { class: "scroll", role: "region", tabindex: 0, "aria-label": "Participation" });
  readonly #earlier = button("Earlier rounds", () => this.#turn(1));
  readonly #later = button("Later rounds", () => this.#turn(-1));
  readonly #lines = new Map<string, Map<number, Part>>();
  readonly #rounds = new Set<number>();
  /** Pages before the latest. */
  #back = 0;

  constructor() {
    this.element.append(this.#body, h("p", { class: "row" }, this.#earlier, " ", this.#later), legend());
    this.#draw();
  }

  /** Rows of round_number, node_name, outcome and reason: new ones, and others in place of what was known. */
  put(rows: readonly Row[]): void {
    for (const row of rows) {
      const round = numeric(row["round_number"]);
      if (round === null) continue;
      this.#rounds.add(round);
      const name = text(row["node_name"]);
      const line = this.#lines.get(name) ?? new Map<number, Part>();
      line.set(round, { outcome: text(row["outcome"]), reason: text(row["reason"]) });
      this.#lines.set(name, line);
    }
    this.#draw();
  }

  #turn(by: number): void {
    this.#back = Math.max(0, this.#back + by);
    this.#draw();
  }

  #draw(): void {
    const rounds = [...this.#rounds].sort((a, b) => a - b);
    const end = Math.max(0, rounds.length - this.#back * PAGE);
    const shown = rounds.slice(Math.max(0, end - PAGE), end);
    this.#earlier.disabled = end <= PAGE;
    this.#later.disabled = this.#back === 0;
    const caption =
      shown.length === 0
        ? "Participation: no round yet"
        : `Participation, rounds ${shown[0]} to ${shown.at(-1)}`;
    fill(
      this.#body,
      h(
        "table",
        {},
        h("caption", {}, caption),
        h(
          "thead",
          {},
          h(
            "tr",
            {},
            h("th", { scope: "col" }, "node"),
            shown.map((round) => h("th", { scope: "col" }, round)),
          ),
        ),
        h(
          "tbody",
          {},
          [...this.#lines]
            .sort(([a], [b]) => (a < b ? -1 : 1))
            .map(([name, line]) =>
              h(
                "tr",
                {},
                h("th", { scope: "row" }, name),
                shown.map((round) => cell(line.get(round))),
              ),
            ),
        ),
      ),
    );
  }
}

function cell(part: Part | undefined): HTMLElement {
  if (part === undefined) return h("td", {}, unseen("not asked"));
  return h(
    "td",
    { "data-state": part.outcome, title: part.reason || part.outcome },
    h("span", { "aria-hidden": "true" }, shape(part.outcome)),
    unseen(part.outcome),
  );
}

function legend(): HTMLElement {
  return h(
    "ul",
    { class: "legend" },
    OUTCOMES.map((outcome) =>
      h("li", { "data-state": outcome }, h("span", { "aria-hidden": "true" }, shape(outcome)), ` ${outcome}`),
    ),
  );
}
