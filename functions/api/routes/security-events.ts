import { securityEventsQuery } from "../../../shared/contract/queries.ts";
import { parseInput } from "../../../shared/contract/validation.ts";
import { sqlText } from "../../../shared/database/literal.ts";
import { presentSecurityEvents, type SecurityEventsFacts } from "../presenters/security-events.ts";
import { defineRoute } from "../route.ts";

/** `GET /api/security/events`: what concerns the caller, and to administrators all. */
export const handler = defineRoute({
  input: ({ query, now }) => parseInput(securityEventsQuery(now), Object.fromEntries(query)),
  statement: ({ severity, event_type, since, limit }) =>
    sqlText`select public.list_security_events(${severity ?? null},${event_type ?? null},${
      since ?? null
    }::timestamptz,${limit}) as result`,
  facts: (result: SecurityEventsFacts) => result,
  present: presentSecurityEvents,
  status: 200,
});
