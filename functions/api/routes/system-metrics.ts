import { sqlText } from "../../../shared/database/literal.ts";
import { presentSystemMetrics, type SystemMetricsFacts } from "../presenters/system-metrics.ts";
import { defineRoute } from "../route.ts";

/**
 * `GET /api/metrics` (edition 3) and `GET /api/system/metrics` (editions 1 and 2). Needs
 * monitoring:read. Who holds monitoring:read_all or system:read gets the figures of everybody, others
 * those of their own agents and requests; `scope` says which.
 */
export const handler = defineRoute({
  input: () => ({}),
  statement: () => sqlText`select public.system_metrics() as result`,
  facts: (result: SystemMetricsFacts) => result,
  present: presentSystemMetrics,
  status: 200,
});
