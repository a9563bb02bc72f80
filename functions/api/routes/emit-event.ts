import { emitEventBody } from "../../../shared/contract/event-requests.ts";
import type { EmittedFacts } from "../../../shared/contract/facts.ts";
import { parseInput } from "../../../shared/contract/validation.ts";
import { jsonb, sqlText } from "../../../shared/database/literal.ts";
import { presentEmitted } from "../presenters/real-time.ts";
import { defineRoute } from "../route.ts";
import { agentId } from "./ids.ts";

/** `POST /api/agents/{id}/events`: says something on a channel of an agent. */
export const handler = defineRoute({
  input: ({ params, body }) => ({ id: agentId(params), ...parseInput(emitEventBody, body) }),
  statement: ({ id, channel, event, payload }) =>
    sqlText`select public.emit_agent_event(${id}::uuid,${channel},${event},${
      jsonb(payload)
    }) as result`,
  facts: (result: EmittedFacts) => result,
  present: presentEmitted,
  status: 201,
});
