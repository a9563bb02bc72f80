import { rollbackAgentBody } from "../../../shared/contract/agent-requests.ts";
import type { CommandFacts } from "../../../shared/contract/facts.ts";
import { parseInput } from "../../../shared/contract/validation.ts";
import { sqlText } from "../../../shared/database/literal.ts";
import { presentRolledBack } from "../presenters/commands.ts";
import { defineRoute } from "../route.ts";
import { agentId } from "./ids.ts";

/** `POST /api/agents/{id}/rollback`: makes the agent again what it was in a revision. */
export const handler = defineRoute({
  input: ({ params, body }) => ({ id: agentId(params), ...parseInput(rollbackAgentBody, body) }),
  statement: ({ id, revision }) =>
    sqlText`select public.rollback_agent(${id}::uuid,${revision ?? null}) as result`,
  facts: (result: CommandFacts) => result,
  present: presentRolledBack,
  status: 202,
  wakesWorker: true,
});
