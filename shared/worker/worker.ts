import type { Sql } from "postgres";
import type { ClusterConnection, Orchestrator } from "../orchestrators/types.ts";
import { type Clock, systemClock } from "./clock.ts";
import { collect } from "./collector/collect.ts";
import { type Collection, createCollectionStore } from "./collector/store.ts";
import { executeOperation, type PassResult } from "./execute.ts";
import { WorkerStopping } from "./failure.ts";
import { createLeases } from "./leases.ts";
import type { Log } from "./log.ts";
import type { Operation } from "./plan.ts";
import { createQueue } from "./queue.ts";
import { readSettings, type WorkerSettings } from "./settings.ts";

export interface WorkerOptions {
  /** Connection as the role that owns the migrations. */
  sql: Sql;
  orchestratorFor: (cluster: ClusterConnection) => Orchestrator;
  log: Log;
  clock?: Clock;
  /** Names this worker in leases; unique among workers. */
  name?: string;
}

export interface RunBudget {
  /** A run takes on no more work after this long. */
  wallMs: number;
  /** How long work under way may then still take, before it is left to the next run. */
  graceMs: number;
  /** A run ends when nothing falls due within this time. */
  idleMs: number;
}

export interface RunSummary {
  passes: Record<PassResult, number>;
  looks: number;
  /** Whether more is due soon: the run ended for want of time and not of work. */
  more: boolean;
}

export interface Worker {
  /** Carries out operations and watches deployments until nothing is due soon or the budget is used up. */
  run(budget: RunBudget): Promise<RunSummary>;
  /** Something new may be due, or cancelled: look now. */
  wake(): void;
  /** Ends the run in order, early. */
  stop(): void;
}

/** Deployments are looked for no more often than this, so that looks give way to operations. */
const LOOKS_EVERY_MS = 200;

/** Due work that another transaction holds is asked for again no sooner than this. */
const SHORTEST_WAIT_MS = 20;

/** Engine of the worker function; everything it touches is passed in. */
export function createWorker(options: WorkerOptions): Worker {
  const { sql, orchestratorFor, log } = options;
  const ownClock = options.clock ?? systemClock;
  let behindMs = 0;
  /** The database's time: what others wrote down is compared with it, whichever machine they ran on. */
  const clock: Clock = { now: () => ownClock.now() + behindMs, sleep: ownClock.sleep };
  const name = options.name ?? `worker-${crypto.randomUUID()}`;
  const queue = createQueue(sql);
  const store = createCollectionStore(sql, name);
  const catchingUp = new Set<string>();
  let settings: WorkerSettings;
  const leases = createLeases({ queue, clock, log, leaseSeconds: () => settings.leaseSeconds });

  let bell = new AbortController();
  let rung = false;
  let stopping = false;
  const ring = () => {
    rung = true;
    bell.abort();
  };

  async function run(budget: RunBudget): Promise<RunSummary> {
    stopping = false;
    const [tuned] = await Promise.all([readSettings(sql), followDatabaseClock()]);
    settings = tuned;
    const until = clock.now() + budget.wallMs;
    const ending = new AbortController();
    const summary: RunSummary = {
      passes: { succeeded: 0, waiting: 0, failed: 0, cancelled: 0, lost: 0 },
      looks: 0,
      more: false,
    };
    const passes = new Set<Promise<void>>();
    const looks = new Set<Promise<void>>();
    const looksOf = new Map<string, number>();

    const begin = (operation: Operation, since: number) => {
      const lease = leases.hold(operation, since);
      const pass = executeOperation(lease, { queue, orchestratorFor, clock, log, settings })
        .then((result) => void summary.passes[result]++)
        .catch((error) => log("error", "a pass broke", { reason: String(error) }))
        .finally(() => {
          lease.release();
          passes.delete(pass);
          ring();
        });
      passes.add(pass);
    };
    const look = (collection: Collection) => {
      const cluster = collection.cluster.id;
      const look = lookAt(collection, looksOf.get(cluster) ?? 0, ending.signal)
        .catch((error) => log("error", "a look could not be ended", { reason: String(error) }))
        .finally(() => {
          looksOf.set(cluster, (looksOf.get(cluster) ?? 1) - 1);
          looks.delete(look);
          ring();
        });
      looksOf.set(cluster, (looksOf.get(cluster) ?? 0) + 1);
      looks.add(look);
      summary.looks++;
    };

    let lookAgainAt = 0;
    while (!stopping && clock.now() < until) {
      rung = false;
      bell = new AbortController();
      const freePasses = settings.concurrency - passes.size;
      const freeLooks = clock.now() >= lookAgainAt ? settings.collections - looks.size : 0;
      const since = clock.now();
      const [operations, collections] = await Promise.all([
        freePasses > 0 ? queue.claim(name, settings.leaseSeconds, freePasses) : [],
        freeLooks > 0 ? store.claim(freeLooks, settings.collectionTimeoutSeconds * 2) : [],
      ]);
      if (freeLooks > 0) lookAgainAt = clock.now() + LOOKS_EVERY_MS;
      for (const operation of operations) begin(operation, since);
      collections.forEach(look);
      if (rung) continue;

      // With every slot taken, what else is due is asked for when one comes free.
      const full = operations.length === freePasses && passes.size > 0;
      const busy = passes.size + looks.size > 0;
      const due = full ? LOOKS_EVERY_MS : await nextDue(lookAgainAt);
      if (!busy && !rung && (due === null || due > budget.idleMs)) break;
      if (rung) continue;
      const wait = Math.max(SHORTEST_WAIT_MS, Math.min(due ?? Infinity, until - clock.now()));
      await clock.sleep(wait, bell.signal);
    }

    await endOf([...passes, ...looks], budget.graceMs, () => {
      leases.abort(new WorkerStopping("the worker has to end"));
      ending.abort();
    });
    const due = stopping || clock.now() >= until ? await nextDue(0) : null;
    summary.more = due !== null && due <= budget.idleMs;
    return summary;
  }

  async function followDatabaseClock(): Promise<void> {
    const before = ownClock.now();
    const now = await queue.now();
    behindMs = Math.round(now - (before + ownClock.now()) / 2);
    if (Math.abs(behindMs) > 5000) {
      log("warn", "this machine's clock differs from the database's", { behind_ms: behindMs });
    }
  }

  /** Milliseconds until this worker has something to do, its looks not before `lookAgainAt`; null: nothing at all. */
  async function nextDue(lookAgainAt: number): Promise<number | null> {
    const due = await queue.nextDue();
    const times = [due.operation];
    if (settings.collections > 0 && due.look !== null) {
      times.push(Math.max(due.look, lookAgainAt - clock.now()));
    }
    const known = times.filter((time) => time !== null);
    return known.length === 0 ? null : Math.min(...known);
  }

  /** A look at a deployment, unless its cluster is dead or has as many looks at it as it may have. */
  async function lookAt(collection: Collection, others: number, signal: AbortSignal) {
    const { breaker } = collection;
    if (!breaker.allowed) {
      const seconds = breaker.retryAt === null ? 5 : (breaker.retryAt - clock.now()) / 1000;
      return await store.putBack(collection, Math.min(30, Math.max(1, seconds)), null);
    }
    if (others >= settings.collectionsPerCluster) return await store.putBack(collection, 0.5, null);
    await collect(collection, { store, orchestratorFor, clock, log, settings, signal, catchingUp });
  }

  /** Waits for `work`, at most `graceMs`; what is not done by then is told to end and waited for. */
  async function endOf(work: Promise<void>[], graceMs: number, cut: () => void): Promise<void> {
    if (work.length === 0) return;
    const finished = new AbortController();
    const all = Promise.all(work).finally(() => finished.abort());
    await Promise.race([all, clock.sleep(graceMs, finished.signal)]);
    if (!finished.signal.aborted) cut();
    await all;
  }

  return {
    run,
    wake: () => {
      void leases.check();
      ring();
    },
    stop: () => {
      stopping = true;
      ring();
    },
  };
}
