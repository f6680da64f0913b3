/**
 * Which view is shown: the fragment of the address, a pattern for each view.
 *
 * What always holds: an address holds names and ids only, and a fragment never leaves the browser; the view
 * before is over when the next one begins; the focus goes to its heading.
 */

import type { Scope } from "./scope.js";

export type Names = Record<string, string>;

export interface Place {
  readonly names: Names;
  readonly scope: Scope;
}

/** What a view shows, and how it is called in the title. */
export interface Shown {
  readonly title: string;
  readonly body: Node;
}

export type View = (place: Place) => Promise<Shown>;

export interface Route {
  readonly pattern: readonly string[];
  readonly view: View;
  /** Which part of the navigation it belongs to. */
  readonly section: string;
}

/** A route of a pattern like `w/:workspace/m/:model`. */
export function route(pattern: string, section: string, view: View): Route {
  return { pattern: pattern.split("/"), section, view };
}

/** The address of a view. */
export function place(...parts: readonly string[]): string {
  return "#/" + parts.map(encodeURIComponent).join("/");
}

/** The route of a fragment, and the names in it; null where there is none. */
export function match(routes: readonly Route[], fragment: string): { route: Route; names: Names } | null {
  const parts = decode(fragment.replace(/^#?\/?/, ""));
  if (parts === null) return null;
  for (const one of routes) {
    const names = fit(one.pattern, parts);
    if (names !== null) return { route: one, names };
  }
  return null;
}

function decode(rest: string): string[] | null {
  try {
    return rest.split("/").map(decodeURIComponent);
  } catch {
    return null;
  }
}

function fit(pattern: readonly string[], parts: readonly string[]): Names | null {
  if (pattern.length !== parts.length) return null;
  const names: Names = {};
  for (const [i, expected] of pattern.entries()) {
    const part = parts[i] ?? "";
    if (expected.startsWith(":")) names[expected.slice(1)] = part;
    else if (expected !== part) return null;
  }
  return names;
}
