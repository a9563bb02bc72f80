import { OrchestratorError } from "../orchestrators/errors.ts";
import type { Orchestrator } from "../orchestrators/types.ts";

/** What calls said about the cluster, for its circuit breaker. */
export interface Verdict {
  /** Null: no call has come back yet. */
  ok: boolean | null;
  error: string | null;
}

/**
 * The same orchestrator, keeping the last call's verdict on the cluster. A refusal of what we asked (an unknown
 * image, a quota) shows that the cluster is there; only an upstream that does not answer, or answers rubbish,
 * counts against it. A call that we broke off says nothing.
 */
export function watched(orchestrator: Orchestrator): { upstream: Orchestrator; verdict: Verdict } {
  const verdict: Verdict = { ok: null, error: null };
  const watch = async <T>(call: Promise<T>): Promise<T> => {
    try {
      const result = await call;
      verdict.ok = true;
      verdict.error = null;
      return result;
    } catch (error) {
      const fault = upstreamFault(error);
      if (fault !== null) {
        verdict.ok = fault === "none";
        verdict.error = fault === "none" ? null : fault;
      }
      throw error;
    }
  };
  return {
    verdict,
    upstream: {
      kind: orchestrator.kind,
      deploy: (spec, signal) => watch(orchestrator.deploy(spec, signal)),
      update: (ref, spec, signal) => watch(orchestrator.update(ref, spec, signal)),
      abandon: (ref, signal) => watch(orchestrator.abandon(ref, signal)),
      promote: (ref, spec, signal) => watch(orchestrator.promote(ref, spec, signal)),
      scale: (ref, spec, signal) => watch(orchestrator.scale(ref, spec, signal)),
      restart: (ref, spec, signal, request) =>
        watch(orchestrator.restart(ref, spec, signal, request)),
      start: (ref, spec, signal) => watch(orchestrator.start(ref, spec, signal)),
      stop: (ref, signal) => watch(orchestrator.stop(ref, signal)),
      remove: (ref, signal) => watch(orchestrator.remove(ref, signal)),
      inspect: (ref, signal) => watch(orchestrator.inspect(ref, signal)),
      logs: (ref, id, options, signal) => watch(orchestrator.logs(ref, id, options, signal)),
      metrics: (ref, signal) => watch(orchestrator.metrics(ref, signal)),
      health: (signal) => watch(orchestrator.health(signal)),
    },
  };
}

/** Our words for a fault of the cluster, "none" when it answered in its right mind, null when it was not asked. */
function upstreamFault(error: unknown): string | "none" | null {
  if (!(error instanceof OrchestratorError)) return null;
  if (error.details.reason === "aborted") return null;
  return error.code === "UPSTREAM_UNAVAILABLE" ? error.message : "none";
}
