import { erasureBody } from "../../../shared/contract/profile-requests.ts";
import { parseInput } from "../../../shared/contract/validation.ts";
import { sqlText } from "../../../shared/database/literal.ts";
import { type ErasureFacts, presentErasure } from "../presenters/erasure.ts";
import { defineRoute } from "../route.ts";

/** `DELETE /api/users/profile` with `{confirm?}`: erases the account and all that is its. */
export const handler = defineRoute({
  input: ({ body }) => parseInput(erasureBody, body),
  statement: ({ confirm }) =>
    sqlText`select public.erase_my_account(${confirm ?? null}::text) as result`,
  facts: (erasure: ErasureFacts["erasure"], _input, { caller }): ErasureFacts => ({
    userId: caller.userId,
    erasure,
  }),
  present: presentErasure,
  status: 202,
  wakesWorker: true,
});
