import type { JsonObject } from "../../../shared/contract/editions.ts";
import type {
  AnswerContext,
  ContainerRow,
  ServiceRow,
  SnapshotFacts,
} from "../../../shared/contract/facts.ts";
import { measurement3 } from "../../../shared/contract/measurements.ts";
import { healthWord, stateWord } from "../../../shared/contract/states.ts";
import { isoTime, latest, secondsBetween, uptimeText } from "../../../shared/contract/times.ts";
import { isRunning, replicaHealth, responseTime, stateOf, uptimeSeconds } from "./figures.ts";
import { operationProgress } from "./created.ts";
import type { Presenters } from "./presenter.ts";
import { isRealTimeActive } from "./real-time.ts";

function container3(container: ContainerRow, now: Date): JsonObject {
  return {
    id: container.id,
    name: container.name,
    status: container.status,
    health: container.health,
    uptime: isRunning(container) ? uptimeText(secondsBetween(container.started_at, now)) : null,
    restart_count: container.restart_count,
  };
}

function service3(service: ServiceRow): JsonObject {
  return {
    id: service.id,
    name: service.name,
    replicas: { running: service.replicas.running, desired: service.replicas.desired },
    ports: service.ports.map((port) => ({
      published: port.published,
      target: port.target,
      protocol: port.protocol,
    })),
  };
}

// Portainer's word for a stack that is up or was stopped; null before there is one.
function stackStatus(facts: SnapshotFacts): string | null {
  if (facts.deployment?.stack_id == null) return null;
  return facts.deployment.state === "stopped" ? "inactive" : "active";
}

/** What was checked from outside, and behind it what the agent checked itself under other names. */
function checks3({ deployment, reported }: SnapshotFacts): JsonObject[] {
  const seen = deployment?.health.checks ?? [];
  const said = (reported?.checks ?? []).filter(({ name }) =>
    !seen.some((check) => check.name === name)
  );
  return [
    ...seen.map((check) => ({
      name: check.name,
      status: check.status,
      response_time: check.response_time,
    })),
    ...said.map(({ name, status, response_time_ms: time }) => ({
      name,
      status,
      response_time: time === null ? null : `${Math.round(time)}ms`,
    })),
  ];
}

function agent3(facts: SnapshotFacts, { now }: AnswerContext): JsonObject {
  const { agent, deployment } = facts;
  return {
    agent: {
      id: agent.id,
      name: agent.name,
      status: stateWord(3, stateOf(agent, deployment)),
      created_at: isoTime(agent.created_at),
      deployed_at: isoTime(deployment?.deployed_at),
      // Null before one came up.
      revision: deployment?.revision || null,
      last_activity: isoTime(agent.last_activity_at),
      supabase: { database_record: { id: agent.id, updated_at: isoTime(agent.updated_at) } },
      portainer: {
        stack_id: deployment?.stack_id ?? null,
        stack_status: stackStatus(facts),
        containers: (deployment?.containers ?? []).map((container) => container3(container, now)),
        services: (deployment?.services ?? []).map(service3),
      },
      metrics: { ...measurement3(facts.metrics), uptime: uptimeSeconds(deployment, now) },
      health: {
        status: healthWord(3, deployment?.health.status),
        last_check: isoTime(deployment?.health.last_check),
        checks: checks3(facts),
      },
      // What went wrong after the request was answered: DEPLOYMENT_FAILED, CONTAINER_UNHEALTHY …
      error: (deployment?.error ?? null) as JsonObject | null,
      // Ours: the last operation, for who follows a deployment over REST alone.
      operation: lastOperation3(facts),
    },
  };
}

function lastOperation3({ operation }: SnapshotFacts): JsonObject | null {
  if (operation === null) return null;
  return {
    operation_id: operation.id,
    kind: operation.kind,
    ...operationProgress({ operation }),
    error: (operation.error ?? null) as JsonObject | null,
  };
}

function status1(facts: SnapshotFacts, { now }: AnswerContext): JsonObject {
  const { agent, deployment } = facts;
  return {
    agentId: agent.id,
    status: stateWord(1, stateOf(agent, deployment)),
    url: deployment?.url ?? null,
    health: {
      overall: healthWord(1, deployment?.health.status),
      // The replicas, whichever orchestrator keeps them; seeds 001 and 002 know Kubernetes only.
      kubernetes: {
        status: replicaHealth(deployment),
        replicas: deployment?.replicas_desired ?? null,
        readyReplicas: deployment?.replicas_ready ?? null,
        orchestrator: deployment?.orchestrator ?? null,
      },
      application: {
        status: healthWord(1, deployment?.health.status),
        uptime: uptimeText(uptimeSeconds(deployment, now)),
        responseTime: responseTime(deployment, facts.metrics, facts.reported),
      },
    },
    deployedAt: isoTime(deployment?.deployed_at),
    lastUpdated: latest([deployment?.updated_at, deployment?.deployed_at]) ??
      isoTime(agent.updated_at),
    error: (deployment?.error ?? null) as JsonObject | null,
  };
}

function status2(facts: SnapshotFacts, context: AnswerContext): JsonObject {
  const { agent } = facts;
  const { platform } = context;
  const first = status1(facts, context);
  return {
    ...first,
    name: agent.name,
    user_id: agent.user_id,
    health: {
      ...(first.health as JsonObject),
      supabase: {
        // These facts were read through it just now.
        connection: "HEALTHY",
        real_time_active: isRealTimeActive(agent, platform),
        rls_policies: platform === null ? null : platform.rlsActive ? "ACTIVE" : "INACTIVE",
      },
    },
    supabase_config: {
      project_ref: agent.supabase_config.project_ref ?? null,
      tables: {
        conversations: platform?.conversationsTable ?? null,
        metrics: platform?.metricsTable ?? null,
        logs: platform?.logsTable ?? null,
      },
    },
  };
}

/** `GET /api/agents/{id}` and `GET /api/agents/{id}/status`: one agent with everything about it. */
export const presentAgent: Presenters<SnapshotFacts> = { 1: status1, 2: status2, 3: agent3 };
