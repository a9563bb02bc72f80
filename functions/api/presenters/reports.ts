import { isoTime } from "../../../shared/contract/times.ts";
import type { ReportedFacts } from "../../../shared/contract/facts.ts";
import { inAllEditions } from "./presenter.ts";

/** Answer of `report_logs`. */
export interface StoredLogs {
  agent_id: string;
  accepted: number;
  last_id: number | string;
  duplicate: boolean;
}

/** Answer of `report_metrics`. */
export interface StoredMetrics {
  agent_id: string;
  stored: boolean;
  reported: ReportedFacts | null;
}

/** Answer of `report_status`. */
export interface StoredStatus {
  agent_id: string;
  status: string;
  last_activity_at: string;
}

/** Answer of `report_conversation`. */
export interface StoredMessages {
  agent_id: string;
  conversation_id: string;
  accepted: number;
  already_known: number;
  duplicate: boolean;
}

/** Answer of `create_agent_key`. */
export interface AgentKeyFacts {
  api_key: string;
  key_id: string;
  agent_id: string;
  expires_at: string;
  permissions: string[];
}

/** `POST /api/agents/{id}/logs`. */
export const presentStoredLogs = inAllEditions<StoredLogs>((stored) => ({
  success: true,
  agent_id: stored.agent_id,
  accepted: stored.accepted,
  last_id: String(stored.last_id),
  duplicate: stored.duplicate,
}));

/** `POST /api/agents/{id}/metrics`: what all instances of the agent say together. */
export const presentStoredMetrics = inAllEditions<StoredMetrics>(
  ({ agent_id, stored, reported }) => ({
    success: true,
    agent_id,
    stored,
    reported: reported === null ? null : {
      instances: reported.instances,
      requests_total: reported.requests_total,
      requests_failed: reported.requests_failed,
      requests_per_minute: reported.requests_per_minute,
      error_rate: reported.error_rate,
      response_time_ms: reported.response_time_ms,
      checks: reported.checks.map(({ name, status, response_time_ms }) => ({
        name,
        status,
        response_time_ms,
      })),
    },
  }),
);

/** `PUT /api/agents/{id}/status`. */
export const presentStoredStatus = inAllEditions<StoredStatus>((stored) => ({
  success: true,
  agent_id: stored.agent_id,
  status: stored.status,
  last_activity: isoTime(stored.last_activity_at),
}));

/** `POST /api/agents/{id}/conversations`. */
export const presentStoredMessages = inAllEditions<StoredMessages>((stored) => ({
  success: true,
  agent_id: stored.agent_id,
  conversation_id: stored.conversation_id,
  accepted: stored.accepted,
  already_known: stored.already_known,
  duplicate: stored.duplicate,
}));

/** `POST /api/agents/{id}/keys`. */
export const presentAgentKey = inAllEditions<AgentKeyFacts>((key) => ({
  success: true,
  api_key: key.api_key,
  key_id: key.key_id,
  agent_id: key.agent_id,
  expires_at: isoTime(key.expires_at),
  permissions: key.permissions,
}));
