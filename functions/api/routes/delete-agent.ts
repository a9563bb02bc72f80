import type { CommandFacts } from "../../../shared/contract/facts.ts";
import { sqlText } from "../../../shared/database/literal.ts";
import { presentDeleted } from "../presenters/commands.ts";
import { defineRoute } from "../route.ts";
import { agentId } from "./ids.ts";

/** `DELETE /api/agents/{id}`: personal data goes at once, the containers by an operation. */
export const handler = defineRoute({
  input: ({ params }) => agentId(params),
  statement: (id) => sqlText`select public.delete_agent(${id}::uuid) as result`,
  facts: (result: CommandFacts) => result,
  present: presentDeleted,
  status: 202,
  wakesWorker: true,
});
