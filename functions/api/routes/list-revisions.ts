import type { RevisionListFacts } from "../../../shared/contract/facts.ts";
import { listRevisionsQuery } from "../../../shared/contract/queries.ts";
import { parseInput } from "../../../shared/contract/validation.ts";
import { sqlText } from "../../../shared/database/literal.ts";
import { presentRevisions } from "../presenters/revisions.ts";
import { defineRoute } from "../route.ts";
import { agentId } from "./ids.ts";

/** `GET /api/agents/{id}/revisions`: what was rolled out of an agent, newest first. */
export const handler = defineRoute({
  input: ({ params, query }) => ({
    id: agentId(params),
    ...parseInput(listRevisionsQuery, Object.fromEntries(query)),
  }),
  statement: ({ id, limit, before }) =>
    sqlText`select public.list_agent_revisions(${id}::uuid,${limit},${before ?? null}) as result`,
  facts: (result: RevisionListFacts) => result,
  present: presentRevisions,
  status: 200,
});
