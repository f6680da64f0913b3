/** Signing in with a token. What always holds: the token is sent once and kept nowhere in the page. */

import { Problem, type Session } from "../core/api.js";
import { fill, h } from "../core/dom.js";
import { problem } from "../parts/texts.js";
import type { Context } from "./context.js";

export function login(context: Context, onIn: (session: Session) => void, why: string | null): HTMLElement {
  const input = h("input", {
    id: "token",
    type: "password",
    name: "token",
    autocomplete: "off",
    spellcheck: "false",
    required: true,
    "aria-describedby": "token-help",
    maxlength: 200,
  });
  const submit = h("button", { type: "submit", class: "primary" }, "Sign in");
  const said = h("div", {});
  const form = h(
    "form",
    { class: "login" },
    why !== null && h("p", { role: "status" }, why),
    h("label", { for: "token" }, "Token"),
    input,
    h(
      "p",
      { id: "token-help" },
      "Made in SQL, by a member of the role that it stands for: ",
      h("code", {}, "SELECT federated_create_token('your_role');"),
    ),
    submit,
    said,
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    submit.disabled = true;
    context.api.signIn(input.value.trim()).then(onIn, (error: unknown) => {
      submit.disabled = false;
      const refused = error instanceof Problem && error.status === 401;
      fill(
        said,
        refused
          ? h(
              "p",
              { class: "problem", role: "alert" },
              "This token is not valid: it is mistyped, expired or revoked.",
            )
          : problem(error),
      );
      input.focus();
    });
  });
  return form;
}
