/**
 * A curve over rounds, drawn by uPlot, that grows while it is watched.
 *
 * What always holds: one drawing a frame however many points came; the points are bounded (`Points`); the
 * same figures are in a table below, which is made only while it is open; the canvas goes with the view.
 */

import uPlot from "uplot";

import type { Row } from "../core/api.js";
import { h, s } from "../core/dom.js";
import { figure, numeric } from "../core/format.js";
import { Points, type Columns, type Point } from "../core/points.js";
import type { Scope } from "../core/scope.js";
import { colour } from "../core/theme.js";
import { Table, numbers } from "./table.js";

export interface Line {
  readonly label: string;
  /** Of the style sheet: a variable. */
  readonly colour: string;
  readonly dash?: readonly number[];
  /** A colour of the style sheet: a band of one standard error, which is the next figure of a point. */
  readonly band?: string;
}

const HEIGHT = 220;
const LEAST_WIDTH = 240;

export class Curve {
  readonly element: HTMLElement;
  readonly #points = new Points();
  readonly #place = h("div", { class: "plot" });
  readonly #details = h("details", {}, h("summary", {}, "The figures as a table"));
  readonly #table: Table;
  #plot: uPlot | null = null;
  #frame = 0;

  constructor(
    title: string,
    private readonly across: string,
    private readonly lines: readonly Line[],
    private readonly scope: Scope,
  ) {
    this.#table = new Table(title, [
      numbers("x", figure, across),
      ...names(lines).map((name, i) => numbers(`y${i}`, figure, name)),
    ]);
    this.#details.append(this.#table.element);
    this.element = h(
      "figure",
      { class: "curve", role: "group", "aria-label": title },
      h("figcaption", {}, title, names(lines).length > 1 && this.#legend()),
      this.#place,
      this.#details,
    );
    scope.listen(this.#details, "toggle", () => this.#fillTable());
    scope.listen(document, "theme", () => this.#plot?.redraw(false, true));
    const observer = new ResizeObserver(() => this.#fit());
    observer.observe(this.#place);
    scope.onEnd(() => {
      observer.disconnect();
      cancelAnimationFrame(this.#frame);
      this.#plot?.destroy();
    });
  }

  put(...points: readonly Point[]): void {
    for (const point of points) this.#points.put(point);
    if (this.#frame === 0 && !this.scope.isOver) {
      this.#frame = requestAnimationFrame(() => {
        this.#frame = 0;
        this.#draw();
      });
    }
  }

  #draw(): void {
    const columns = drawn(this.lines, this.#points.columns(names(this.lines).length));
    if (this.#plot === null && this.#place.isConnected) {
      this.#plot = new uPlot(this.#options(), columns, this.#place);
    } else this.#plot?.setData(columns);
    this.#place.dataset["points"] = String(columns[0].length);
    const last = this.#points.last;
    if (last !== undefined) this.#place.dataset["last"] = String(last.x);
    if (this.#details.open) this.#fillTable();
  }

  #fit(): void {
    if (this.#plot === null) this.#draw();
    else this.#plot.setSize({ width: this.#width(), height: HEIGHT });
  }

  #width(): number {
    return Math.max(LEAST_WIDTH, this.#place.clientWidth);
  }

  #options(): uPlot.Options {
    const axis: uPlot.Axis = {
      stroke: () => colour("ink"),
      grid: { stroke: () => colour("line"), width: 1 },
      ticks: { stroke: () => colour("line"), width: 1 },
    };
    const whole = {
      incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000],
      label: this.across,
      labelSize: 22,
    };
    return {
      width: this.#width(),
      height: HEIGHT,
      legend: { show: false },
      cursor: { y: false, drag: { x: false, y: false } },
      scales: { x: { time: false } },
      axes: [
        { ...axis, ...whole },
        { ...axis, size: 64, values: (_, ticks) => ticks.map(figure) },
      ],
      series: [{}, ...this.lines.flatMap(series)],
      bands: this.lines.flatMap((line, i) => {
        if (line.band === undefined) return [];
        const { band } = line;
        const at = this.lines.slice(0, i).flatMap(series).length + 1;
        return [{ series: [at + 2, at + 1] as [number, number], fill: () => colour(band) }];
      }),
    };
  }

  #legend(): HTMLElement {
    return h(
      "ul",
      { class: "legend" },
      this.lines.flatMap((line) => [
        entry(
          line.label,
          `stroke-${line.colour}`,
          s("line", { x1: 0, x2: 28, y1: 4, y2: 4, "stroke-dasharray": line.dash?.join(" ") }),
        ),
        line.band === undefined
          ? null
          : entry("± its standard error", `fill-${line.band}`, s("rect", { width: 28, height: 8 })),
      ]),
    );
  }

  #fillTable(): void {
    if (!this.#details.open) return;
    const rows = this.#points.all.map(
      (point): Row => Object.fromEntries([["x", point.x], ...point.y.map((y, i) => [`y${i}`, y] as const)]),
    );
    this.#table.update(rows);
  }
}

function entry(label: string, kind: string, mark: SVGElement): HTMLElement {
  return h(
    "li",
    {},
    s("svg", { width: 28, height: 8, "aria-hidden": "true", class: kind }, mark),
    ` ${label}`,
  );
}

/** What the figures of a point are called. */
function names(lines: readonly Line[]): string[] {
  return lines.flatMap(({ label, band }) => (band === undefined ? [label] : [label, `± ${label}`]));
}

/** A line as uPlot draws it; with a band also its lower and its upper edge, which are not seen. */
function series(line: Line): uPlot.Series[] {
  const drawn: uPlot.Series = {
    label: line.label,
    stroke: () => colour(line.colour),
    width: 2,
    spanGaps: true,
    ...(line.dash === undefined ? {} : { dash: [...line.dash] }),
  };
  const edge: uPlot.Series = { stroke: "transparent", points: { show: false } };
  return line.band === undefined ? [drawn] : [drawn, edge, edge];
}

/** The columns of figures as columns of what is drawn. */
function drawn(lines: readonly Line[], [x, ...ys]: Columns): Columns {
  const left = [...ys];
  const found = lines.flatMap((line) => {
    const values = left.shift() ?? [];
    if (line.band === undefined) return [values];
    const errors = left.shift() ?? [];
    const edge = (side: number) =>
      values.map((value, i) => {
        const error = errors[i] ?? null;
        return value === null || error === null ? null : value + side * error;
      });
    return [values, edge(-1), edge(1)];
  });
  return [x, ...found];
}

/** A point of a row's columns; null where none of its figures is known. */
export function pointOf(row: Row, x: string, ...ys: readonly string[]): Point | null {
  const at = numeric(row[x]);
  const values = ys.map((name) => numeric(row[name]));
  return at === null || values.every((value) => value === null) ? null : { x: at, y: values };
}
