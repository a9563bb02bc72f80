import type { Json, JsonObject } from "../../../shared/contract/editions.ts";
import { isoTime } from "../../../shared/contract/times.ts";
import type { Presenter, Presenters } from "./presenter.ts";

interface SecurityEventRow {
  id: string;
  event_type: string;
  severity: string;
  user_id: string | null;
  agent_id: string | null;
  message: string;
  timestamp: string;
  ip_address: string | null;
  user_agent: string | null;
  details: JsonObject;
  automated_response: JsonObject | null;
}

/** Answer of `list_security_events`: the last ones first, and how many there are in all. */
export interface SecurityEventsFacts {
  events: SecurityEventRow[];
  total: number;
}

function event1(event: SecurityEventRow): Json {
  return {
    id: event.id,
    type: event.event_type,
    severity: event.severity,
    agentId: event.agent_id,
    message: event.message,
    timestamp: isoTime(event.timestamp),
    details: event.details,
  };
}

function event2(event: SecurityEventRow): Json {
  return {
    id: event.id,
    event_type: event.event_type,
    severity: event.severity,
    user_id: event.user_id,
    agent_id: event.agent_id,
    message: event.message,
    timestamp: isoTime(event.timestamp),
    ip_address: event.ip_address,
    user_agent: event.user_agent,
    details: event.details,
    automated_response: event.automated_response,
  };
}

const second: Presenter<SecurityEventsFacts> = ({ events, total }, { userId }) => ({
  events: events.map(event2),
  total,
  user_id: userId,
});

/** `GET /api/security/events`; seed 000 has none of its own. */
export const presentSecurityEvents: Presenters<SecurityEventsFacts> = {
  1: ({ events, total }) => ({ events: events.map(event1), total }),
  2: second,
  3: second,
};
