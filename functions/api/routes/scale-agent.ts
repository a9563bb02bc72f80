import { scaleAgentBody } from "../../../shared/contract/agent-requests.ts";
import { scalingOf } from "../../../shared/contract/agent-spec.ts";
import type { CommandFacts } from "../../../shared/contract/facts.ts";
import { parseInput } from "../../../shared/contract/validation.ts";
import { jsonb, sqlText } from "../../../shared/database/literal.ts";
import { presentScaled } from "../presenters/commands.ts";
import { defineRoute } from "../route.ts";
import { agentId } from "./ids.ts";

/** `POST /api/agents/{id}/scale`. */
export const handler = defineRoute({
  input: ({ params, body }) => ({ id: agentId(params), ...parseInput(scaleAgentBody, body) }),
  statement: (input) => {
    const scaling = scalingOf(input);
    return sqlText`select public.scale_agent(${input.id}::uuid,${input.replicas},${input.strategy},${
      scaling === null ? null : jsonb(scaling)
    }) as result`;
  },
  facts: (result: CommandFacts) => result,
  present: presentScaled,
  status: 202,
  wakesWorker: true,
});
