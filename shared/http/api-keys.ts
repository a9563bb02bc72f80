import { ApiError } from "../contract/errors.ts";
import { runStatements } from "../database/caller.ts";
import type { Database } from "../database/connect.ts";
import { bytea, sqlText } from "../database/literal.ts";

export interface KnownApiKey {
  key_id: string;
  user_id: string;
  /** Whose key it is when it belongs to an agent. */
  agent_id: string | null;
  role: string;
  expires_at: string;
  revoked_at: string | null;
  /** Banned, or deleted softly, in Supabase Auth. */
  owner_barred: boolean;
  /** SHA-256 of the whole key, in hex. */
  digest: string;
}

// 128 random bits are 22 characters of base64 or 32 of hex.
const API_KEY = /^alk_[A-Za-z0-9_-]{22,200}$/;

function invalid(reason: string): ApiError {
  return new ApiError("INVALID_API_KEY", "The API key is invalid or expired", {
    details: { credential: "api_key", reason },
  });
}

/** Compares two strings in a time that depends on their length only. */
export function equalInConstantTime(one: string, other: string): boolean {
  let difference = one.length ^ other.length;
  for (let index = 0; index < one.length; index++) {
    difference |= one.charCodeAt(index) ^ other.charCodeAt(index % (other.length || 1));
  }
  return difference === 0;
}

/** Hears of a key that is known and was presented although it is no longer good. */
export type MisuseListener = (key: KnownApiKey, reason: "revoked" | "expired") => void;

/**
 * Finds the key that a request brought. It is asked for each time and never remembered, so that a
 * revocation holds for the next request.
 * @throws ApiError INVALID_API_KEY 401 for a key that is unknown, revoked, expired, or of a barred user
 */
export async function authenticateApiKey(
  sql: Database,
  apiKey: string,
  now: Date,
  onMisuse: MisuseListener = () => {},
): Promise<KnownApiKey> {
  if (!API_KEY.test(apiKey)) throw invalid("malformed");
  const bytes = new Uint8Array(
    await crypto.subtle.digest("SHA-256", new TextEncoder().encode(apiKey)),
  );
  const digest = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  const [rows] = await runStatements(sql, [
    sqlText`select private.authenticate_api_key(${bytea(bytes)}) as result`,
  ], { repeatable: true });
  const known = rows![0]?.result as KnownApiKey | null;
  // The index finds a digest by comparing bytes until one differs; that leaks nothing useful about
  // a preimage, but the last word is a comparison that leaks nothing at all.
  const matches = equalInConstantTime(digest, known?.digest ?? "0".repeat(64));
  if (known === null || !matches) throw invalid("unknown");
  const fault = known.revoked_at !== null
    ? "revoked"
    : Date.parse(known.expires_at) <= now.getTime()
    ? "expired"
    : null;
  if (fault !== null) {
    onMisuse(known, fault);
    throw invalid(fault);
  }
  if (known.owner_barred) throw invalid("owner barred");
  return known;
}
