import { createAgentKeyBody } from "../../../shared/contract/report-requests.ts";
import { parseInput } from "../../../shared/contract/validation.ts";
import { sqlText } from "../../../shared/database/literal.ts";
import { type AgentKeyFacts, presentAgentKey } from "../presenters/reports.ts";
import { defineRoute } from "../route.ts";
import { agentId } from "./ids.ts";

/** `POST /api/agents/{id}/keys`: makes a key by which the agent reports; it is shown this once. */
export const handler = defineRoute({
  input: ({ params, body }) => ({ id: agentId(params), ...parseInput(createAgentKeyBody, body) }),
  statement: ({ id, label, expires_at }) =>
    sqlText`select public.create_agent_key(${id}::uuid,${label ?? null},${
      expires_at ?? null
    }::timestamptz) as result`,
  facts: (result: AgentKeyFacts) => result,
  present: presentAgentKey,
  status: 201,
  secretAnswer: true,
});
