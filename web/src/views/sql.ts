/**
 * A box for statements, which run as the role of the session: SQL to read, FEDERATED statements to change.
 *
 * What always holds: a statement is sent once; an error points at its place in the text.
 */

import { Problem, type Value } from "../core/api.js";
import { button, fill, h } from "../core/dom.js";
import { plain } from "../core/format.js";
import type { Place, Shown } from "../core/router.js";
import { problem, said } from "../parts/texts.js";
import type { Context } from "./context.js";

interface Answer {
  readonly columns: readonly { readonly name: string; readonly type: string }[];
  readonly rows: readonly (readonly Value[])[];
  readonly truncated: boolean;
  readonly command: string;
  readonly notices: readonly string[];
}

const EXAMPLE = "SHOW FEDERATED MODELS;";

export async function sqlBox(context: Context, _: Place): Promise<Shown> {
  const input = h(
    "textarea",
    {
      id: "statement",
      rows: 6,
      spellcheck: "false",
      autocapitalize: "off",
      autocomplete: "off",
      "aria-describedby": "statement-help",
    },
    EXAMPLE,
  );
  const said = h("div", { class: "answer" });
  const send = button("Run", () => void run(), { class: "primary" });
  const run = async () => {
    send.disabled = true;
    try {
      const answer = await context.api.send<Answer>("POST", "/sql", { statement: input.value });
      fill(said, result(answer));
      context.announce(`${answer.command}: ${answer.rows.length} rows`);
    } catch (error) {
      fill(said, problem(error), error instanceof Problem && pointTo(input, error.document.position));
    } finally {
      send.disabled = false;
    }
  };
  input.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      if (!send.disabled) void run();
    }
  });
  return {
    title: "SQL",
    body: h(
      "div",
      { class: "sql" },
      h("label", { for: "statement" }, "Statement"),
      input,
      h(
        "p",
        { id: "statement-help" },
        `It runs as ${context.api.session?.role ?? "you"}: SQL is run to read, FEDERATED statements do what they say. Ctrl+Enter runs it.`,
      ),
      h("p", {}, send),
      said,
    ),
  };
}

function result(answer: Answer): HTMLElement {
  return h(
    "div",
    {},
    said(answer.notices),
    answer.columns.length > 0 &&
      h(
        "div",
        { class: "scroll", role: "region", tabindex: 0, "aria-label": "Result" },
        h(
          "table",
          {},
          h("caption", {}, answer.command),
          h(
            "thead",
            {},
            h(
              "tr",
              {},
              answer.columns.map((one) => h("th", { scope: "col", title: one.type }, one.name)),
            ),
          ),
          h(
            "tbody",
            {},
            answer.rows.map((row) =>
              h(
                "tr",
                {},
                row.map((value) => h("td", {}, value === null ? h("i", {}, "NULL") : plain(value))),
              ),
            ),
          ),
        ),
      ),
    answer.columns.length === 0 && h("p", {}, answer.command),
    answer.truncated &&
      h("p", { class: "notice" }, "There are more rows than are shown: add LIMIT and OFFSET."),
  );
}

/** The line of the place (characters from 1) with a mark below it; the caret goes there too. */
function pointTo(input: HTMLTextAreaElement, position: number | undefined): HTMLElement | null {
  if (position === undefined || position < 1) return null;
  const before = [...input.value].slice(0, position - 1).join("");
  const start = before.lastIndexOf("\n") + 1;
  const line = input.value.slice(start).split("\n", 1)[0] ?? "";
  input.focus();
  input.setSelectionRange(before.length, before.length);
  return h("pre", { class: "position" }, `${line}\n${" ".repeat([...before.slice(start)].length)}^ here`);
}
