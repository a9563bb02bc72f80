import { reportMetricsBody } from "../../../shared/contract/report-requests.ts";
import { parseInput } from "../../../shared/contract/validation.ts";
import { jsonb, sqlText } from "../../../shared/database/literal.ts";
import { presentStoredMetrics, type StoredMetrics } from "../presenters/reports.ts";
import { defineRoute } from "../route.ts";
import { agentId } from "./ids.ts";

/** `POST /api/agents/{id}/metrics`: figures of its requests that an agent reports. */
export const handler = defineRoute({
  input: ({ params, body }) => ({ id: agentId(params), ...parseInput(reportMetricsBody, body) }),
  statement: ({ id, metrics, instance }) =>
    sqlText`select public.report_metrics(${id}::uuid,${jsonb(metrics)},${
      instance ?? ""
    }) as result`,
  facts: (result: StoredMetrics) => result,
  present: presentStoredMetrics,
  status: 201,
});
