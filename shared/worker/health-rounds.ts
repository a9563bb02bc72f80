import type { Sql } from "postgres";
import type { ServiceProbes } from "../health/services.ts";
import { type HealthStatus, statusOfAnswer } from "../health/status.ts";
import type { ClusterConnection, ClusterHealth, Orchestrator } from "../orchestrators/types.ts";
import type { Log } from "./log.ts";
import { clusterOf, type StoredCluster } from "./queue.ts";
import { createRounds } from "./rounds.ts";

export interface HealthRoundsOptions {
  /** Connection as the role that owns the migrations. */
  sql: Sql;
  orchestratorFor: (cluster: ClusterConnection) => Orchestrator;
  probeServices: ServiceProbes;
  log: Log;
}

/** A cluster that has not answered by then is down; the drivers give up earlier by themselves. */
const CLUSTER_TIMEOUT_MS = 8000;

/** A measured cluster as `public.cluster_health` keeps it. */
interface ClusterRow {
  status: HealthStatus;
  orchestrator: string | null;
  version: string | null;
  response_time_ms: number | null;
  message: string | null;
  nodes_ready: number | null;
  nodes_total: number | null;
  pods: object | null;
  containers: object | null;
  cpu_total: number | null;
  cpu_used: number | null;
  memory_total: number | null;
  memory_used: number | null;
}

/**
 * Makes the round of measurements: what is due of clusters and services (`collection.health_seconds`,
 * for all workers together) is measured side by side and kept.
 */
export function createHealthRounds(options: HealthRoundsOptions): () => Promise<void> {
  const { sql, orchestratorFor, probeServices, log } = options;
  const json = (value: unknown) => sql.json(value as Parameters<Sql["json"]>[0]);

  async function measureCluster(stored: StoredCluster): Promise<void> {
    const cluster = clusterOf(stored);
    let row: ClusterRow;
    try {
      const signal = AbortSignal.timeout(CLUSTER_TIMEOUT_MS);
      row = rowOf(await orchestratorFor(cluster).health(signal));
    } catch {
      // Its row names no usable cluster, or it was silent for too long.
      row = rowOf({
        status: "down",
        version: null,
        orchestrator: null,
        nodes: null,
        responseTimeMs: CLUSTER_TIMEOUT_MS,
        message: "The cluster is not usable.",
      });
    }
    await sql`select private.record_cluster_health(${cluster.id}, ${json(row)})`;
  }

  async function measureServices(): Promise<void> {
    await sql`select private.record_service_health(${json(await probeServices())})`;
  }

  async function round(): Promise<void> {
    const [row] = await sql<{ due: { services: boolean; clusters: StoredCluster[] } }[]>`
      select private.claim_health_checks() as due
    `;
    const { services, clusters } = row!.due;
    await Promise.all([
      ...clusters.map(measureCluster),
      ...(services ? [measureServices()] : []),
    ]);
  }

  return createRounds(log, "health could not be measured", round);
}

function statusOf(health: ClusterHealth): HealthStatus {
  if (health.status === "down") return "unhealthy";
  return health.status === "degraded" ? "degraded" : statusOfAnswer(health.responseTimeMs);
}

function rowOf(health: ClusterHealth): ClusterRow {
  const { figures, nodes } = health;
  const bytes = (value: number | null | undefined) =>
    value === null || value === undefined ? null : Math.round(value);
  return {
    status: statusOf(health),
    orchestrator: health.orchestrator,
    version: health.version,
    response_time_ms: health.status === "down" ? null : Math.round(health.responseTimeMs),
    message: health.message,
    nodes_ready: nodes?.ready ?? null,
    nodes_total: nodes?.total ?? null,
    pods: figures?.pods ?? null,
    containers: figures?.containers ?? null,
    cpu_total: figures?.cpu.total ?? null,
    cpu_used: figures?.cpu.used ?? null,
    memory_total: bytes(figures?.memory.total),
    memory_used: bytes(figures?.memory.used),
  };
}
