import { generateKeyBody } from "../../../shared/contract/agent-requests.ts";
import { parseInput } from "../../../shared/contract/validation.ts";
import { sqlText, textArray } from "../../../shared/database/literal.ts";
import { type GeneratedKeyFacts, presentGeneratedKey } from "../presenters/api-key.ts";
import { defineRoute } from "../route.ts";

/** `POST /api/auth/generate-key`: makes an API key for the caller; it is shown this once. */
export const handler = defineRoute({
  input: ({ body }) => parseInput(generateKeyBody, body),
  statement: ({ username, role, permissions, expiresAt, email }) =>
    sqlText`select public.generate_api_key(${username ?? null},${role ?? null},${
      textArray(permissions)
    },${expiresAt ?? null}::timestamptz,${email ?? null}) as result`,
  facts: (result: GeneratedKeyFacts) => result,
  present: presentGeneratedKey,
  status: 201,
  secretAnswer: true,
});
