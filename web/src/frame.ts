/**
 * What surrounds every view: the skip link, the banner with its navigation, the main part, what is announced.
 *
 * What always holds: there is one heading of the first level, and it takes the focus when a view is shown,
 * unless the reader has gone on meanwhile.
 */

import type { Session } from "./core/api.js";
import { button, fill, h } from "./core/dom.js";
import { place, type Shown } from "./core/router.js";
import { currentTheme, switchTheme } from "./core/theme.js";
import { link, problem } from "./parts/texts.js";

const SECTIONS = [
  ["workspaces", "Workspaces", place()],
  ["runs", "Runs", place("runs")],
  ["experiments", "Experiments", place("experiments")],
  ["sql", "SQL", place("sql")],
] as const;

const PRODUCT = "HeliosDB federated learning";

export class Frame {
  readonly #heading = h("h1", { tabindex: -1 }, PRODUCT);
  readonly #content = h("div", { class: "content" });
  readonly #failures = h("div", {});
  readonly #waiting = h("p", { class: "waiting", role: "status" });
  readonly #announcer = h("p", { class: "unseen", "aria-live": "polite" });
  readonly #links = new Map(SECTIONS.map(([name, label, to]) => [name as string, link(to, label)]));
  readonly #nav = h(
    "nav",
    { "aria-label": "Main" },
    h(
      "ul",
      {},
      [...this.#links.values()].map((one) => h("li", {}, one)),
    ),
  );
  readonly #role = h("span", { class: "role" });
  readonly #out: HTMLElement;
  readonly #theme = button("", () => this.#sayTheme(switchTheme()), { class: "theme" });
  /** What had the focus when the view was asked for. */
  #from: Element | null = null;
  readonly elements: readonly HTMLElement[];

  constructor(onSignOut: () => void) {
    this.#out = button("Sign out", onSignOut);
    this.#sayTheme(currentTheme());
    document.addEventListener("theme", () => this.#sayTheme(currentTheme()));
    const skip = h("a", { class: "skip", href: "#main" }, "Skip to the content");
    skip.addEventListener("click", (event) => {
      // The fragment is the view's: only the focus goes.
      event.preventDefault();
      this.#heading.focus();
    });
    this.elements = [
      skip,
      h(
        "header",
        {},
        h("p", { class: "brand" }, "HeliosDB"),
        this.#nav,
        h("p", { class: "who" }, this.#role, " ", this.#theme, " ", this.#out),
      ),
      h("main", { id: "main" }, this.#heading, this.#waiting, this.#failures, this.#content),
      this.#announcer,
    ];
    this.#nav.hidden = true;
    this.#out.hidden = true;
  }

  signedIn(session: Session): void {
    this.#role.textContent = session.role;
    const box = this.#links.get("sql")?.parentElement;
    if (box) box.hidden = !session.rights.includes("sql");
    this.#nav.hidden = false;
    // A certificate is the browser's: there is nothing to end.
    this.#out.hidden = session.csrf === null;
  }

  signedOut(shown: Shown): void {
    this.#from = document.activeElement;
    this.#role.textContent = "";
    this.#nav.hidden = true;
    this.#out.hidden = true;
    this.show(shown, "");
  }

  loading(section: string): void {
    this.#from = document.activeElement;
    this.#navigate(section);
    fill(this.#failures);
    fill(this.#content, h("p", { role: "status" }, "Loading…"));
  }

  show({ title, body }: Shown, section: string): void {
    const now = document.activeElement;
    this.#navigate(section);
    document.title = `${title} – ${PRODUCT}`;
    this.#heading.textContent = title;
    fill(this.#failures);
    fill(this.#content, body);
    if (now === null || now === document.body || now === this.#from || !now.isConnected)
      this.#heading.focus();
  }

  announce(words: string): void {
    this.#announcer.textContent = words;
  }

  fail(error: unknown): void {
    fill(this.#failures, problem(error));
  }

  waiting(why: string, seconds: number): void {
    this.#waiting.textContent = `${why} Trying again in ${seconds} s.`;
  }

  answered(): void {
    if (this.#waiting.textContent !== "") this.#waiting.textContent = "";
  }

  #navigate(section: string): void {
    for (const [name, one] of this.#links) {
      if (name === section) one.setAttribute("aria-current", "page");
      else one.removeAttribute("aria-current");
    }
  }

  #sayTheme(theme: "light" | "dark"): void {
    this.#theme.textContent = theme === "dark" ? "Light colours" : "Dark colours";
  }
}
