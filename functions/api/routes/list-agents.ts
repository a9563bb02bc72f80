import type { ListFacts } from "../../../shared/contract/facts.ts";
import { listAgentsQuery } from "../../../shared/contract/queries.ts";
import { parseInput } from "../../../shared/contract/validation.ts";
import { sqlText, textArray } from "../../../shared/database/literal.ts";
import { presentList } from "../presenters/list.ts";
import { defineRoute } from "../route.ts";

/** `GET /api/agents`. */
export const handler = defineRoute({
  input: ({ query, edition }) => parseInput(listAgentsQuery(edition), Object.fromEntries(query)),
  statement: ({ status, platform, owner, limit, offset }) =>
    sqlText`select public.list_agents(${textArray(status)},${platform ?? null},${
      owner ?? null
    }::uuid,${limit},${offset}) as result`,
  facts: (result: ListFacts, { limit, offset }) => ({ ...result, limit, offset }),
  present: presentList,
  status: 200,
});
