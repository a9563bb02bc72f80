import { validationError } from "./errors.ts";

/**
 * `/api` answers in three editions: 1 the first REST API (seed 001), 2 the Supabase edition
 * (seed 002), 3 the unified API (seed 000).
 */
export type Edition = 1 | 2 | 3;
export const EDITIONS: readonly Edition[] = [1, 2, 3];

/** How the caller identified itself; it decides which edition is the caller's own. */
export type CredentialKind = "jwt" | "api_key" | "none";

/**
 * Reads the `API-Version` header.
 * @returns the edition asked for, or null when the header is absent
 * @throws ApiError VALIDATION_ERROR for any other value
 */
export function parseEdition(header: string | null, field = "API-Version"): Edition | null {
  if (header === null) return null;
  const word = header.trim();
  if (word === "1" || word === "2" || word === "3") return Number(word) as Edition;
  throw validationError({ [field]: "must be 1, 2 or 3" });
}

/**
 * The editions an answer is made of, strongest first. A header asks for exactly one. Without it,
 * all editions that document the route, headed by the caller's own: 1 is the only edition that
 * knows API keys, 3 is the newest that knows JWTs.
 */
export function editionsOfAnswer(
  asked: Edition | null,
  credential: CredentialKind,
  documented: readonly Edition[],
): Edition[] {
  if (asked !== null) return [asked];
  const order: Edition[] = credential === "api_key" ? [1, 2, 3] : [3, 2, 1];
  return order.filter((edition) => documented.includes(edition));
}

/** A JSON value as a presenter gives it. */
export type Json = string | number | boolean | null | Json[] | { [key: string]: Json };
export type JsonObject = { [key: string]: Json };

function isObject(value: Json | undefined): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/**
 * Merges answers deeply, the first one winning where two say something else. Arrays of the same
 * length are lists of the same things in the same order (agents, log lines) and merge element by
 * element; others are a clash. A null gives way to a value: it says "unknown", not "none".
 */
export function mergeAnswers(strong: Json, weak: Json): Json {
  if (isObject(strong) && isObject(weak)) {
    const merged: JsonObject = { ...strong };
    for (const [key, value] of Object.entries(weak)) {
      merged[key] = Object.hasOwn(strong, key) ? mergeAnswers(strong[key]!, value) : value;
    }
    return merged;
  }
  if (Array.isArray(strong) && Array.isArray(weak) && strong.length === weak.length) {
    return strong.map((item, index) => mergeAnswers(item, weak[index]!));
  }
  return strong === null ? weak : strong;
}
