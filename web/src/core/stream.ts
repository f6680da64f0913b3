/**
 * A run's events, followed for as long as a view lives.
 *
 * What always holds: one stream a view; a cut connection is taken up by the browser after the last event it
 * had, and a refused one is asked for again, slower each time, until the run is over.
 */

import { PREFIX, path, type Row } from "./api.js";
import type { Scope } from "./scope.js";

export interface RunEvent {
  readonly event_id: number;
  readonly round_number: number | null;
  readonly kind: string;
  readonly details: Row;
  readonly recorded_at: string;
}

export interface Listener {
  onEvent(event: RunEvent): void;
  onState(state: "live" | "away"): void;
  onOver(): void;
}

const FIRST_PAUSE = 2_000;
const LONGEST_PAUSE = 30_000;

export function followRun(run: string, scope: Scope, listener: Listener): void {
  let pause = FIRST_PAUSE;
  let source: EventSource | null = null;
  let timer = 0;
  const close = () => {
    clearTimeout(timer);
    source?.close();
    source = null;
  };
  const open = () => {
    source = new EventSource(PREFIX + path("runs", run, "events"));
    source.addEventListener("open", () => {
      pause = FIRST_PAUSE;
      listener.onState("live");
    });
    source.addEventListener("progress", (event) => listener.onEvent(JSON.parse(event.data) as RunEvent));
    source.addEventListener("end", () => {
      close();
      listener.onOver();
    });
    source.addEventListener("problem", () => again());
    source.addEventListener("error", () => {
      listener.onState("away");
      if (source?.readyState === EventSource.CLOSED) again();
    });
  };
  const again = () => {
    close();
    listener.onState("away");
    timer = window.setTimeout(open, pause);
    pause = Math.min(2 * pause, LONGEST_PAUSE);
  };
  scope.onEnd(close);
  open();
}
