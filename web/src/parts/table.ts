/**
 * Tables: a caption, headings with their scope, and rows that can change while somebody reads.
 *
 * What always holds: a wide table scrolls by itself, also by the keyboard, and never the page; new rows
 * replace the body only, so that focus and scroll position stay.
 */

import type { Row } from "../core/api.js";
import { fill, h, type Child } from "../core/dom.js";
import { heading, plain } from "../core/format.js";

export interface Column {
  readonly name: string;
  readonly head?: string;
  readonly cell?: (row: Row) => Child;
  readonly isNumber?: boolean;
}

export class Table {
  readonly element: HTMLElement;
  readonly #body = h("tbody");

  /** caption: what the table is of; the first column heads its row. */
  constructor(
    caption: string,
    private readonly columns: readonly Column[],
    rows: readonly Row[] = [],
  ) {
    const heads = columns.map((column) =>
      h("th", { scope: "col", class: column.isNumber && "number" }, column.head ?? heading(column.name)),
    );
    this.element = h(
      "div",
      { class: "scroll", role: "region", tabindex: 0, "aria-label": caption },
      h("table", {}, h("caption", {}, caption), h("thead", {}, h("tr", {}, heads)), this.#body),
    );
    this.update(rows);
  }

  update(rows: readonly Row[]): void {
    fill(
      this.#body,
      rows.map((row) =>
        h(
          "tr",
          {},
          this.columns.map((column, i) => cell(column, row, i === 0)),
        ),
      ),
    );
  }
}

/** A table that does not change. */
export function table(caption: string, columns: readonly Column[], rows: readonly Row[]): HTMLElement {
  return new Table(caption, columns, rows).element;
}

/** A column of plain text by its name. */
export function column(name: string, head?: string): Column {
  return head === undefined ? { name } : { name, head };
}

/** A column of numbers, which `show` writes. */
export function numbers(
  name: string,
  show: (value: Row[string] | undefined) => string,
  head?: string,
): Column {
  return { name, isNumber: true, cell: (row) => show(row[name]), ...(head === undefined ? {} : { head }) };
}

function cell(column: Column, row: Row, isHead: boolean): HTMLElement {
  const content = column.cell === undefined ? plain(row[column.name]) : column.cell(row);
  const kind = column.isNumber && "number";
  return isHead ? h("th", { scope: "row", class: kind }, content) : h("td", { class: kind }, content);
}
