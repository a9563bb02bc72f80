import { updateAgentBody } from "../../../shared/contract/agent-requests.ts";
import { agentSpec } from "../../../shared/contract/agent-spec.ts";
import type { CommandFacts } from "../../../shared/contract/facts.ts";
import { parseInput } from "../../../shared/contract/validation.ts";
import { jsonb, sqlText } from "../../../shared/database/literal.ts";
import { presentUpdated } from "../presenters/commands.ts";
import { defineRoute } from "../route.ts";
import { agentId } from "./ids.ts";

/** `PUT /api/agents/{id}`: changes what is named and rolls it out. */
export const handler = defineRoute({
  input: ({ params, body }) => ({
    id: agentId(params),
    changes: agentSpec(parseInput(updateAgentBody, body)),
  }),
  statement: ({ id, changes }) =>
    sqlText`select public.update_agent(${id}::uuid,${jsonb(changes)}) as result`,
  facts: (result: CommandFacts) => result,
  present: presentUpdated,
  status: 202,
  wakesWorker: true,
});
