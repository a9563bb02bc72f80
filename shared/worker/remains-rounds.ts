import type { Sql } from "postgres";
import type { ClusterConnection, Orchestrator } from "../orchestrators/types.ts";
import type { Log } from "./log.ts";
import { clusterOf, type StoredCluster } from "./queue.ts";
import { createRounds } from "./rounds.ts";

export interface RemainsRoundsOptions {
  /** Connection as the role that owns the migrations. */
  sql: Sql;
  orchestratorFor: (cluster: ClusterConnection) => Orchestrator;
  log: Log;
}

/** Longer than a call may take, so that nobody else acts on the agent meanwhile. */
const LEASE = "120 seconds";
const TIMEOUT_MS = 100_000;
const AT_ONCE = 4;

/** A claimed agent with all it needs. Holds a secret: never logged. */
interface Remains {
  agent_id: string;
  lease_token: string;
  deployment: { stack_id: string | null; stack_name: string; namespace: string | null };
  cluster: StoredCluster;
}

/**
 * Takes away the second set of replicas that a rollout left beside the one that is reached when it was given up and nothing
 * followed it (`private.rollout_remains`). Looking first and repeating it is the drivers' part, so a worker that dies in it
 * loses nothing.
 */
export function createRemainsRounds(options: RemainsRoundsOptions): () => Promise<void> {
  const { sql, orchestratorFor, log } = options;

  async function carryOut(remains: Remains): Promise<void> {
    const { agent_id: agentId, lease_token: token, deployment } = remains;
    let cleared = true;
    try {
      await orchestratorFor(clusterOf(remains.cluster)).abandon({
        agentId,
        name: deployment.stack_name,
        stackId: deployment.stack_id,
        namespace: deployment.namespace,
      }, AbortSignal.timeout(TIMEOUT_MS));
    } catch (error) {
      cleared = false;
      log("warn", "what a rollout left could not be taken away", {
        agent_id: agentId,
        reason: error instanceof Error ? error.name : "unknown",
      });
    }
    await sql`select private.end_rollout_remains(${agentId}, ${token}, ${cleared})`;
  }

  async function round(): Promise<void> {
    for (;;) {
      const rows = await sql<{ remains: Remains }[]>`
        select remains from private.claim_rollout_remains(${AT_ONCE}, ${LEASE}::interval) remains
      `;
      if (rows.length === 0) return;
      await Promise.all(rows.map(({ remains }) => carryOut(remains)));
    }
  }

  return createRounds(log, "what rollouts left could not be looked after", round);
}
