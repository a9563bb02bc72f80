import type { Sql } from "postgres";
import type { Observation } from "../observation.ts";
import {
  type BreakerAnswer,
  breakerName,
  breakerOf,
  type Cluster,
  clusterOf,
  type StoredCluster,
} from "../queue.ts";
import type { Verdict } from "../upstream.ts";
import { copyLogRows, type LogRow } from "./copy-rows.ts";
import type { LogCursors } from "./logs.ts";
import type { MetricsRow, RequestCounters } from "./metrics.ts";

/** How far the reading of a deployment is: `private.collections.cursor`. */
export interface CollectionCursor {
  logs?: LogCursors;
  requests?: RequestCounters | null;
}

/** A deployment that is due to be looked at. Holds secrets: never logged, never stored. */
export interface Collection {
  agent_id: string;
  user_id: string;
  deployment: {
    stack_id: string | null;
    stack_name: string;
    namespace: string | null;
    containers: { id: string; name: string; started_at: string | null }[];
  };
  /** Its orchestrator scales it by itself. */
  autoscaled: boolean;
  cluster: Cluster;
  environment: Record<string, string>;
  cursor: CollectionCursor;
  due: { state: boolean; logs: boolean; metrics: boolean };
  breaker: BreakerAnswer;
}

/** What a look brought. */
export interface Findings {
  rows: LogRow[];
  metrics: MetricsRow | null;
  observation: Observation | null;
  /** What was done to its end, so that it is not due again at once. */
  done: { state?: boolean; logs?: boolean; metrics?: boolean };
}

export interface CollectionStore {
  /** Leases due deployments; a lease that is not ended by `save` or `putBack` ends by itself. */
  claim(most: number, leaseSeconds: number): Promise<Collection[]>;
  /** Stores findings and cursor in one transaction. With `nextInSeconds` it ends the look. */
  save(
    collection: Collection,
    findings: Findings & { cursor: CollectionCursor; verdict?: Verdict; nextInSeconds?: number },
  ): Promise<void>;
  /** Ends a look that brought nothing. */
  putBack(
    collection: Collection,
    nextInSeconds: number,
    verdict: Verdict | null,
  ): Promise<void>;
}

/** The deployment is no longer ours to look at: it was deleted, or another worker has it. */
export class CollectionLost extends Error {
  override readonly name = "CollectionLost";
}

type StoredCollection = Omit<Collection, "cluster" | "breaker"> & { cluster: StoredCluster };

/** @param worker names this worker in the leases; unique among workers */
export function createCollectionStore(sql: Sql, worker: string): CollectionStore {
  const json = (value: unknown) => sql.json(value as Parameters<Sql["json"]>[0]);
  return {
    claim: async (most, leaseSeconds) => {
      const rows = await sql<
        { collection: StoredCollection; breaker: { allowed: boolean; retry_at: string | null } }[]
      >`
        select c as collection, private.breaker_allow('cluster:' || (c #>> '{cluster,id}')) as breaker
        from private.claim_collections(${worker}, ${most}, ${`${leaseSeconds} seconds`}::interval) c
      `;
      return rows.map(({ collection, breaker }) => ({
        ...collection,
        cluster: clusterOf(collection.cluster),
        breaker: breakerOf(breaker),
      }));
    },
    save: (collection, { rows, metrics, observation, done, cursor, verdict, nextInSeconds }) =>
      sql.begin(async (transaction) => {
        // Rows and cursor are kept or lost together, and what was lost is read again: no need to wait for the disk.
        const [held] = await transaction`
          update private.collections set cursor = ${json(cursor)}
          where leased_by = ${worker} and agent_id = (
            -- Locked before what belongs to it, as it is by those who delete the agent.
            select a.id from public.agents a where a.id = ${collection.agent_id} for key share
          )
          returning set_config('synchronous_commit', 'off', true), private.order_log_writers(agent_id), (
            select d.state in ('stopping', 'stopped') from public.deployments d where d.agent_id = collections.agent_id
          ) as stopped
        `;
        if (held === undefined) throw new CollectionLost("the deployment is not ours to look at");
        if (observation !== null) {
          // While an operation is under way it observes itself; an older look must not come after a newer.
          await transaction`
            select private.observe_deployment(d.agent_id, ${json(observation)})
            from public.deployments d where d.agent_id = ${collection.agent_id} and d.state = 'running'
          `;
        }
        // What was measured before the agent stopped must not become its present measurement.
        if (metrics !== null && held.stopped !== true) {
          await transaction`
            insert into public.agent_metrics ${
            transaction({
              ...metrics,
              agent_id: collection.agent_id,
              user_id: collection.user_id,
              containers: json(metrics.containers),
            })
          }
          `;
        }
        if (rows.length > 0) {
          await copyLogRows(
            transaction,
            { agentId: collection.agent_id, userId: collection.user_id },
            rows,
          );
        }
        if (verdict !== undefined && verdict.ok !== null) {
          await transaction`
            select private.breaker_record(
              ${breakerName(collection.cluster.id)}, ${verdict.ok}, ${verdict.error}
            )
          `;
        }
        if (nextInSeconds !== undefined) {
          await transaction`
            select private.finish_collection(
              ${collection.agent_id}, null, ${`${nextInSeconds} seconds`}::interval, ${json(done)}
            )
          `;
        }
      }).then(() => undefined),
    putBack: async (collection, nextInSeconds, verdict) => {
      await sql`
        select private.finish_collection(
          agent_id, null, ${`${nextInSeconds} seconds`}::interval, '{}'
        )
        from private.collections
        where agent_id = ${collection.agent_id} and leased_by = ${worker}
      `;
      if (verdict !== null && verdict.ok !== null) {
        await sql`
          select private.breaker_record(
            ${breakerName(collection.cluster.id)}, ${verdict.ok}, ${verdict.error}
          )
        `;
      }
    },
  };
}
