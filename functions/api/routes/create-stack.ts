import type { StackFacts } from "../../../shared/contract/stack-facts.ts";
import { createStackBody, stackSpec } from "../../../shared/contract/stack-requests.ts";
import { parseInput } from "../../../shared/contract/validation.ts";
import { jsonb, sqlText } from "../../../shared/database/literal.ts";
import { presentStackCreated } from "../presenters/stacks.ts";
import { defineRoute } from "../route.ts";

/** `POST /api/stacks`: makes a stack from a template and queues its deployment. */
export const handler = defineRoute({
  input: ({ body }) => stackSpec(parseInput(createStackBody, body)),
  statement: (spec) => sqlText`select public.create_stack(${jsonb(spec)}) as result`,
  facts: (result: StackFacts) => result,
  present: presentStackCreated,
  status: 201,
  location: (facts) => `/api/stacks/${facts.stack.id}`,
  wakesWorker: true,
});
