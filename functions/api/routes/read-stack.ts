import type { StackFacts } from "../../../shared/contract/stack-facts.ts";
import { sqlText } from "../../../shared/database/literal.ts";
import { presentStack } from "../presenters/stacks.ts";
import { defineRoute } from "../route.ts";
import { stackId } from "./ids.ts";

/** `GET /api/stacks/{id}`. */
export const handler = defineRoute({
  input: ({ params }) => stackId(params),
  statement: (id) => sqlText`select public.stack_snapshot(${id}::uuid) as result`,
  facts: (result: StackFacts) => result,
  present: presentStack,
  status: 200,
});
