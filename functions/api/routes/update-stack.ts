import type { StackFacts } from "../../../shared/contract/stack-facts.ts";
import { stackSpec, updateStackBody } from "../../../shared/contract/stack-requests.ts";
import { parseInput } from "../../../shared/contract/validation.ts";
import { jsonb, sqlText } from "../../../shared/database/literal.ts";
import { presentStackUpdated } from "../presenters/stacks.ts";
import { defineRoute } from "../route.ts";
import { stackId } from "./ids.ts";

/** `PUT /api/stacks/{id}`: changes what is named, says what that changes, and rolls it out. */
export const handler = defineRoute({
  input: ({ params, body }) => ({
    id: stackId(params),
    changes: stackSpec(parseInput(updateStackBody, body)),
  }),
  statement: ({ id, changes }) =>
    sqlText`select public.update_stack(${id}::uuid,${jsonb(changes)}) as result`,
  facts: (result: StackFacts) => result,
  present: presentStackUpdated,
  status: 202,
  wakesWorker: true,
});
