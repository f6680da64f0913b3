/**
 * Points of a curve that grows, in bounded memory.
 *
 * What always holds: there are at most `most` points, in the order of x, the first and the last among them;
 * when there would be more, every second one of the older half goes.
 */

export interface Point {
  readonly x: number;
  readonly y: readonly (number | null)[];
}

/** Points as a plot takes them: x, then one column for each y. */
export type Columns = [number[], ...(number | null)[][]];

export class Points {
  #points: Point[] = [];

  constructor(private readonly most = 400) {
    if (most < 4) throw new Error("a curve has at least four points");
  }

  get all(): readonly Point[] {
    return this.#points;
  }

  get last(): Point | undefined {
    return this.#points.at(-1);
  }

  /** Add a point, or replace the one at its x. */
  put(point: Point): void {
    const place = this.#points.findLastIndex((one) => one.x <= point.x);
    if (this.#points[place]?.x === point.x) this.#points[place] = point;
    else this.#points.splice(place + 1, 0, point);
    if (this.#points.length > this.most) this.#thin();
  }

  columns(count: number): Columns {
    const ys = Array.from({ length: count }, (_, i) => this.#points.map((point) => point.y[i] ?? null));
    return [this.#points.map((point) => point.x), ...ys];
  }

  #thin(): void {
    const half = this.#points.length >> 1;
    this.#points = this.#points.filter((_, i) => i >= half || i % 2 === 0);
  }
}
