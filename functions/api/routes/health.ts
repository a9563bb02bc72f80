import { sqlText } from "../../../shared/database/literal.ts";
import { type CallerHealth, type HealthFacts, presentHealth } from "../presenters/health.ts";
import { defineRoute } from "../route.ts";

/**
 * `GET /api/health`: what was measured of the platform at most ten seconds ago, and what concerns the
 * caller. Every signed-in user may ask; of others' data it tells the documented counts only.
 */
export const handler = defineRoute({
  input: () => ({}),
  outside: (_input, { measureHealth }) => measureHealth(),
  statement: () => sqlText`select public.platform_health() as result`,
  facts: (mine: CallerHealth, _input, { caller, version }, measured): HealthFacts => ({
    mine,
    measured,
    version,
    bySession: caller.apiKeyId === null,
  }),
  present: presentHealth,
  status: 200,
});
