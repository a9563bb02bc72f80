import { reportStatusBody } from "../../../shared/contract/report-requests.ts";
import { parseInput } from "../../../shared/contract/validation.ts";
import { sqlText } from "../../../shared/database/literal.ts";
import { presentStoredStatus, type StoredStatus } from "../presenters/reports.ts";
import { defineRoute } from "../route.ts";
import { agentId } from "./ids.ts";

/** `PUT /api/agents/{id}/status`: what an agent is doing, as it says. */
export const handler = defineRoute({
  input: ({ params, body }) => ({ id: agentId(params), ...parseInput(reportStatusBody, body) }),
  statement: ({ id, status }) =>
    sqlText`select public.report_status(${id}::uuid,${status}) as result`,
  facts: (result: StoredStatus) => result,
  present: presentStoredStatus,
  status: 200,
});
