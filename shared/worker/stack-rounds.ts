import type { Sql } from "postgres";
import { mapLimited } from "../orchestrators/concurrency.ts";
import type { ClusterConnection, Orchestrator } from "../orchestrators/types.ts";
import { usageOf } from "./collector/metrics.ts";
import type { Log } from "./log.ts";
import { observationOf } from "./observation.ts";
import { clusterOf, type StoredCluster } from "./queue.ts";
import { createRedactor } from "./redaction.ts";
import { createRounds } from "./rounds.ts";

export interface StackRoundsOptions {
  /** Connection as the role that owns the migrations. */
  sql: Sql;
  orchestratorFor: (cluster: ClusterConnection) => Orchestrator;
  log: Log;
}

/** Stacks one round takes; what is left over is due in the next one. */
const MOST = 64;
const AT_ONCE = 8;
const LOOK_TIMEOUT_MS = 15_000;

interface DueStack {
  id: string;
  stack_name: string;
  portainer_stack_id: string | null;
  environment: Record<string, string>;
  cluster: StoredCluster;
}

/**
 * Looks at the running stacks that are due (`collection.stack_seconds`, for all workers together), so that their
 * services are shown as they are and not as they were deployed, and counts for what it uses.
 */
export function createStackRounds(options: StackRoundsOptions): () => Promise<void> {
  const { sql, orchestratorFor, log } = options;

  async function look(stack: DueStack): Promise<void> {
    const cluster = clusterOf(stack.cluster);
    const json = (value: unknown) => sql.json(value as Parameters<Sql["json"]>[0]);
    const signal = AbortSignal.timeout(LOOK_TIMEOUT_MS);
    const ref = {
      agentId: stack.id,
      name: stack.stack_name,
      stackId: stack.portainer_stack_id,
      namespace: null,
      composed: true,
    };
    try {
      const upstream = orchestratorFor(cluster);
      const seen = await upstream.inspect(ref, signal);
      const redactor = createRedactor([...Object.values(stack.environment), cluster.credential]);
      const observation = seen === null ? { gone: true } : observationOf(seen, redactor, null);
      await sql`select private.observe_stack(${stack.id}, ${json(observation)})`;
      if (seen === null) return;
      const samples = await upstream.metrics(ref, signal) ?? [];
      await sql`select private.measure_stack(${stack.id}, ${json(usageOf(samples))})`;
    } catch (error) {
      log("warn", "a stack could not be looked at", {
        stack_id: stack.id,
        reason: error instanceof Error ? error.name : "unknown",
      });
    }
  }

  async function round(): Promise<void> {
    const rows = await sql<{ due: DueStack }[]>`select private.claim_stack_looks(${MOST}) as due`;
    await mapLimited(rows, AT_ONCE, ({ due }) => look(due));
  }

  return createRounds(log, "stacks could not be looked at", round);
}
