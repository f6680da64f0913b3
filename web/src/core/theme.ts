/**
 * Light or dark: the system's choice until the reader makes one.
 *
 * What always holds: canvases, which no style sheet reaches, are told of a change (`theme` on the document).
 */

const KEY = "heliosdb.theme";
const DARK = matchMedia("(prefers-color-scheme: dark)");

export type Theme = "light" | "dark";

export function currentTheme(): Theme {
  const chosen = document.documentElement.dataset["theme"];
  return chosen === "light" || chosen === "dark" ? chosen : DARK.matches ? "dark" : "light";
}

export function startTheme(): void {
  const kept = localStorage.getItem(KEY);
  if (kept === "light" || kept === "dark") document.documentElement.dataset["theme"] = kept;
  DARK.addEventListener("change", announce);
}

export function switchTheme(): Theme {
  const theme = currentTheme() === "dark" ? "light" : "dark";
  document.documentElement.dataset["theme"] = theme;
  localStorage.setItem(KEY, theme);
  announce();
  return theme;
}

/** A colour of the style sheet, for a canvas. */
export function colour(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

function announce(): void {
  document.dispatchEvent(new Event("theme"));
}
