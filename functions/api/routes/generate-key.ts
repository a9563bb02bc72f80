import { validationError } from "../../../shared/contract/errors.ts";
import { generateKeyBody } from "../../../shared/contract/key-requests.ts";
import { parseInput } from "../../../shared/contract/validation.ts";
import { sqlText, textArray } from "../../../shared/database/literal.ts";
import { type GeneratedKeyFacts, presentGeneratedKey } from "../presenters/api-key.ts";
import { defineRoute } from "../route.ts";

/**
 * `POST /api/auth/generate-key`: makes an API key for the caller or, with `users:write`, for the user
 * whom `email` or `username` names; it is shown this once.
 */
export const handler = defineRoute({
  input: ({ body, now }) => {
    const input = parseInput(generateKeyBody, body);
    if (input.expiresAt !== undefined && Date.parse(input.expiresAt) <= now.getTime()) {
      // SQL says the same, of the parameter as it is named there.
      throw validationError({ expiresAt: "must lie in the future" });
    }
    return input;
  },
  statement: ({ label, role, permissions, expiresAt, email, username }) =>
    sqlText`select public.generate_api_key(${label ?? null},${role ?? null},${
      textArray(permissions)
    },${expiresAt ?? null}::timestamptz,${email ?? null},${username ?? null}) as result`,
  facts: (result: GeneratedKeyFacts) => result,
  present: presentGeneratedKey,
  status: 201,
  secretAnswer: true,
});
