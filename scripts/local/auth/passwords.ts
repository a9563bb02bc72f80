import type { Db } from "./context.ts";
import { AuthError, badRequest } from "./errors.ts";
import type { AuthSettings } from "./settings.ts";

// bcrypt is computed by pgcrypto inside Postgres: C instead of JavaScript, in a process of its own,
// so that a sign-in of 60 ms holds up neither the gateway nor Realtime, which share ours. The
// password travels as a bound parameter, which the server does not log.

/** As Auth's: 2^10 rounds. */
const COST = 10;
/** bcrypt reads no further than this many bytes. */
const MAX_BYTES = 72;
/** A hash that no password has, compared with when there is no user, so that both take as long. */
const NOBODYS_HASH = "$2a$10$arY0/klox84F3j0sjTmhCuB4nmzO4qDPxbs606kjDyro9bgZ9bSCi";
const BCRYPT = /^\$2[abxy]\$\d\d\$[./A-Za-z0-9]{53}$/;

/** A fresh bcrypt hash (`$2a$10$…`). */
export async function hashPassword(sql: Db, password: string): Promise<string> {
  const [row] = await sql<{ hash: string }[]>`
    select extensions.crypt(${password}, extensions.gen_salt('bf', ${COST}::integer)) as hash`;
  return row!.hash;
}

/**
 * Whether `password` is the one behind `hash`. Takes the same time for a null hash, which no
 * password fits.
 */
export async function verifyPassword(
  sql: Db,
  password: string,
  hash: string | null,
): Promise<boolean> {
  const known = hash !== null && BCRYPT.test(hash);
  // pgcrypto knows the scheme by the names 2a and 2x only; 2b and 2y compute the same.
  const salted = known ? hash.replace(/^\$2[by]\$/, "$2a$") : NOBODYS_HASH;
  const [row] = await sql<{ matches: boolean }[]>`
    select extensions.crypt(${password}, ${salted}) = ${salted} as matches`;
  return known && row!.matches;
}

/** Whether `hash` is one that users can be created with: bcrypt in any of its spellings. */
export function isPasswordHash(hash: string): boolean {
  return BCRYPT.test(hash);
}

/**
 * Refuses a password that config.toml's rules do not allow.
 *
 * @throws {AuthError} `weak_password` (422) with reasons, `validation_failed` (400) when longer
 *   than bcrypt can tell apart
 */
export function checkPasswordStrength(settings: AuthSettings, password: string): void {
  const bytes = new TextEncoder().encode(password).byteLength;
  if (bytes > MAX_BYTES) {
    throw badRequest(
      "validation_failed",
      `Password cannot be longer than ${MAX_BYTES} characters`,
    );
  }
  const reasons: string[] = [];
  const messages: string[] = [];
  if (bytes < settings.passwordMinLength) {
    reasons.push("length");
    messages.push(`Password should be at least ${settings.passwordMinLength} characters.`);
  }
  const sets = settings.passwordCharacterSets;
  const lacks = (set: string) => ![...set].some((character) => password.includes(character));
  if (sets.some(lacks)) {
    reasons.push("characters");
    messages.push(
      `Password should contain at least one character of each: ${sets.join(", ")}.`,
    );
  }
  if (reasons.length > 0) {
    throw new AuthError(422, "weak_password", messages.join(" "), { reasons });
  }
}

/** A password for somebody who will set their own, or never sign in by one. */
export function randomPassword(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(36));
  return btoa(String.fromCharCode(...bytes)) + "aA1!";
}
