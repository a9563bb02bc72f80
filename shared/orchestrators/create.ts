import { z } from "zod";
import { OrchestratorError } from "./errors.ts";
import { createKubernetesDriver } from "./kubernetes/driver.ts";
import { createPortainerDriver } from "./portainer/driver.ts";
import { createTlsFetch, type TlsMaterial } from "./tls.ts";
import type { ClusterConnection, Orchestrator, OrchestratorDependencies } from "./types.ts";

const kubernetesCredential = z.object({
  token: z.string().optional(),
  ca: z.string().optional(),
  clientCertificate: z.string().optional(),
  clientKey: z.string().optional(),
});

/**
 * The driver for a cluster. Nothing is sent before the first call; what was learnt about the cluster is kept for the
 * life of the object.
 *
 * @throws OrchestratorError DEPLOYMENT_FAILED when the connection is unusable as it stands
 */
export function createOrchestrator(
  cluster: ClusterConnection,
  deps: OrchestratorDependencies = {},
): Orchestrator {
  checkUrl(cluster.url);
  checkCredential(cluster);
  if (cluster.kind === "portainer") {
    const fetch = deps.fetch ?? createTlsFetch({ ca: cluster.options.ca });
    return guarded(createPortainerDriver(cluster, { ...deps, fetch }));
  }
  const { token, ...tls } = parseCredential(cluster);
  return guarded(createKubernetesDriver(cluster, {
    ...(deps.now ? { now: deps.now } : {}),
    fetch: deps.fetch ?? createTlsFetch(tls),
    orchestrator: "kubernetes",
    upstream: "Kubernetes",
    baseUrl: cluster.url,
    headers: token ? { authorization: `Bearer ${token}` } : {},
    consoleUrl: () => cluster.options.consoleUrl ?? null,
  }));
}

function parseCredential(cluster: ClusterConnection): TlsMaterial & { token?: string } {
  const text = cluster.credential.trim();
  const ca = cluster.options.ca;
  if (!text.startsWith("{")) return { token: text, ca };
  try {
    return { ca, ...kubernetesCredential.parse(JSON.parse(text)) };
  } catch {
    throw new OrchestratorError(
      "DEPLOYMENT_FAILED",
      "The cluster's credential cannot be read; check the cluster's credential.",
      { retryable: false, details: { reason: "invalid_credential" } },
    );
  }
}

function checkUrl(url: string): void {
  const parsed = URL.canParse(url) ? new URL(url) : null;
  // A name and password in an address would end up in messages and logs.
  if (parsed && /^https?:$/.test(parsed.protocol) && !parsed.username && !parsed.password) return;
  throw new OrchestratorError("DEPLOYMENT_FAILED", "The cluster's address is not an HTTP URL.", {
    retryable: false,
    details: { reason: "invalid_url" },
  });
}

function checkCredential({ credential }: ClusterConnection): void {
  if (credential.trim() !== "") return;
  throw new OrchestratorError("DEPLOYMENT_FAILED", "The cluster has no credential; set one.", {
    retryable: false,
    details: { reason: "unauthorized" },
  });
}

/** Keeps the promise that every failure is an OrchestratorError, also where a signal ends a pause. */
function guarded(driver: Orchestrator): Orchestrator {
  function guard<A extends unknown[], R>(
    signalAt: number,
    method: (...parameters: A) => Promise<R>,
  ): (...parameters: A) => Promise<R> {
    return async (...parameters) => {
      try {
        return await method(...parameters);
      } catch (error) {
        if (error instanceof OrchestratorError) throw error;
        const signal = parameters[signalAt];
        if (!(signal instanceof AbortSignal) || !signal.aborted) throw error;
        throw new OrchestratorError("UPSTREAM_UNAVAILABLE", "The request was given up.", {
          details: { reason: "aborted" },
          cause: signal.reason,
        });
      }
    };
  }
  return {
    kind: driver.kind,
    deploy: guard(1, driver.deploy),
    update: guard(2, driver.update),
    promote: guard(2, driver.promote),
    abandon: guard(1, driver.abandon),
    scale: guard(2, driver.scale),
    restart: guard(2, driver.restart),
    start: guard(2, driver.start),
    stop: guard(1, driver.stop),
    remove: guard(1, driver.remove),
    inspect: guard(1, driver.inspect),
    logs: guard(3, driver.logs),
    metrics: guard(1, driver.metrics),
    ...(driver.examine ? { examine: guard(2, driver.examine) } : {}),
    health: guard(0, driver.health),
  };
}
