import { logsQuery } from "../../../shared/contract/queries.ts";
import { parseInput } from "../../../shared/contract/validation.ts";
import { type LogFacts, presentLogs } from "../presenters/logs.ts";
import { defineRoute } from "../route.ts";
import { agentId } from "./ids.ts";
import { logStatement } from "./log-statement.ts";

/** `GET /api/agents/{id}/logs`; `follow=true` is answered as a stream. */
export const handler = defineRoute({
  input: ({ params, query, now }) => ({
    agentId: agentId(params),
    ...parseInput(logsQuery(now), Object.fromEntries(query)),
  }),
  statement: (input) => logStatement(input, null),
  facts: (result: Omit<LogFacts, "agentId">, input): LogFacts => ({
    ...result,
    agentId: input.agentId,
  }),
  present: presentLogs,
  status: 200,
  streams: (input) => input.follow,
  stream: async (input, context) => {
    const { followLogs } = await import("../log-stream.ts");
    return followLogs(input, context);
  },
});
