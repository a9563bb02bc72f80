import type { JsonObject } from "../../../shared/contract/editions.ts";
import type { AnswerContext } from "../../../shared/contract/facts.ts";
import { percentOf, rounded } from "../../../shared/contract/measurements.ts";
import type { Presenters } from "./presenter.ts";

interface Resource {
  total: number | null;
  used: number | null;
}

/** Answer of `system_metrics`: cores and bytes; null for what nobody measured. */
export interface SystemMetricsFacts {
  scope: "system" | "own";
  agents: { total: number; active: number; deploying: number; failed: number };
  containers: { total: number; running: number; stopped: number; failed: number };
  deployments: { successful: number; failed: number };
  cpu: Resource;
  memory: Resource;
  storage: Resource;
  network: { rx: number | null; tx: number | null };
  /** Of the last five to six minutes, as many as `minutes` says. */
  performance: { requests: number; errors: number; duration_ms: number; minutes: number };
}

function resource({ total, used }: Resource, digits: number): JsonObject {
  return {
    total: total === null ? null : rounded(total, digits),
    used: used === null ? null : rounded(used, digits),
    percentage: percentOf(used, total),
  };
}

function resources(facts: SystemMetricsFacts, { now }: AnswerContext): JsonObject {
  const { agents, deployments } = facts;
  const finished = deployments.successful + deployments.failed;
  return {
    scope: facts.scope,
    system: {
      totalAgents: agents.total,
      runningAgents: agents.active,
      failedAgents: agents.failed,
      deployments: {
        successful: deployments.successful,
        failed: deployments.failed,
        successRate: percentOf(deployments.successful, finished),
      },
    },
    resources: {
      cpu: resource(facts.cpu, 3),
      memory: resource(facts.memory, 0),
      storage: resource(facts.storage, 0),
    },
    timestamp: now.toISOString(),
  };
}

function system3(facts: SystemMetricsFacts): JsonObject {
  const { agents, containers, cpu, memory, storage, network } = facts;
  const { requests, errors, duration_ms, minutes } = facts.performance;
  return {
    scope: facts.scope,
    system: {
      cpu_usage: percentOf(cpu.used, cpu.total),
      memory_usage: percentOf(memory.used, memory.total),
      disk_usage: percentOf(storage.used, storage.total),
      network_rx: network.rx,
      network_tx: network.tx,
    },
    containers: {
      total: containers.total,
      running: containers.running,
      stopped: containers.stopped,
      failed: containers.failed,
    },
    agents: {
      total: agents.total,
      active: agents.active,
      deploying: agents.deploying,
      failed: agents.failed,
    },
    performance: {
      average_response_time: requests === 0 ? null : `${Math.round(duration_ms / requests)}ms`,
      requests_per_minute: rounded(requests / minutes, 2),
      error_rate: requests === 0 ? null : rounded(errors / requests, 4),
    },
  };
}

/** `GET /api/metrics` and `GET /api/system/metrics`. */
export const presentSystemMetrics: Presenters<SystemMetricsFacts> = {
  1: resources,
  2: resources,
  3: system3,
};
