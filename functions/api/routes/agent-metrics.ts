import { metricsQuery } from "../../../shared/contract/queries.ts";
import { INTERVALS, TIMEFRAMES } from "../../../shared/contract/times.ts";
import { parseInput } from "../../../shared/contract/validation.ts";
import { sqlText } from "../../../shared/database/literal.ts";
import { type MetricsFacts, presentMetrics } from "../presenters/metrics.ts";
import { defineRoute } from "../route.ts";
import { agentId } from "./ids.ts";

/** `GET /api/agents/{id}/metrics`. */
export const handler = defineRoute({
  input: ({ params, query }) => ({
    agentId: agentId(params),
    ...parseInput(metricsQuery, Object.fromEntries(query)),
  }),
  statement: (input, { now, editions }) => {
    const since = new Date(now.getTime() - TIMEFRAMES[input.timeframe]);
    const seconds = INTERVALS[input.interval];
    const series =
      sqlText`public.agent_metric_series(${input.agentId}::uuid,${since}, make_interval(secs =>${seconds}))`;
    return editions.includes(2)
      ? sqlText`select${series} || jsonb_build_object('supabase', public.supabase_usage(${input.agentId}::uuid)) as result`
      : sqlText`select${series} as result`;
  },
  facts: (series: MetricsFacts["series"], input): MetricsFacts => ({ ...input, series }),
  present: presentMetrics,
  status: 200,
});
