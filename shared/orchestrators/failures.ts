import { OrchestratorError, type OrchestratorErrorCode } from "./errors.ts";
import type { WorkloadFailure } from "./types.ts";

/** What is known to go wrong with a workload, in our words. */
const KNOWN: Record<string, { code: OrchestratorErrorCode; message: string }> = {
  image_not_found: {
    code: "DEPLOYMENT_FAILED",
    message: "The image does not exist or may not be pulled.",
  },
  crash_loop: {
    code: "DEPLOYMENT_FAILED",
    message: "The container keeps ending soon after its start.",
  },
  out_of_memory: {
    code: "RESOURCE_EXHAUSTED",
    message: "The container needs more memory than its limit allows.",
  },
  no_capacity: {
    code: "RESOURCE_EXHAUSTED",
    message: "No node has the requested CPU or memory to spare.",
  },
  no_space: { code: "RESOURCE_EXHAUSTED", message: "The node's disk is full." },
  quota: { code: "RESOURCE_EXHAUSTED", message: "The namespace's quota does not allow it." },
  registry_unreachable: {
    code: "UPSTREAM_UNAVAILABLE",
    message: "The image's registry cannot be reached.",
  },
  not_ending: {
    code: "UPSTREAM_UNAVAILABLE",
    message: "The old containers take long to end.",
  },
  port_in_use: { code: "DEPLOYMENT_FAILED", message: "The port is already in use on the node." },
  progress_deadline: {
    code: "DEPLOYMENT_FAILED",
    message: "The rollout made no progress in time.",
  },
  rolled_back: {
    code: "DEPLOYMENT_FAILED",
    message: "The new revision did not become healthy and was rolled back.",
  },
  start_failed: { code: "DEPLOYMENT_FAILED", message: "The container could not be started." },
  unhealthy: { code: "CONTAINER_UNHEALTHY", message: "The container fails its health check." },
};

export type FailureReason = keyof typeof KNOWN;

export function failure(
  reason: string,
  about: { container?: string; exitCode?: number | null; cause?: FailureReason | null } = {},
): WorkloadFailure {
  const known = KNOWN[reason] ?? KNOWN["start_failed"]!;
  const cause = about.cause ?? null;
  return {
    code: known.code,
    message: cause === null ? known.message : `${known.message} ${KNOWN[cause]!.message}`,
    details: {
      reason,
      ...(cause === null ? {} : { cause }),
      ...(about.container === undefined ? {} : { container: about.container }),
      ...(about.exitCode === undefined || about.exitCode === null
        ? {}
        : { exit_code: about.exitCode }),
    },
  };
}

export function failureError(reason: string, ambiguous = false): OrchestratorError {
  const { code, message } = failure(reason);
  return new OrchestratorError(code, message, {
    retryable: code !== "DEPLOYMENT_FAILED",
    ambiguous,
    details: { reason },
  });
}

/** A workload of that name belongs to somebody else, or to another agent. */
export function nameTaken(name: string): OrchestratorError {
  return new OrchestratorError(
    "DEPLOYMENT_FAILED",
    "A stack of this name exists already and does not belong to this agent.",
    { retryable: false, details: { reason: "name_taken", name } },
  );
}

export function workloadMissing(name: string): OrchestratorError {
  return new OrchestratorError("DEPLOYMENT_FAILED", "The agent has no deployment on the cluster.", {
    retryable: false,
    details: { reason: "workload_missing", name },
  });
}

/** The words by which engines tell what is wrong. They are looked for, never passed on. */
const WORDS: [RegExp, FailureReason][] = [
  [
    /no such image|manifest (?:for .{1,300} )?(?:unknown|not found)|pull access denied|repository does not exist|not found: manifest|failed to resolve reference|invalid reference format/i,
    "image_not_found",
  ],
  [
    /lookup \S+(?: on \S+)?: (?:no such host|server misbehaving)|temporary failure in name resolution|tls handshake timeout|client\.timeout exceeded|dial tcp \S+: (?:i\/o timeout|connect: connection refused)/i,
    "registry_unreachable",
  ],
  [/insufficient (?:resources|memory|cpu)|no suitable node|range of cpus is from/i, "no_capacity"],
  [/exceeded quota/i, "quota"],
  [/no space left on device/i, "no_space"],
  [/cannot allocate memory|minimum memory limit|out of memory/i, "no_capacity"],
  [
    /port is already allocated|address already in use|host-mode port already in use/i,
    "port_in_use",
  ],
  [
    /OCI runtime|executable file not found|failed to create shim|starting container failed/i,
    "start_failed",
  ],
];

/** The reason behind an engine's message, or null when it is none we know. */
export function recogniseReason(text: string): FailureReason | null {
  return WORDS.find(([words]) => words.test(text))?.[1] ?? null;
}
