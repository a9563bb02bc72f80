import { emptyBody } from "../../../shared/contract/agent-requests.ts";
import type { CommandFacts } from "../../../shared/contract/facts.ts";
import { parseInput } from "../../../shared/contract/validation.ts";
import { sqlText } from "../../../shared/database/literal.ts";
import { presentStopped } from "../presenters/commands.ts";
import { defineRoute } from "../route.ts";
import { agentId } from "./ids.ts";

/** `POST /api/agents/{id}/stop`. */
export const handler = defineRoute({
  input: ({ params, body }) => {
    parseInput(emptyBody, body);
    return agentId(params);
  },
  statement: (id) => sqlText`select public.stop_agent(${id}::uuid) as result`,
  facts: (result: CommandFacts) => result,
  present: presentStopped,
  status: 202,
  wakesWorker: true,
});
