import type {
  ClusterConnection,
  Orchestrator,
  WorkloadRef,
  WorkloadState,
} from "../../orchestrators/types.ts";
import type { Clock } from "../clock.ts";
import type { Log } from "../log.ts";
import { NOTHING_OBSERVED, observationOf } from "../observation.ts";
import { createRedactor } from "../redaction.ts";
import type { WorkerSettings } from "../settings.ts";
import { watched } from "../upstream.ts";
import type { Collection, CollectionCursor, CollectionStore, Findings } from "./store.ts";
import { type LogSource, readLogs, skipBacklog } from "./logs.ts";
import { measure } from "./metrics.ts";

export interface CollectionTools {
  store: CollectionStore;
  orchestratorFor: (cluster: ClusterConnection) => Orchestrator;
  clock: Clock;
  log: Log;
  settings: WorkerSettings;
  signal: AbortSignal;
  /** Agents whose logs are being caught up with; shared by all looks of a worker. */
  catchingUp: Set<string>;
}

/**
 * Looks at one deployment: its containers, what they logged, what they use, as far as each is due. Errors of the cluster
 * count for its breaker and end the look; what was read before them is kept.
 */
export async function collect(collection: Collection, tools: CollectionTools): Promise<void> {
  const { settings, clock, store } = tools;
  const { deployment } = collection;
  const signal = AbortSignal.any([
    tools.signal,
    AbortSignal.timeout(settings.collectionTimeoutSeconds * 1000),
  ]);
  const redactor = createRedactor([
    ...Object.values(collection.environment),
    collection.cluster.credential,
  ]);
  let watching: ReturnType<typeof watched>;
  try {
    watching = watched(tools.orchestratorFor(collection.cluster));
  } catch {
    // The cluster's row is wrong; operations say so to their owners.
    return await store.putBack(collection, 30, null);
  }
  const { upstream, verdict } = watching;
  const ref: WorkloadRef = {
    agentId: collection.agent_id,
    name: deployment.stack_name,
    stackId: deployment.stack_id,
    namespace: deployment.namespace,
    ...(collection.autoscaled ? { autoscaled: true } : {}),
  };
  const reading = { upstream, ref, redactor, settings, clock, signal };
  const due = collection.due;
  let cursor: CollectionCursor = collection.cursor;
  let quiet = true;

  try {
    const findings: Findings = { done: {}, rows: [], metrics: null, observation: null };
    let state: WorkloadState | null = null;
    if (due.state || due.metrics) {
      state = await upstream.inspect(ref, signal);
      findings.observation = state === null
        ? NOTHING_OBSERVED
        : observationOf(state, redactor, collection.cluster.agentUrlTemplate);
      findings.done.state = true;
    }
    if (due.metrics && state !== null) {
      const samples = await upstream.metrics(ref, signal);
      const measured = measure(
        samples ?? [],
        state.containers,
        cursor.requests ?? null,
        clock.now(),
      );
      findings.metrics = redactor.data(measured.row);
      findings.done.metrics = true;
      cursor = { ...cursor, requests: measured.counters };
    }
    if (due.logs) {
      const sources = sourcesOf(state, deployment.containers);
      const present = Object.fromEntries(
        Object.entries(cursor.logs ?? {}).filter(([id]) =>
          sources.some((source) => source.id === id)
        ),
      );
      let round = await readLogs(sources, present, settings.logReadBytes, reading);
      const catchUp = round.behind.length > 0 && tools.catchingUp.size < settings.logCatchUps;
      if (catchUp) tools.catchingUp.add(collection.agent_id);
      // A page that was cut is stored while the next one is read: memory holds two of them at most.
      for (
        let budget = settings.logCatchUpBytes;
        catchUp && round.behind.length > 0 && budget > 0;
      ) {
        budget -= round.rows.reduce((sum, row) => sum + row.message.length + 64, 0);
        const skipped = await skipWhatIsTooFarBehind(round.behind, round.cursors);
        cursor = { ...cursor, logs: round.cursors };
        const rows = [...round.rows, ...skipped];
        const [stored, next] = await Promise.allSettled([
          store.save(collection, { ...findings, rows, cursor }),
          readLogs(round.behind, round.cursors, settings.logPageBytes, reading),
        ]);
        if (stored.status === "rejected") throw stored.reason;
        if (next.status === "rejected") throw next.reason;
        findings.observation = null;
        findings.metrics = null;
        quiet = false;
        round = next.value;
      }
      quiet &&= round.rows.length === 0;
      findings.rows = round.rows;
      findings.done.logs = true;
      cursor = { ...cursor, logs: round.cursors };
      if (round.behind.length > 0) findings.done.logs = false;
    }
    const nextIn = findings.done.logs === false
      ? 0.1
      : quiet
      ? settings.logsSeconds * 2
      : settings.logsSeconds;
    await store.save(collection, {
      ...findings,
      cursor,
      verdict,
      nextInSeconds: Math.min(nextIn, settings.stateSeconds),
    });
  } catch (error) {
    if (tools.signal.aborted) return await store.putBack(collection, 0, null);
    tools.log("warn", "a deployment could not be looked at", {
      agent_id: collection.agent_id,
      cluster: collection.cluster.name,
      reason: error instanceof Error ? `${error.name}: ${error.message}`.slice(0, 300) : "unknown",
    });
    // A look that took all its time says as much about the cluster as an error would.
    const late = signal.aborted && verdict.ok === null;
    await store.putBack(
      collection,
      settings.stateSeconds * 2,
      late ? { ok: false, error: "The cluster did not answer in time" } : verdict,
    );
  } finally {
    tools.catchingUp.delete(collection.agent_id);
  }

  async function skipWhatIsTooFarBehind(
    behind: LogSource[],
    cursors: Record<string, { at: string; seen: number }>,
  ) {
    const rows = [];
    for (const source of behind) {
      const reached = cursors[source.id];
      const skip = reached === undefined ? null : await skipBacklog(source, reached, reading);
      if (skip === null) continue;
      rows.push(skip.row);
      cursors[source.id] = skip.cursor;
    }
    return rows;
  }
}

/** Containers whose log there is something to read of: all that have ever run. */
function sourcesOf(
  state: WorkloadState | null,
  stored: { id: string; name: string; started_at: string | null }[],
): LogSource[] {
  return state === null
    ? stored.filter((container) => container.started_at !== null).map(({ id, name }) => ({
      id,
      name,
    }))
    : state.containers.filter((container) => container.startedAt !== null)
      .map(({ id, name }) => ({ id, name }));
}
