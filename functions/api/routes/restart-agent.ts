import { restartAgentBody } from "../../../shared/contract/agent-requests.ts";
import type { CommandFacts } from "../../../shared/contract/facts.ts";
import { parseInput } from "../../../shared/contract/validation.ts";
import { sqlText } from "../../../shared/database/literal.ts";
import { presentRestarted } from "../presenters/commands.ts";
import { defineRoute } from "../route.ts";
import { agentId } from "./ids.ts";

/** `POST /api/agents/{id}/restart`. */
export const handler = defineRoute({
  input: ({ params, body }) => ({ id: agentId(params), ...parseInput(restartAgentBody, body) }),
  statement: ({ id, restart_policy, max_unavailable }) =>
    sqlText`select public.restart_agent(${id}::uuid,${restart_policy},${max_unavailable}) as result`,
  facts: (result: CommandFacts) => result,
  present: presentRestarted,
  status: 202,
  wakesWorker: true,
});
