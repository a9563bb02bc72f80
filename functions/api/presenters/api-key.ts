import type { JsonObject } from "../../../shared/contract/editions.ts";
import { isoTime } from "../../../shared/contract/times.ts";
import { inAllEditions } from "./presenter.ts";

/** Answer of `generate_api_key`. */
export interface GeneratedKeyFacts {
  api_key: string;
  key_id: string;
  expires_at: string;
  role: string;
  permissions: string[];
}

function key(facts: GeneratedKeyFacts): JsonObject {
  return {
    apiKey: facts.api_key,
    keyId: facts.key_id,
    expiresAt: isoTime(facts.expires_at),
    role: facts.role.toUpperCase(),
    permissions: facts.permissions,
  };
}

/** `POST /api/auth/generate-key`; only seed 001 documents it. */
export const presentGeneratedKey = inAllEditions<GeneratedKeyFacts>(key);
