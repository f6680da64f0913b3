/**
 * The page: its frame, the session, and one view at a time.
 *
 * What always holds: without a session there is the login and nothing else; when a view changes, the focus
 * goes to its heading and its title to the window; an error leaves the frame usable.
 */

import "uplot/dist/uPlot.min.css";
import "./style.css";

import { Api, type Problem, type Session } from "./core/api.js";
import { match, place, route, type Route, type Shown } from "./core/router.js";
import { Scope, isOver } from "./core/scope.js";
import { startTheme } from "./core/theme.js";
import { Frame } from "./frame.js";
import { empty, problem } from "./parts/texts.js";
import { budget } from "./views/budget.js";
import type { Context } from "./views/context.js";
import { experiment, experiments } from "./views/experiments.js";
import { alerts, audit, erasures } from "./views/lists.js";
import { login } from "./views/login.js";
import { model } from "./views/model.js";
import { quality } from "./views/quality.js";
import { run } from "./views/run.js";
import { runs, workspaceRuns } from "./views/runs.js";
import { sqlBox } from "./views/sql.js";
import { workspace } from "./views/workspace.js";
import { workspaces } from "./views/workspaces.js";

class Page {
  readonly #frame = new Frame(() => void this.#signOut());
  readonly #api = new Api({
    onSignedOut: () => this.#showLogin("The session is over: sign in again."),
    onWaiting: (error: Problem, seconds: number) => this.#frame.waiting(error.document.detail, seconds),
    onAnswer: () => this.#frame.answered(),
  });
  readonly #context: Context = {
    api: this.#api,
    announce: (words) => this.#frame.announce(words),
    fail: (error) => this.#frame.fail(error),
  };
  readonly #routes: readonly Route[] = [
    this.#route("", "workspaces", workspaces),
    this.#route("w/:workspace", "workspaces", workspace),
    this.#route("w/:workspace/runs", "workspaces", workspaceRuns),
    this.#route("w/:workspace/budget", "workspaces", budget),
    this.#route("w/:workspace/quality", "workspaces", quality),
    this.#route("w/:workspace/alerts", "workspaces", alerts),
    this.#route("w/:workspace/erasures", "workspaces", erasures),
    this.#route("w/:workspace/audit", "workspaces", audit),
    this.#route("w/:workspace/m/:model", "workspaces", model),
    this.#route("runs", "runs", runs),
    this.#route("runs/:run", "runs", run),
    this.#route("experiments", "experiments", experiments),
    this.#route("experiments/:experiment", "experiments", experiment),
    this.#route("sql", "sql", sqlBox),
  ];
  #scope = new Scope();

  async start(): Promise<void> {
    document.body.append(...this.#frame.elements);
    addEventListener("hashchange", () => void this.#show());
    try {
      const session = await this.#api.resume(this.#scope);
      if (session === null) this.#showLogin(null);
      else this.#enter(session);
    } catch (error) {
      if (!isOver(error)) this.#frame.fail(error);
    }
  }

  #route(
    pattern: string,
    section: string,
    view: (context: Context, at: Parameters<Route["view"]>[0]) => Promise<Shown>,
  ): Route {
    return route(pattern, section, (at) => view(this.#context, at));
  }

  #enter(session: Session): void {
    this.#frame.signedIn(session);
    void this.#show();
  }

  async #show(): Promise<void> {
    if (this.#api.session === null) return;
    const scope = this.#renew();
    const found = match(this.#routes, location.hash);
    if (found === null) {
      this.#frame.show({ title: "Not found", body: empty(`There is no view at ${location.hash}.`) }, "");
      return;
    }
    this.#frame.loading(found.route.section);
    try {
      const shown = await found.route.view({ names: found.names, scope });
      if (!scope.isOver) this.#frame.show(shown, found.route.section);
    } catch (error) {
      if (!isOver(error) && !scope.isOver)
        this.#frame.show({ title: "This cannot be shown", body: problem(error) }, found.route.section);
    }
  }

  #showLogin(why: string | null): void {
    this.#renew();
    const form = login(this.#context, (session) => this.#enter(session), why);
    this.#frame.signedOut({ title: "Sign in", body: form });
  }

  async #signOut(): Promise<void> {
    try {
      await this.#api.signOut();
      location.hash = place();
      this.#showLogin("You are signed out.");
    } catch (error) {
      this.#frame.fail(error);
    }
  }

  #renew(): Scope {
    this.#scope.end();
    this.#scope = new Scope();
    return this.#scope;
  }
}

startTheme();
void new Page().start();
