import type { StackFacts } from "../../../shared/contract/stack-facts.ts";
import { sqlText } from "../../../shared/database/literal.ts";
import { presentStackDeleted } from "../presenters/stacks.ts";
import { defineRoute } from "../route.ts";
import { stackId } from "./ids.ts";

/** `DELETE /api/stacks/{id}`: the environment goes at once, services and volumes by an operation. */
export const handler = defineRoute({
  input: ({ params }) => stackId(params),
  statement: (id) => sqlText`select public.delete_stack(${id}::uuid) as result`,
  facts: (result: StackFacts) => result,
  present: presentStackDeleted,
  status: 202,
  wakesWorker: true,
});
