import type { SearchFacts } from "../../../shared/contract/facts.ts";
import { searchAgentsQuery } from "../../../shared/contract/queries.ts";
import { parseInput } from "../../../shared/contract/validation.ts";
import { sqlText, textArray } from "../../../shared/database/literal.ts";
import { presentSearch } from "../presenters/search.ts";
import { defineRoute } from "../route.ts";

/** `GET /api/agents/search`. */
export const handler = defineRoute({
  input: ({ query, edition, now }) =>
    parseInput(searchAgentsQuery(edition, now), Object.fromEntries(query)),
  statement: (input) =>
    sqlText`select public.search_agents(${input.q ?? null},${textArray(input.status)},${
      input.platform ?? null
    },${input.created_after ?? null}::timestamptz,${input.created_before ?? null}::timestamptz,${
      input.sort ?? null
    },${input.order ?? null},${input.limit},${input.offset}) as result`,
  facts: (result: SearchFacts) => result,
  present: presentSearch,
  status: 200,
});
