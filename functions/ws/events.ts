import type { RealtimePostgresChangesPayload } from "@supabase/supabase-js";
import type { MetricsRow } from "../../shared/contract/facts.ts";
import { measurement3 } from "../../shared/contract/measurements.ts";
import { stateWord } from "../../shared/contract/states.ts";
import { isoTime } from "../../shared/contract/times.ts";
import type { Topic } from "./messages.ts";

export type Row = Record<string, unknown>;
export type Change = RealtimePostgresChangesPayload<Row>;

/** A message about something that happened. */
export interface EventMessage {
  /**
   * Seed 000: `agent_status_update`, `container_event`, `metric_update`; seed 004: `event`;
   * `channel_event` for what comes on a channel of an agent.
   */
  type: string;
  event?: string;
  channel?: string;
  agent_id?: string;
  payload: Row;
  timestamp: string;
}

/** Which tables tell a topic, and which kind of change of them. */
export const SOURCES: Record<Topic, { table: string; event: "INSERT" | "*" }[]> = {
  // The sample of seed 000 subscribes to this one channel and expects all three kinds of message.
  agent_status: [
    { table: "agents", event: "*" },
    { table: "deployments", event: "*" },
    { table: "container_events", event: "INSERT" },
    { table: "agent_metrics", event: "INSERT" },
  ],
  container_event: [{ table: "container_events", event: "INSERT" }],
  metric_update: [{ table: "agent_metrics", event: "INSERT" }],
  "agent.status": [{ table: "agents", event: "*" }, { table: "deployments", event: "*" }],
};

/** Remembers the last status told of each agent, so that only changes of it are told. */
export interface StatusMemory {
  /** Whether it differs from what was told last. */
  changed(agentId: string, kind: "status" | "deployment", value: string): boolean;
  /** The follower sees this agent, of which nothing was told yet. */
  learn(agentId: string): void;
  /** Whether the follower is known to see it, or to have seen it. */
  knows(agentId: string): boolean;
}

/** Agents that one subscription's memory holds; the one told longest ago is forgotten first. */
export const MOST_AGENTS = 5_000;

export function createStatusMemory(): StatusMemory {
  const told = new Map<string, string>();
  const keyOf = (agentId: string, kind: "status" | "deployment") => `${kind} ${agentId}`;
  function remember(key: string, value: string): void {
    told.delete(key);
    told.set(key, value);
    if (told.size > MOST_AGENTS) told.delete(told.keys().next().value!);
  }
  return {
    changed(agentId, kind, value) {
      const key = keyOf(agentId, kind);
      if (told.get(key) === value) return false;
      remember(key, value);
      return true;
    },
    learn(agentId) {
      const key = keyOf(agentId, "status");
      if (!told.has(key)) remember(key, "");
    },
    knows: (agentId) => told.has(keyOf(agentId, "status")),
  };
}

/** The message a change means to whoever follows `topic`; null when it means nothing to it. */
export function toMessage(topic: Topic, change: Change, memory: StatusMemory): EventMessage | null {
  const row = change.new as Row;
  const timestamp = time(row.timestamp ?? row.updated_at) ?? change.commit_timestamp;
  switch (change.table) {
    case "agents": {
      const payload = agentStatus(change, row, memory);
      if (payload === null) return null;
      const { agent_id, status } = payload;
      if (!memory.changed(String(agent_id), "status", String(status))) return null;
      return named(topic, "agent_status_update", "agent.status", payload, timestamp);
    }
    case "deployments": {
      if (change.eventType === "DELETE") return null;
      const payload = deploymentStatus(row);
      const facts = `${row.state} ${row.replicas_ready}/${row.replicas_desired}`;
      if (!memory.changed(String(row.agent_id), "deployment", facts)) return null;
      return named(topic, "agent_status_update", "agent.status", payload, timestamp);
    }
    case "container_events":
      return { type: "container_event", payload: containerEvent(row), timestamp };
    case "agent_metrics":
      return { type: "metric_update", payload: metricUpdate(row), timestamp };
    default:
      return null;
  }
}

/** As all answers write it. */
function time(value: unknown): string | null {
  return isoTime(value as string | null | undefined);
}

/** Seed 000 names the kind in `type`; seed 004 names the event it was asked for. */
function named(
  topic: Topic,
  type: string,
  event: string,
  payload: Row,
  timestamp: string,
): EventMessage {
  return topic === "agent.status"
    ? { type: "event", event, payload, timestamp }
    : { type, payload, timestamp };
}

function agentStatus(change: Change, row: Row, memory: StatusMemory): Row | null {
  if (change.eventType === "DELETE") {
    const { id } = change.old as Row;
    // Realtime tells everybody the key of a row that is gone: no policy can be asked of it any more.
    return memory.knows(String(id)) ? { agent_id: id, status: "deleted" } : null;
  }
  return {
    agent_id: row.id,
    name: row.name,
    status: row.deleted_at === null ? stateWord(3, String(row.status)) : "deleted",
    last_activity: time(row.last_activity_at),
  };
}

function deploymentStatus(row: Row): Row {
  return {
    agent_id: row.agent_id,
    status: stateWord(3, String(row.state)),
    replicas: { desired: row.replicas_desired, running: row.replicas_ready },
    url: row.url,
    health: (row.health as Row | null)?.status ?? null,
    error: row.error ?? null,
  };
}

function containerEvent(row: Row): Row {
  return {
    id: row.id,
    agent_id: row.agent_id,
    event: row.event,
    container_id: row.container_id,
    container_name: row.container_name,
    details: row.details,
    timestamp: time(row.timestamp),
  };
}

/** In the units of `GET /api/agents/{id}`, which the reader of this stream has asked before. */
function metricUpdate(row: Row): Row {
  const { agent_id, timestamp, replicas, requests_total, requests_failed, response_time_ms } = row;
  return {
    agent_id,
    timestamp: time(timestamp),
    replicas,
    ...measurement3(row as unknown as MetricsRow),
    requests_total,
    requests_failed,
    response_time_ms,
  };
}
