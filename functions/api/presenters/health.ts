import type { JsonObject } from "../../../shared/contract/editions.ts";
import type { AnswerContext } from "../../../shared/contract/facts.ts";
import { earliest, isoTime, secondsBetween, uptimeText } from "../../../shared/contract/times.ts";
import type { PlatformHealth } from "../../../shared/database/health-monitor.ts";
import {
  type HealthStatus,
  type Measured,
  overallStatus,
  type ServiceName,
  statusOfGroup,
} from "../../../shared/health/status.ts";
import { sizeText } from "./figures.ts";
import type { Presenters } from "./presenter.ts";

type Count = number | null;

/** A cluster as `platform_health` gives it; who it is is told to operators only. */
export interface MeasuredCluster {
  id?: string;
  name?: string;
  kind: "portainer" | "kubernetes";
  orchestrator: string | null;
  /** Null when nobody measured it within a minute. */
  status: HealthStatus | null;
  response_time_ms: Count;
  nodes: { total: number; ready: Count } | null;
  pods: { total: Count; running: Count; pending: Count; failed: Count } | null;
  checked_at: string | null;
}

/** Answer of `platform_health`. */
export interface CallerHealth {
  permissions: string[];
  clusters: MeasuredCluster[];
  agents_on_kubernetes: number;
}

export interface HealthFacts {
  measured: PlatformHealth;
  mine: CallerHealth;
  version: string;
  /** Whether the caller came with an access token. */
  bySession: boolean;
}

/** What Supabase itself consists of; the database is measured apart. */
const SUPABASE: readonly ServiceName[] = ["auth", "realtime", "storage", "functions"];

const upper = (status: HealthStatus) => status.toUpperCase();
const timeText = (milliseconds: Count) => milliseconds === null ? null : `${milliseconds}ms`;

/** The sum when every part is known. */
function sum(values: readonly (Count | undefined)[]): Count {
  const known = values.filter((value) => typeof value === "number");
  if (known.length === 0 || known.length < values.length) return null;
  return known.reduce((total, value) => total + value, 0);
}

function slowest(values: readonly Count[]): Count {
  const known = values.filter((value) => value !== null);
  return known.length === 0 ? null : Math.max(...known);
}

interface ClusterGroup {
  status: HealthStatus;
  responseTime: Count;
  lastCheck: string | null;
  nodes: { total: number; ready: number; not_ready: number } | null;
  pods: { total: number; running: Count; pending: Count; failed: Count } | null;
}

function groupOf(clusters: readonly MeasuredCluster[]): ClusterGroup {
  const total = sum(clusters.map(({ nodes }) => nodes?.total));
  const ready = sum(clusters.map(({ nodes }) => nodes?.ready));
  const pods = (name: "total" | "running" | "pending" | "failed") =>
    sum(clusters.map((cluster) => cluster.pods?.[name]));
  const allPods = pods("total");
  return {
    status: statusOfGroup(clusters.map(({ status }) => status ?? "unavailable")),
    responseTime: slowest(clusters.map((cluster) => cluster.response_time_ms)),
    lastCheck: earliest(clusters.map((cluster) => cluster.checked_at)),
    nodes: total === null || ready === null ? null : { total, ready, not_ready: total - ready },
    pods: allPods === null ? null : {
      total: allPods,
      running: pods("running"),
      pending: pods("pending"),
      failed: pods("failed"),
    },
  };
}

const runsKubernetes = ({ kind, orchestrator }: MeasuredCluster) =>
  kind === "kubernetes" || orchestrator === "portainer-kubernetes";

function clusterGroups({ clusters }: CallerHealth) {
  const portainers = clusters.filter(({ kind }) => kind === "portainer");
  return {
    portainer: groupOf(portainers),
    behindPortainer: {
      kubernetes: groupOf(portainers.filter(runsKubernetes)).status,
      docker: groupOf(portainers.filter((cluster) => !runsKubernetes(cluster))).status,
    },
    kubernetes: groupOf(clusters.filter(runsKubernetes)),
  };
}

/** By the rule of `overallStatus`; a cluster that should have been measured and was not is a want. */
function statusOfAll({ measured, mine }: HealthFacts): HealthStatus {
  const { auth, ...others } = measured.services;
  return overallStatus(
    [measured.database.status, auth.status],
    [
      ...Object.values(others).map(({ status }) => status),
      ...mine.clusters.map(({ status }) => status ?? "degraded"),
    ],
  );
}

function health1(facts: HealthFacts, { now }: AnswerContext): JsonObject {
  const { database, services } = facts.measured;
  const { kubernetes } = clusterGroups(facts.mine);
  const { redis, registry } = services;
  return {
    status: upper(statusOfAll(facts)),
    timestamp: now.toISOString(),
    version: facts.version,
    components: {
      database: {
        status: upper(database.status),
        responseTime: timeText(database.response_time_ms),
        connections: database.load?.total ?? null,
        lastCheck: isoTime(database.checked_at),
      },
      kubernetes: {
        status: upper(kubernetes.status),
        nodes: kubernetes.nodes?.total ?? null,
        pods: kubernetes.pods?.total ?? null,
        lastCheck: kubernetes.lastCheck,
      },
      redis: {
        status: upper(redis.status),
        memory: sizeText(numberOf(redis, "memory_bytes")),
        connections: numberOf(redis, "connections"),
        lastCheck: isoTime(redis.checked_at),
      },
      registry: {
        status: upper(registry.status),
        available: available(registry),
        lastCheck: isoTime(registry.checked_at),
      },
    },
  };
}

function health2(facts: HealthFacts, { now, userId, platform }: AnswerContext): JsonObject {
  const { database, services, figures } = facts.measured;
  const { kubernetes } = clusterGroups(facts.mine);
  const { auth, realtime, storage, functions, registry } = services;
  const timed = (measured: Measured) => ({
    status: upper(measured.status),
    responseTime: timeText(measured.response_time_ms),
    lastCheck: isoTime(measured.checked_at),
  });
  return {
    status: upper(statusOfAll(facts)),
    timestamp: now.toISOString(),
    version: facts.version,
    user_id: userId,
    components: {
      supabase: {
        status: upper(supabaseStatus(facts.measured)),
        database: {
          ...timed(database),
          connections: database.load?.total ?? null,
          rls_active: platform === null ? null : platform.tablesExist && platform.rlsActive,
        },
        auth: {
          ...timed(auth),
          active_sessions: figures?.active_sessions ?? null,
          // Without a token there is none to judge.
          jwt_valid: facts.bySession ? true : null,
        },
        realtime: {
          ...timed(realtime),
          // Null on the hosted platform, where Realtime keeps its connections to itself.
          active_connections: numberOf(realtime, "connections"),
          subscriptions: figures?.subscriptions ?? null,
        },
        storage: {
          ...timed(storage),
          buckets: figures?.buckets ?? null,
          total_size: sizeText(figures?.stored_bytes ?? null),
        },
        edge_functions: timed(functions),
      },
      kubernetes: {
        status: upper(kubernetes.status),
        nodes: kubernetes.nodes?.total ?? null,
        pods: kubernetes.pods?.total ?? null,
        user_agents: facts.mine.agents_on_kubernetes,
        lastCheck: kubernetes.lastCheck,
      },
      container_registry: {
        status: upper(registry.status),
        available: available(registry),
        last_scan: isoTime(figures?.last_image_scan),
        lastCheck: isoTime(registry.checked_at),
      },
    },
    user_permissions: facts.mine.permissions,
  };
}

function health3(facts: HealthFacts, { now }: AnswerContext): JsonObject {
  const { database, services } = facts.measured;
  const { portainer, behindPortainer, kubernetes } = clusterGroups(facts.mine);
  const supabase = SUPABASE.map((name) => services[name]);
  const named = facts.mine.clusters.filter(({ id }) => id !== undefined);
  return {
    status: statusOfAll(facts),
    timestamp: now.toISOString(),
    components: {
      supabase: {
        status: supabaseStatus(facts.measured),
        response_time: timeText(slowest(supabase.map((each) => each.response_time_ms))),
        last_check: earliest(supabase.map((each) => each.checked_at)),
      },
      portainer: {
        status: portainer.status,
        response_time: timeText(portainer.responseTime),
        last_check: portainer.lastCheck,
        endpoints: behindPortainer,
      },
      kubernetes: {
        status: kubernetes.status,
        nodes: kubernetes.nodes,
        pods: kubernetes.pods,
        last_check: kubernetes.lastCheck,
      },
      database: {
        status: database.status,
        response_time: timeText(database.response_time_ms),
        last_check: isoTime(database.checked_at),
        connections: {
          active: database.load?.active ?? null,
          idle: database.load?.idle ?? null,
          max: database.load?.max ?? null,
        },
      },
      ...(named.length === 0 ? {} : {
        clusters: named.map(({ id = null, name = null, status, checked_at }) => ({
          id,
          name,
          status: status ?? "unavailable",
          last_check: isoTime(checked_at),
        })),
      }),
    },
    version: facts.version,
    uptime: uptimeText(secondsBetween(database.load?.started_at, now)),
  };
}

/** Of all its parts that the project has. */
function supabaseStatus({ database, services }: PlatformHealth): HealthStatus {
  const { auth, realtime, storage, functions } = services;
  return overallStatus(
    [database.status, auth.status],
    [realtime.status, storage.status, functions.status],
  );
}

/** Null when none is watched. */
function available({ status }: Measured): boolean | null {
  return status === "unavailable" ? null : status !== "unhealthy";
}

function numberOf(measured: Measured, name: string): number | null {
  const value = measured.details?.[name];
  return typeof value === "number" ? value : null;
}

/** `GET /api/health`. */
export const presentHealth: Presenters<HealthFacts> = { 1: health1, 2: health2, 3: health3 };
