import type { Clock } from "./clock.ts";
import { LeaseLost, OperationCancelled } from "./failure.ts";
import type { Log } from "./log.ts";
import type { Operation } from "./plan.ts";
import type { Queue } from "./queue.ts";

/** A held operation; `signal` aborts with {@link LeaseLost} or {@link OperationCancelled} as its reason. */
export interface Lease {
  readonly operation: Operation;
  readonly signal: AbortSignal;
  /**
   * Asked right before whatever has lasting effects: a process that was stopped for a while must not go on as if no time
   * had passed.
   *
   * @throws {LeaseLost} or {@link OperationCancelled} or what else ended it
   */
  assertHeld(): void;
  release(): void;
}

/** Keeps the leases of one worker alive, all in one statement, and tells the ones that ended. */
export interface Leases {
  /** @param since when it was asked for, by the worker's clock: no later than its lease began */
  hold(operation: Operation, since: number): Lease;
  /** Renews now: a cancellation is noticed at once, not at the next turn. */
  check(): Promise<void>;
  /** Aborts everything held with `reason`. */
  abort(reason: Error): void;
}

export function createLeases(
  { queue, clock, log, leaseSeconds }: {
    queue: Queue;
    clock: Clock;
    log: Log;
    leaseSeconds: () => number;
  },
): Leases {
  const held = new Map<string, { operation: Operation; abort: AbortController; until: number }>();
  let keeping = false;

  async function check(): Promise<void> {
    const asked = [...held.values()];
    if (asked.length === 0) return;
    const before = clock.now();
    try {
      const states = await queue.renew(asked.map((entry) => entry.operation), leaseSeconds());
      for (const entry of asked) {
        const state = states.get(entry.operation.id) ?? "lost";
        if (state === "held") entry.until = before + leaseSeconds() * 1000;
        else if (state === "cancelled") entry.abort.abort(new OperationCancelled("cancelled"));
        else entry.abort.abort(new LeaseLost("the lease is another worker's"));
      }
    } catch (error) {
      log("warn", "leases could not be renewed", { reason: nameOf(error) });
      for (const entry of asked) {
        // What cannot be renewed in time is another worker's from then on.
        if (clock.now() >= entry.until) entry.abort.abort(new LeaseLost("not renewed in time"));
      }
    }
  }

  async function keep(): Promise<void> {
    if (keeping) return;
    keeping = true;
    while (held.size > 0) {
      await clock.sleep(leaseSeconds() * 1000 / 3);
      await check();
    }
    keeping = false;
  }

  return {
    check,
    hold(operation, since) {
      const abort = new AbortController();
      const entry = { operation, abort, until: since + leaseSeconds() * 1000 };
      held.set(operation.lease_token, entry);
      void keep();
      return {
        operation,
        signal: abort.signal,
        assertHeld: () => {
          if (clock.now() >= entry.until) abort.abort(new LeaseLost("not renewed in time"));
          abort.signal.throwIfAborted();
        },
        release: () => held.delete(operation.lease_token),
      };
    },
    abort(reason) {
      for (const { abort } of held.values()) abort.abort(reason);
    },
  };
}

function nameOf(error: unknown): string {
  return error instanceof Error ? error.name : typeof error;
}
