import type { Edition } from "./editions.ts";

/**
 * The one place that knows how each edition writes a state.
 *
 * | deployment      | editions 1, 2 | edition 3   |
 * |-----------------|---------------|-------------|
 * | queued          | QUEUED        | deploying   |
 * | deploying       | DEPLOYING     | deploying   |
 * | running         | DEPLOYED      | running     |
 * | scaling, updating, restarting, stopping, stopped, failed, deleting | upper case | lower case |
 *
 * Seed 000 answers a creation with `deploying` and lists only running, stopped, deploying and
 * failed, so a queued deployment is `deploying` there; seeds 001 and 002 say QUEUED, and DEPLOYED
 * for what runs. An agent that was never deployed (created through PostgREST) has only its own
 * status (`idle`, `thinking` …), shown in the edition's letter case.
 */
const EDITION_3: Record<string, string> = { queued: "deploying", deployed: "running" };
const EDITIONS_1_AND_2: Record<string, string> = { running: "DEPLOYED" };

/** The state of an agent in an edition's words. */
export function stateWord(edition: Edition, state: string): string {
  const lower = state.toLowerCase();
  if (edition === 3) return EDITION_3[lower] ?? lower;
  return EDITIONS_1_AND_2[lower] ?? lower.toUpperCase();
}

/** Every state a list may be filtered by, as the database writes it. */
export const KNOWN_STATES = [
  "queued",
  "deploying",
  "deployed",
  "running",
  "scaling",
  "updating",
  "restarting",
  "stopping",
  "stopped",
  "failed",
  "deleting",
  "idle",
  "thinking",
  "responding",
  "error",
  "offline",
  "updated",
] as const;

/**
 * The database states that an edition shows as the given word, so that a filter finds exactly
 * what the list would print: `?status=deploying` in edition 3 finds queued deployments too.
 * Either letter case and either edition's word is understood.
 * @returns null for a word that no edition uses
 */
export function statesOfWord(edition: Edition, word: string): string[] | null {
  const lower = word.toLowerCase();
  if (!(KNOWN_STATES as readonly string[]).includes(lower)) return null;
  if (lower === "running" || lower === "deployed") return ["running", "deployed"];
  if (lower === "deploying" && edition === 3) return ["queued", "deploying"];
  return [lower];
}

/** A health word in an edition's letter case; null when it is unknown. */
export function healthWord(edition: Edition, status: string | null | undefined): string | null {
  if (status === null || status === undefined || status === "unknown") return null;
  return edition === 3 ? status.toLowerCase() : status.toUpperCase();
}

/** Edition 3's words for how far a deployment or another operation has come. */
const PROGRESS_3: Record<string, string> = {
  queued: "initiating",
  running: "in_progress",
  succeeded: "completed",
  failed: "failed",
  cancelled: "cancelled",
};

export function operationWord(state: string): string {
  return PROGRESS_3[state] ?? state;
}
