import { randomUUID } from "node:crypto";
import type { ClusterConnection, WorkloadSpec } from "../../shared/orchestrators/types.ts";

/** One engine that the contract is tried on, with a way to look at it past the driver. */
export interface Rig {
  cluster: ClusterConnection;
  /** What reaches the engine, its certificates included. */
  fetch: typeof fetch;
  /** An image that logs, listens on port 3000 and answers `/health`. */
  image: string;
  /** How many workloads bear the name. */
  count(name: string): Promise<number>;
  /** The ids of its containers that run, also of those that are being ended. */
  running(name: string): Promise<string[]>;
  /** Puts there what does not belong to us, and gives something that changes when it is touched. */
  plantForeign(name: string): Promise<void>;
  foreignMark(name: string): Promise<string>;
  removeForeign(name: string): Promise<void>;
  /** Whether this request makes the workload. */
  creates(method: string, path: string): boolean;
  /** What makes replicas that never become ready. */
  broken: Partial<WorkloadSpec>;
  /** What this engine cannot show; simulated nodes run no processes, for instance. */
  lacks: ReadonlySet<"logs" | "metrics" | "image failures" | "environment">;
  close(): Promise<void>;
}

/** An agent of its own for the engine. */
export function specFor(rig: Rig, changes: Partial<WorkloadSpec> = {}): WorkloadSpec {
  const agentId = randomUUID();
  return {
    agentId,
    name: `contract-${agentId.slice(0, 8)}`,
    image: rig.image,
    replicas: 2,
    environment: { HOME: "/agent", AGENT_NAME: "contract" },
    resources: { memory: "128Mi", cpu: "250m" },
    port: 3000,
    // How long an agent takes to answer is up to the machine; it is not to fail for that.
    healthCheck: { path: "/health", intervalSeconds: 1, timeoutSeconds: 30, retries: 120 },
    labels: { team: 'ai $agents "quoted"' },
    strategy: "rolling",
    maxUnavailable: 1,
    scaling: null,
    revision: 1,
    ...changes,
  };
}

/** A `fetch` that tests put between driver and engine. */
export function intercept(
  handler: (method: string, path: string, forward: () => Promise<Response>) => Promise<Response>,
  inner: typeof fetch,
): typeof fetch {
  return (input, init) => {
    const url = new URL(input instanceof Request ? input.url : input);
    return handler(init?.method ?? "GET", url.pathname, () => inner(input, init));
  };
}
