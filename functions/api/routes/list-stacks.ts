import type { StackListFacts } from "../../../shared/contract/stack-facts.ts";
import { listStacksQuery } from "../../../shared/contract/stack-requests.ts";
import { parseInput } from "../../../shared/contract/validation.ts";
import { sqlText, textArray } from "../../../shared/database/literal.ts";
import { presentStacks } from "../presenters/stacks.ts";
import { defineRoute } from "../route.ts";

/** `GET /api/stacks`. */
export const handler = defineRoute({
  input: ({ query }) => parseInput(listStacksQuery, Object.fromEntries(query)),
  statement: ({ status, limit, offset }) =>
    sqlText`select public.list_stacks(${textArray(status)},${limit},${offset}) as result`,
  facts: (result: StackListFacts) => result,
  present: presentStacks,
  status: 200,
});
