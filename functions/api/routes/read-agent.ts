import type { SnapshotFacts } from "../../../shared/contract/facts.ts";
import { sqlText } from "../../../shared/database/literal.ts";
import { presentAgent } from "../presenters/agent.ts";
import { defineRoute } from "../route.ts";
import { agentId } from "./ids.ts";

/** `GET /api/agents/{id}` and `GET /api/agents/{id}/status`. */
export const handler = defineRoute({
  input: ({ params }) => agentId(params),
  statement: (id) => sqlText`select public.agent_snapshot(${id}::uuid) as result`,
  facts: (result: SnapshotFacts) => result,
  present: presentAgent,
  status: 200,
});
