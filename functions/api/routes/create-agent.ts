import { createAgentBody } from "../../../shared/contract/agent-requests.ts";
import { agentSpec } from "../../../shared/contract/agent-spec.ts";
import type { CommandFacts } from "../../../shared/contract/facts.ts";
import { parseInput } from "../../../shared/contract/validation.ts";
import { jsonb, sqlText } from "../../../shared/database/literal.ts";
import { presentCreated } from "../presenters/created.ts";
import { defineRoute } from "../route.ts";

/** `POST /api/agents`: makes an agent and queues its deployment. */
export const handler = defineRoute({
  input: ({ body }) => agentSpec(parseInput(createAgentBody, body)),
  statement: (spec) => sqlText`select public.create_agent(${jsonb(spec)}) as result`,
  facts: (result: CommandFacts) => result,
  present: presentCreated,
  status: 201,
  location: (facts) => `/api/agents/${facts.agent.id}`,
  wakesWorker: true,
});
