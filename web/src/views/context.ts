/** What views need of the page: calls, and words for whoever hears it. */

import type { Api } from "../core/api.js";
import { isOver, type Scope } from "../core/scope.js";

export interface Context {
  readonly api: Api;
  /** Say something to screen readers, when they are idle. */
  announce(words: string): void;
  /** Show an error that came after the view was shown. */
  fail(error: unknown): void;
}

const EVERY = 2_000;

/** Do something again and again while the view lives and the page is seen, until the server refuses it. */
export async function again(
  context: Context,
  scope: Scope,
  act: () => Promise<void>,
  every = EVERY,
): Promise<void> {
  while (!scope.isOver) {
    try {
      await scope.pause(every);
      if (document.visibilityState === "visible") await act();
    } catch (error) {
      if (!isOver(error)) context.fail(error);
      return;
    }
  }
}
