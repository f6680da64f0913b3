/**
 * One run: loss and accuracy by round, and who took part; it grows while the run goes on.
 *
 * What always holds: a round is drawn when its event comes, from the event; what the catalog has besides
 * (standard errors, participation, how it stands) is asked for after it, once at a time however fast rounds
 * are, and no event takes the place of what was read.
 */

import { path, type Row } from "../core/api.js";
import { h } from "../core/dom.js";
import { figure, numeric, optional, seconds, text } from "../core/format.js";
import { place, type Place, type Shown } from "../core/router.js";
import { isOver, type Scope } from "../core/scope.js";
import { followRun, type RunEvent } from "../core/stream.js";
import { Curve, pointOf } from "../parts/curve.js";
import { Matrix } from "../parts/matrix.js";
import { Table, column, numbers } from "../parts/table.js";
import { facts, section, state, when } from "../parts/texts.js";
import type { Context } from "./context.js";
import { trail } from "./tabs.js";

const MOST = 10_000;
const LAST_ROUNDS = 20;
const ANNOUNCE_EVERY = 5_000;
const READ_EVERY = 1_000;

export async function run(context: Context, { names, scope }: Place): Promise<Shown> {
  const id = names["run"] ?? "";
  const at = path("runs", id);
  const [found, rounds] = await Promise.all([
    context.api.get<Row>(at, scope),
    context.api.get<Row[]>(`${at}/rounds?limit=${MOST}`, scope),
  ]);
  const shown = new RunView(context, scope, at);
  shown.show(found, rounds);
  followRun(id, scope, shown);
  const [workspace, model] = [text(found["workspace_name"]), text(found["model_name"])];
  const title = `Run ${figure(found["run"])} of ${model}`;
  return {
    title,
    body: h(
      "div",
      {},
      trail([place("w", workspace), workspace], [place("w", workspace, "m", model), model]),
      shown.element,
    ),
  };
}

interface Kind {
  readonly title: string;
  readonly label: string;
}

const ACCURACY: Kind = { title: "Accuracy", label: "accuracy" };
const R_SQUARED: Kind = { title: "R²", label: "R²" };

/** What accuracy is: R² where the loss has a root in the target's units; null where a round does not tell. */
function kindOf(round: Row): Kind | null {
  if (typeof round["global_rmse"] === "number") return R_SQUARED;
  return round["global_loss"] === null || round["global_accuracy"] === null ? null : ACCURACY;
}

/** An event's figures as a round has them. */
function figuresOf(event: RunEvent): Row {
  return {
    round_number: event.round_number,
    global_loss: event.details["loss"] ?? null,
    global_accuracy: event.details["accuracy"] ?? null,
  };
}

function roundTable(accuracy: string): Table {
  return new Table(`The last ${LAST_ROUNDS} rounds`, [
    numbers("round_number", figure, "round"),
    { name: "status", cell: (row) => state(text(row["status"])) },
    numbers("global_loss", optional, "loss"),
    numbers("global_loss_std_error", optional, "± loss"),
    numbers("global_accuracy", optional, accuracy),
    numbers("global_accuracy_std_error", optional, `± ${accuracy}`),
    numbers("participating_nodes", figure, "nodes"),
    numbers("dropped_nodes", figure, "dropped"),
    numbers("round_duration_seconds", seconds, "took"),
    numbers("communication_mb", figure, "MB"),
    column("message"),
  ]);
}

class RunView {
  readonly element = h("div", {});
  readonly #loss: Curve;
  /** What accuracy is of this run, and its curve: known with the first round that was evaluated. */
  #kind: Kind | null = null;
  #accuracy: Curve | null = null;
  readonly #matrix = new Matrix();
  readonly #about = h("div", {});
  readonly #live = h("p", { class: "live" });
  readonly #curves = h("div", { class: "pair" });
  #rounds = roundTable("accuracy or R²");
  #isReading = false;
  #isStale = false;
  #announced = 0;
  /** The last round whose figures were read. */
  #known = -1;
  /** How many rows of participation are of rounds that are over. */
  #settled = 0;

  constructor(
    private readonly context: Context,
    private readonly scope: Scope,
    private readonly at: string,
  ) {
    this.#loss = new Curve("Loss", "round", [{ label: "loss", colour: "series-1", band: "band-1" }], scope);
    this.#curves.append(this.#loss.element);
    this.element.append(
      this.#about,
      this.#live,
      section("Curves", this.#curves),
      section("Participation", this.#matrix.element),
      section("Rounds", this.#rounds.element),
    );
  }

  show(run: Row, rounds: readonly Row[]): void {
    this.#about.replaceChildren(
      facts(
        ["Status", state(text(run["status"]))],
        ["Started", when(run["queued_at"])],
        ["Ended", run["finished_at"] === null ? "not yet" : when(run["finished_at"])],
        ["By", text(run["started_by"])],
        ["Version", optional(run["version"])],
        ["Message", text(run["message"]) || "none"],
      ),
    );
    this.#name(rounds);
    for (const row of rounds) this.#put(row);
    this.#rounds.update(rounds.slice(-LAST_ROUNDS).reverse());
  }

  onEvent(event: RunEvent): void {
    if (event.kind === "round.closed") {
      if ((event.round_number ?? 0) > this.#known) this.#draw(figuresOf(event));
      this.element.dataset["round"] = String(event.round_number);
      this.#say(event);
    }
    this.#readSoon();
  }

  onState(now: "live" | "away"): void {
    this.#live.textContent =
      now === "live"
        ? "● Live: rounds appear as they are closed."
        : "○ The connection is lost; trying again.";
    // A stream does not say why it was refused: a call does, such as that the session is over.
    if (now === "away") this.#readSoon();
  }

  onOver(): void {
    this.#live.textContent = "■ This run is over.";
    this.#settled = 0;
    this.context.announce("The run is over.");
    this.#readSoon();
  }

  /** Say what accuracy is, as soon as a round tells it. */
  #name(rounds: readonly Row[]): void {
    if (this.#kind !== null) return;
    const kind = rounds.map(kindOf).find((one) => one !== null);
    if (kind === undefined) return;
    this.#kind = kind;
    const line = { label: kind.label, colour: "series-2", band: "band-2" };
    this.#accuracy = new Curve(kind.title, "round", [line], this.scope);
    this.#curves.append(this.#accuracy.element);
    const table = roundTable(kind.label);
    this.#rounds.element.replaceWith(table.element);
    this.#rounds = table;
  }

  #put(row: Row): void {
    if (this.#draw(row)) this.#known = Math.max(this.#known, numeric(row["round_number"]) ?? -1);
  }

  /** Whether there was a figure. */
  #draw(row: Row): boolean {
    const loss = pointOf(row, "round_number", "global_loss", "global_loss_std_error");
    const accuracy = pointOf(row, "round_number", "global_accuracy", "global_accuracy_std_error");
    if (loss !== null) this.#loss.put(loss);
    if (accuracy !== null) this.#accuracy?.put(accuracy);
    return loss !== null || accuracy !== null;
  }

  #say(event: RunEvent): void {
    const now = performance.now();
    if (now - this.#announced < ANNOUNCE_EVERY) return;
    this.#announced = now;
    const { loss, accuracy } = event.details;
    const second = this.#kind === null ? "" : `, ${this.#kind.label} ${figure(accuracy)}`;
    this.context.announce(`Round ${event.round_number}: loss ${figure(loss)}${second}`);
  }

  /** Ask for what events do not have; what comes meanwhile is asked for once more afterwards. */
  #readSoon(): void {
    this.#isStale = true;
    if (!this.#isReading) void this.#readWhileStale();
  }

  async #readWhileStale(): Promise<void> {
    this.#isReading = true;
    try {
      while (this.#isStale) {
        this.#isStale = false;
        await this.#read();
        await this.scope.pause(READ_EVERY);
      }
    } catch (error) {
      if (!isOver(error)) this.context.fail(error);
    } finally {
      this.#isReading = false;
    }
  }

  async #read(): Promise<void> {
    const { api } = this.context;
    const run = await api.get<Row>(this.at, this.scope);
    const closed = numeric(run["rounds"]) ?? 0;
    // Each round's own errors, also where more were closed meanwhile than are listed.
    const from = Math.max(0, Math.min(closed - LAST_ROUNDS, this.#known));
    this.show(run, await api.get<Row[]>(`${this.at}/rounds?limit=${MOST}&offset=${from}`, this.scope));
    for (;;) {
      const rows = await api.get<Row[]>(
        `${this.at}/participation?limit=${MOST}&offset=${this.#settled}`,
        this.scope,
      );
      this.#matrix.put(rows);
      const last = numeric(rows.at(-1)?.["round_number"]);
      this.#settled += rows.filter((row) => numeric(row["round_number"]) !== last).length;
      if (rows.length < MOST) return;
    }
  }
}
