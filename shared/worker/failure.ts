import { OrchestratorError } from "../orchestrators/errors.ts";
import type { Json } from "./plan.ts";

/** An operation that cannot come right by trying again, in a documented code. */
export class OperationFailure extends Error {
  override readonly name = "OperationFailure";

  constructor(
    readonly code: string,
    message: string,
    readonly details: Record<string, unknown> = {},
  ) {
    super(message);
  }
}

/** The lease is another worker's by now: nothing more may be written. */
export class LeaseLost extends Error {
  override readonly name = "LeaseLost";
}

/** The operation was cancelled (its agent is being deleted): stop and give the lease back. */
export class OperationCancelled extends Error {
  override readonly name = "OperationCancelled";
}

/** The worker has to end soon: leave the operation as it is. */
export class WorkerStopping extends Error {
  override readonly name = "WorkerStopping";
}

/** The cluster's breaker is open: come back at `retryAt` (milliseconds since the epoch). */
export class BreakerOpen extends Error {
  override readonly name = "BreakerOpen";

  constructor(readonly retryAt: number) {
    super("the circuit breaker of the cluster is open");
  }
}

/** A failure as `private.fail_operation` takes it. */
export interface Failure {
  error: { code: string; message: string; details: { [key: string]: Json | undefined } };
  retryable: boolean;
  retryAfterSeconds: number | null;
}

/**
 * What an operation's owner is told of an error, and whether another attempt may help. Errors that are not
 * ours (a bug, a lost database connection) are told without their words.
 *
 * @param component the part of the platform concerned, as seed 000 names it
 */
export function toFailure(error: unknown, component: string): Failure {
  if (error instanceof OperationFailure) {
    return {
      error: {
        code: error.code,
        message: error.message,
        details: plain({ component, ...error.details }),
      },
      retryable: false,
      retryAfterSeconds: null,
    };
  }
  if (error instanceof OrchestratorError) {
    return {
      error: {
        code: error.code,
        message: error.message,
        details: plain({ component, ...error.details }),
      },
      retryable: error.retryable || error.ambiguous,
      retryAfterSeconds: error.retryAfterSeconds ?? null,
    };
  }
  return {
    error: {
      code: "INTERNAL_ERROR",
      message: "The operation failed inside the platform",
      details: { component: "worker" },
    },
    retryable: true,
    retryAfterSeconds: null,
  };
}

/** Only what JSON can carry. */
function plain(details: Record<string, unknown>): { [key: string]: Json | undefined } {
  return JSON.parse(JSON.stringify(details));
}
