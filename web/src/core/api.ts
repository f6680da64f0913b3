/**
 * Calls of the API, with the session's cookie.
 *
 * What always holds: what goes to the server is paths under one prefix of the page's own host; what may be
 * repeated (GET) is, where the database is away; what changes something is sent once, with the CSRF token.
 */

import type { Scope } from "./scope.js";

export const PREFIX = "/api/v1/federated";

/** A cell of a row, as JSON has it. */
export type Value = string | number | boolean | null | readonly Value[] | { readonly [key: string]: Value };
export type Row = { readonly [column: string]: Value };

/** csrf: null for who is known by a certificate, without a cookie. */
export interface Session {
  readonly role: string;
  readonly expires_at: string | null;
  readonly csrf: string | null;
  readonly rights: readonly string[];
}

interface Document {
  readonly title: string;
  readonly status: number;
  readonly detail: string;
  readonly sqlstate?: string;
  readonly hint?: string;
  readonly position?: number;
  readonly errors?: readonly { readonly where: string; readonly fault: string }[];
}

/** A problem document of the server (RFC 9457), or that there was no answer (status 0). */
export class Problem extends Error {
  constructor(
    readonly document: Document,
    readonly retryAfter: number | null = null,
  ) {
    super(document.detail);
  }

  get status(): number {
    return this.document.status;
  }
}

/** What was found, and what the database said of it, such as why a figure is not known. */
export interface Told<T> {
  readonly found: T;
  readonly notices: readonly string[];
}

/** Told of what all views share: that the session is over, and that the server is away. */
export interface Watcher {
  onSignedOut(): void;
  onWaiting(problem: Problem, seconds: number): void;
  onAnswer(): void;
}

const PAUSE = 5;

export class Api {
  session: Session | null = null;

  constructor(private readonly watcher: Watcher) {}

  /** The rows or document at a path; asked again for as long as the server is away and the view lives. */
  async get<T>(path: string, scope: Scope): Promise<T> {
    return (await this.getTold<T>(path, scope)).found;
  }

  /** The same with the notices of the answer. */
  async getTold<T>(path: string, scope: Scope): Promise<Told<T>> {
    for (;;) {
      try {
        const told = await this.#send<T>("GET", path, scope.signal);
        this.watcher.onAnswer();
        return told;
      } catch (error) {
        if (!(error instanceof Problem && isPassing(error.status))) throw this.#seen(error);
        const seconds = error.retryAfter ?? PAUSE;
        this.watcher.onWaiting(error, seconds);
        await scope.pause(seconds * 1000);
      }
    }
  }

  /** Change something: once, whatever happens. */
  async send<T>(method: "POST" | "DELETE", path: string, body?: unknown): Promise<T> {
    try {
      return (await this.#send<T>(method, path, null, body)).found;
    } catch (error) {
      throw this.#seen(error);
    }
  }

  /** Take up the session of the cookie; null where there is none. */
  async resume(scope: Scope): Promise<Session | null> {
    try {
      this.session = await this.get<Session>("/session", scope);
    } catch (error) {
      if (!(error instanceof Problem && error.status === 401)) throw error;
      this.session = null;
    }
    return this.session;
  }

  async signIn(token: string): Promise<Session> {
    const { found } = await this.#send<Session>("POST", "/session", null, { token });
    this.session = found;
    return found;
  }

  async signOut(): Promise<void> {
    await this.send("DELETE", "/session");
    this.session = null;
  }

  async #send<T>(method: string, path: string, signal: AbortSignal | null, body?: unknown): Promise<Told<T>> {
    const headers: Record<string, string> = { Accept: "application/json" };
    if (method !== "GET" && this.session?.csrf) headers["X-CSRF-Token"] = this.session.csrf;
    if (body !== undefined) headers["Content-Type"] = "application/json";
    const sent = body === undefined ? null : JSON.stringify(body);
    const answer = await fetch(PREFIX + path, {
      method,
      headers,
      signal,
      body: sent,
      credentials: "same-origin",
      redirect: "error",
    }).catch((error: unknown) => {
      if (signal?.aborted) throw error;
      throw unanswered();
    });
    if (!answer.ok) throw await problemOf(answer);
    const found = (answer.status === 204 ? undefined : await answer.json()) as T;
    return { found, notices: noticesOf(answer.headers.get("X-Notice") ?? "") };
  }

  #seen(error: unknown): unknown {
    if (error instanceof Problem && error.status === 401 && this.session !== null) {
      this.session = null;
      this.watcher.onSignedOut();
    }
    return error;
  }
}

/** A path of names, each of which may hold anything. */
export function path(...names: readonly (string | number)[]): string {
  return names.map((name) => "/" + encodeURIComponent(name)).join("");
}

/** The texts of a list of Display Strings (RFC 9651). */
export function noticesOf(header: string): string[] {
  return [...header.matchAll(/%"([^"]*)"/g)].map((member) => decodeURIComponent(member[1] ?? ""));
}

function isPassing(status: number): boolean {
  return status === 0 || status === 429 || status === 503;
}

function unanswered(): Problem {
  return new Problem({ title: "No answer", status: 0, detail: "The server does not answer." });
}

async function problemOf(answer: Response): Promise<Problem> {
  const after = Number(answer.headers.get("Retry-After") ?? NaN);
  const retryAfter = Number.isFinite(after) && after > 0 ? after : null;
  const said: unknown = await answer.json().catch(() => null);
  if (said !== null && typeof said === "object" && "detail" in said) {
    return new Problem({ ...(said as Document), status: answer.status }, retryAfter);
  }
  return new Problem(
    { title: answer.statusText, status: answer.status, detail: "No more is known." },
    retryAfter,
  );
}
