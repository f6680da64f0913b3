/**
 * What is said in words: sections, states, problems, and what to type where there is nothing yet.
 *
 * What always holds: a state is a shape and a word, never a colour alone.
 */

import { Problem, type Value } from "../core/api.js";
import { h, type Child } from "../core/dom.js";
import { time } from "../core/format.js";

/** A part of a view under a heading of its own. */
export function section(title: string, ...content: Child[]): HTMLElement {
  return h("section", {}, h("h2", {}, title), content);
}

/** Nothing is there: what would be, and the statement that makes it so. */
export function empty(says: string, statement?: string): HTMLElement {
  return h(
    "div",
    { class: "empty" },
    h("p", {}, says),
    statement !== undefined && h("p", {}, "Type: ", h("code", {}, statement)),
  );
}

/** A name as the language writes it. */
export function identifier(name: string): string {
  return /^[a-z_][a-z0-9_]*$/.test(name) ? name : `"${name.replaceAll('"', '""')}"`;
}

/** A link to another view. */
export function link(to: string, label: string, current = false): HTMLAnchorElement {
  return h("a", { href: to, "aria-current": current && "page" }, label);
}

const SHAPES: Record<string, string> = {
  active: "●",
  connected: "●",
  ready: "●",
  completed: "●",
  converged: "●",
  closed: "●",
  received: "●",
  running: "▶",
  training: "▶",
  open: "▶",
  queued: "○",
  pending: "○",
  waiting: "○",
  armed: "○",
  slow: "▲",
  raised: "▲",
  breach: "▲",
  stopped: "■",
  paused: "■",
  dropped: "■",
  failed: "✕",
  refused: "✕",
  rejected: "✕",
  diverged: "✕",
  disconnected: "✕",
  budget_exhausted: "✕",
};

/** The shape that goes with the word of a state. */
export function shape(word: string): string {
  return SHAPES[word] ?? "◇";
}

/** A state: its shape and its word. */
export function state(word: string): HTMLElement {
  return h(
    "span",
    { class: "state", "data-state": word },
    h("span", { "aria-hidden": "true" }, shape(word)),
    " ",
    word.replaceAll("_", " "),
  );
}

/** Terms and what they are. */
export function facts(...pairs: readonly (readonly [string, Child])[]): HTMLElement {
  return h(
    "dl",
    { class: "facts" },
    pairs.map(([term, is]) => h("div", {}, h("dt", {}, term), h("dd", {}, is))),
  );
}

/** A problem document as people read it. */
export function problem(error: unknown): HTMLElement {
  const known = error instanceof Problem ? error.document : null;
  return h(
    "div",
    { class: "problem", role: "alert" },
    h(
      "p",
      {},
      h("strong", {}, known?.title ?? "The page failed"),
      known?.sqlstate ? ` (${known.sqlstate})` : "",
    ),
    h("p", {}, known?.detail ?? String(error)),
    known?.hint !== undefined && h("p", {}, "Hint: ", known.hint),
    known?.errors !== undefined &&
      h(
        "ul",
        {},
        known.errors.map((one) => h("li", {}, `${one.where}: ${one.fault}`)),
      ),
  );
}

/** A point in time, which breaks over no line; empty where there is none. */
export function when(value: Value | undefined): Child {
  return typeof value === "string" ? h("time", { datetime: value }, time(value)) : "";
}

/** What the database said of what is shown below. */
export function said(notices: readonly string[]): HTMLElement[] {
  return notices.map((notice) => h("p", { class: "notice" }, notice));
}

/** Text for those who hear the page. */
export function unseen(text: string): HTMLElement {
  return h("span", { class: "unseen" }, text);
}
