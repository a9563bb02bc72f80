import postgres, { type Sql } from "postgres";
import type { ClusterConnection } from "../orchestrators/types.ts";
import { type Failure, LeaseLost } from "./failure.ts";
import type { Observation } from "./observation.ts";
import type { Json, Operation, OperationPlan, Placement, StepRecord } from "./plan.ts";

/** Something to write about a claimed operation; several go in one statement, all or none. */
export type Effect =
  | { is: "steps"; steps: Pick<StepRecord, "name" | "status" | "detail">[] }
  | { is: "placement"; placement: Placement }
  | { is: "observation"; observation: Observation }
  | { is: "breaker"; ok: boolean; error: string | null }
  | {
    is: "complete";
    result: { [key: string]: Json | undefined };
    placement: Placement | null;
    observation: Observation | null;
  }
  | { is: "fail"; failure: Failure }
  | { is: "postpone"; milliseconds: number };

export interface BreakerAnswer {
  allowed: boolean;
  retryAt: number | null;
}

/** Whether a lease still holds. */
export type LeaseState = "held" | "cancelled" | "lost";

/** The worker's side of the queue in Postgres; each method is one round trip. */
export interface Queue {
  claim(worker: string, leaseSeconds: number, most: number): Promise<Operation[]>;
  /** @throws {LeaseLost} */
  plan(operation: Operation): Promise<{ plan: OperationPlan; breaker: BreakerAnswer }>;
  renew(operations: Operation[], leaseSeconds: number): Promise<Map<string, LeaseState>>;
  /** @throws {LeaseLost} when the lease is another's: then nothing was written */
  write(operation: Operation, clusterId: string | null, effects: Effect[]): Promise<void>;
  /** Gives a cancelled operation back, so that what waits for it can begin. */
  giveBack(operation: Operation): Promise<void>;
  /** Begin of the newest call that another operation on this agent or stack did not see the end of. */
  cutOffCall(operation: Operation): Promise<Date | null>;
  /** Milliseconds since the epoch, by the database's clock. */
  now(): Promise<number>;
  /** Milliseconds until the next operation and the next look at a deployment are due; null when none is. */
  nextDue(): Promise<{ operation: number | null; look: number | null }>;
}

/** @param sql connection as the role that owns the migrations */
export function createQueue(sql: Sql): Queue {
  const effect = (operation: Operation, clusterId: string | null, item: Effect) => {
    const { id, lease_token: token } = operation;
    switch (item.is) {
      case "steps":
        return sql`private.record_steps(${id}, ${token}, ${json(sql, item.steps)})`;
      case "placement":
        return sql`private.record_placement(${id}, ${token}, ${json(sql, item.placement)})`;
      case "observation":
        return operation.stack_id === null
          ? sql`private.observe_deployment(${operation.agent_id}, ${json(sql, item.observation)})`
          : sql`private.observe_stack(${operation.stack_id}, ${json(sql, item.observation)})`;
      case "breaker":
        return sql`private.breaker_record(${
          breakerName(clusterId ?? "none")
        }, ${item.ok}, ${item.error})`;
      case "complete":
        return sql`private.complete_operation(
          ${id}, ${token}, ${json(sql, item.result)}, ${jsonOrNull(sql, item.placement)}, ${
          jsonOrNull(sql, item.observation)
        }
        )`;
      case "fail":
        return sql`private.fail_operation(${id}, ${token}, ${
          json(sql, item.failure.error)
        }, ${item.failure.retryable}, ${seconds(item.failure.retryAfterSeconds)}::interval)`;
      case "postpone":
        return sql`private.postpone_operation(${id}, ${token}, ${
          seconds(item.milliseconds / 1000)
        }::interval)`;
    }
  };
  return {
    claim: async (worker, leaseSeconds, most) => {
      const rows = await sql<{ operation: Operation; lease_token: string }[]>`
        select operation, lease_token
        from private.claim_operations(${worker}, ${seconds(leaseSeconds)}::interval, ${most})
      `;
      return rows.map((row) => ({ ...row.operation, lease_token: row.lease_token }));
    },
    plan: (operation) =>
      fenced(async () => {
        const [row] = await sql<{ plan: StoredPlan; breaker: StoredBreaker }[]>`
          with fetched as materialized (
            select private.operation_plan(${operation.id}, ${operation.lease_token}) as plan
          )
          select plan, private.breaker_allow('cluster:' || (plan #>> '{cluster,id}')) as breaker
          from fetched
        `;
        return { plan: planOf(row!.plan), breaker: breakerOf(row!.breaker) };
      }),
    renew: async (operations, leaseSeconds) => {
      const held = operations.map(({ id, lease_token: token }) => ({ id, token }));
      const rows = await sql<{ id: string; state: LeaseState }[]>`
        select id, private.renew_lease(id, token, ${seconds(leaseSeconds)}::interval) as state
        from jsonb_to_recordset(${json(sql, held)}) as held (id uuid, token uuid)
      `;
      return new Map(rows.map((row) => [row.id, row.state]));
    },
    write: (operation, clusterId, effects) =>
      fenced(async () => {
        if (effects.length === 0) return;
        const { id, lease_token: token } = operation;
        const calls = effects.map((item) => effect(operation, clusterId, item));
        // The agent is locked before its deployment, as commands do.
        if (effects[0]!.is === "observation") {
          calls.unshift(sql`private.hold_lease(${id}, ${token})`);
        }
        await sql`select ${calls.map((call, index) => index === 0 ? call : sql`, ${call}`)}`;
      }),
    cutOffCall: async (operation) => {
      const [row] = await sql<{ begun: Date | null }[]>`
        select max((step #>> '{detail,called_at}')::timestamptz) as begun
        from public.operations o cross join jsonb_array_elements(o.steps) step
        where (o.agent_id = ${operation.agent_id} or o.stack_id = ${operation.stack_id})
          and o.id <> ${operation.id} and o.state <> 'succeeded'
          and step #>> '{detail,call}' <> 'remove' and step #>> '{detail,returned}' = 'false'
      `;
      return row?.begun ?? null;
    },
    giveBack: async (operation) => {
      await sql`select private.release_operation(${operation.id}, ${operation.lease_token})`;
    },
    now: async () => {
      const [row] = await sql<{ now: number }[]>`
        select extract(epoch from clock_timestamp())::double precision * 1000 as now
      `;
      return row!.now;
    },
    nextDue: async () => {
      // In the order of an index each: the time that counts is that of the first row.
      const [row] = await sql<{ operation: number | null; look: number | null }[]>`
        select
          (
            select extract(epoch from q.run_after - clock_timestamp())::double precision * 1000
            from private.operation_queue q where not q.cancel_requested order by q.run_after limit 1
          ) as operation,
          (
            select extract(epoch from c.next_at - clock_timestamp())::double precision * 1000
            from private.collections c join public.deployments d on d.agent_id = c.agent_id
            where d.state in ('running', 'deploying', 'scaling', 'updating', 'restarting')
            order by c.next_at limit 1
          ) as look
      `;
      return row!;
    },
  };
}

export function breakerName(clusterId: string): string {
  return `cluster:${clusterId}`;
}

interface StoredBreaker {
  allowed: boolean;
  retry_at: string | null;
}

export function breakerOf({ allowed, retry_at: retryAt }: StoredBreaker): BreakerAnswer {
  return { allowed, retryAt: retryAt === null ? null : Date.parse(retryAt) };
}

/** A cluster, and under which address its agents are reached when an operator gave one. */
export type Cluster = ClusterConnection & { agentUrlTemplate: string | null };

/** The same as the database writes it. */
export type StoredCluster = Omit<ClusterConnection, "endpointId" | "credential"> & {
  /** Null while nobody has set one. */
  credential: string | null;
  endpoint_id: number | null;
  console_url: string | null;
  agent_url_template: string | null;
};

type StoredPlan = Omit<OperationPlan, "cluster"> & { cluster: StoredCluster | null };

function planOf(stored: StoredPlan): OperationPlan {
  return { ...stored, cluster: stored.cluster && clusterOf(stored.cluster) };
}

export function clusterOf(stored: StoredCluster): Cluster {
  const { id, name, kind, url, namespace, credential, options } = stored;
  return {
    id,
    name,
    kind,
    url,
    endpointId: stored.endpoint_id,
    namespace,
    credential: credential ?? "",
    options: stored.console_url === null ? options : { ...options, consoleUrl: stored.console_url },
    agentUrlTemplate: stored.agent_url_template,
  };
}

/** SQL state that private.hold_lease raises. */
const LEASE_LOST = "LP001";

/** Turns the database's refusal of a stale lease into {@link LeaseLost}. */
async function fenced<T>(run: () => Promise<T>): Promise<T> {
  try {
    return await run();
  } catch (error) {
    if (error instanceof postgres.PostgresError && error.code === LEASE_LOST) {
      throw new LeaseLost("the lease is another worker's");
    }
    throw error;
  }
}

function json(sql: Sql, value: unknown) {
  return sql.json(value as Parameters<Sql["json"]>[0]);
}

function jsonOrNull(sql: Sql, value: unknown) {
  return value === null ? null : json(sql, value);
}

function seconds(value: number): string;
function seconds(value: number | null): string | null;
function seconds(value: number | null): string | null {
  return value === null ? null : `${value} seconds`;
}
