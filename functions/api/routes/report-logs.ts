import { reportLogsBody } from "../../../shared/contract/report-requests.ts";
import { parseInput } from "../../../shared/contract/validation.ts";
import { jsonb, sqlText } from "../../../shared/database/literal.ts";
import { presentStoredLogs, type StoredLogs } from "../presenters/reports.ts";
import { defineRoute } from "../route.ts";
import { agentId } from "./ids.ts";

/** `POST /api/agents/{id}/logs`: log lines that an agent reports. */
export const handler = defineRoute({
  input: ({ params, body }) => ({ id: agentId(params), ...parseInput(reportLogsBody, body) }),
  statement: ({ id, lines, instance, batch_id }) =>
    sqlText`select public.report_logs(${id}::uuid,${jsonb(lines)},${instance ?? null},${
      batch_id ?? null
    }) as result`,
  facts: (result: StoredLogs) => result,
  present: presentStoredLogs,
  status: 201,
});
