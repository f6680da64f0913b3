/**
 * The life of a view: what it began ends with it.
 *
 * What always holds: after `end` no timer, stream, observer or request of the view is left, so that going
 * from view to view keeps nothing.
 */

export class Scope {
  readonly #controller = new AbortController();
  readonly #endings: (() => void)[] = [];

  /** Aborted when the view ends. */
  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  get isOver(): boolean {
    return this.signal.aborted;
  }

  /** Have something done when the view ends; at once where it has. */
  onEnd(ending: () => void): void {
    if (this.isOver) ending();
    else this.#endings.push(ending);
  }

  end(): void {
    this.#controller.abort();
    for (const ending of this.#endings.splice(0)) ending();
  }

  /** Resolve after some milliseconds; reject where the view ends before. */
  pause(milliseconds: number): Promise<void> {
    return new Promise((resolve, reject) => {
      const stop = () => {
        clearTimeout(timer);
        reject(new DOMException("the view is over", "AbortError"));
      };
      const timer = setTimeout(() => {
        this.signal.removeEventListener("abort", stop);
        resolve();
      }, milliseconds);
      if (this.isOver) stop();
      else this.signal.addEventListener("abort", stop, { once: true });
    });
  }

  /** Listen for as long as the view lives. */
  listen(target: EventTarget, kind: string, act: (event: Event) => void): void {
    target.addEventListener(kind, act, { signal: this.signal });
  }
}

/** Whether an error says only that the view is over. */
export function isOver(error: unknown): boolean {
  return error instanceof DOMException && error.name === "AbortError";
}
