import { z } from "zod";
import { OrchestratorError } from "../errors.ts";
import { failureError, recogniseReason } from "../failures.ts";
import { createHttpClient, type HttpClient, type Refusal } from "../http.ts";
import type { StackVariable } from "../stack-variables.ts";
import type { ClusterConnection } from "../types.ts";

const variables = z.array(z.object({ name: z.string(), value: z.string().default("") }));

const stack = z.object({
  Id: z.number(),
  Name: z.string(),
  /** 1 Swarm, 2 compose, 3 Kubernetes. */
  Type: z.number(),
  EndpointId: z.number(),
  /** 1 active, 2 inactive, newer 3 deploying, 4 error. */
  Status: z.number().default(1),
  Env: variables.nullish().transform((env): StackVariable[] => env ?? []),
});

export type Stack = z.output<typeof stack>;

export const STACK_INACTIVE = 2;
export const STACK_DEPLOYING = 3;

const endpoint = z.object({
  Id: z.number(),
  Type: z.number(),
  URL: z.string().default(""),
  PublicURL: z.string().default(""),
  /** 1 up, 2 down. */
  Status: z.number().default(1),
});

export type Endpoint = z.output<typeof endpoint>;

export interface StackContent {
  file: string;
  variables: StackVariable[];
}

/** Portainer's own calls; the engine's go through `docker` or `kubernetes`. */
export interface PortainerApi {
  endpointId: number;
  /** Requests to the Docker engine behind the environment. */
  docker: HttpClient;
  deployTimeoutMs: number;
  endpoint(signal: AbortSignal): Promise<Endpoint>;
  version(signal: AbortSignal): Promise<string | null>;
  /** Stacks of this environment with this name; more than one only after a create was repeated blindly. */
  stacksByName(name: string, signal: AbortSignal): Promise<Stack[]>;
  stackFile(id: number, signal: AbortSignal): Promise<string>;
  createStack(
    name: string,
    content: StackContent,
    swarmId: string | null,
    signal: AbortSignal,
  ): Promise<Stack>;
  updateStack(id: number, content: StackContent, signal: AbortSignal): Promise<void>;
  startStack(id: number, signal: AbortSignal): Promise<void>;
  stopStack(id: number, signal: AbortSignal): Promise<void>;
  deleteStack(id: number, signal: AbortSignal): Promise<void>;
}

export function portainerBase(cluster: ClusterConnection): string {
  return cluster.url.replace(/\/+$/, "").replace(/\/api$/, "");
}

export function portainerHeaders(cluster: ClusterConnection): Record<string, string> {
  return { "x-api-key": cluster.credential };
}

export function createPortainerApi(
  cluster: ClusterConnection,
  endpointId: number,
  fetch_: typeof fetch,
): PortainerApi {
  const timeoutMs = cluster.options.requestTimeoutMs ?? 30_000;
  const deployTimeoutMs = cluster.options.deployTimeoutMs ?? 120_000;
  const common = {
    upstream: "Portainer",
    headers: portainerHeaders(cluster),
    fetch: fetch_,
    timeoutMs,
    explain: explainRefusal,
  };
  const portainer = createHttpClient({ ...common, baseUrl: `${portainerBase(cluster)}/api` });
  const docker = createHttpClient({
    ...common,
    baseUrl: `${portainerBase(cluster)}/api/endpoints/${endpointId}/docker`,
  });
  const query = { endpointId };

  return {
    endpointId,
    docker,
    deployTimeoutMs,
    async endpoint(signal) {
      const { data } = await portainer.json(
        { path: `/endpoints/${endpointId}`, query: { excludeSnapshot: true }, accept: [404] },
        endpoint,
        signal,
      );
      if (data) return data;
      throw new OrchestratorError(
        "DEPLOYMENT_FAILED",
        "Portainer has no environment of this number; check the cluster's endpoint id.",
        { retryable: false, details: { reason: "endpoint_missing", endpoint_id: endpointId } },
      );
    },
    async version(signal) {
      const { data } = await portainer.json(
        { path: "/system/status", accept: [404] },
        z.object({ Version: z.string().optional() }),
        signal,
      );
      return data?.Version ?? null;
    },
    async stacksByName(name, signal) {
      const { data } = await portainer.json(
        // Its filter by environment leaves Swarm stacks out: those it finds by the swarm's id only.
        { path: "/stacks" },
        z.array(stack),
        signal,
      );
      return (data ?? [])
        .filter((one) => one.EndpointId === endpointId && one.Name.toLowerCase() === name)
        .sort((a, b) => a.Id - b.Id);
    },
    async stackFile(id, signal) {
      const { data } = await portainer.json(
        { path: `/stacks/${id}/file` },
        z.object({ StackFileContent: z.string() }),
        signal,
      );
      return data?.StackFileContent ?? "";
    },
    async createStack(name, content, swarmId, signal) {
      const { data } = await portainer.json(
        {
          method: "POST",
          path: `/stacks/create/${swarmId === null ? "standalone" : "swarm"}/string`,
          query,
          timeoutMs: deployTimeoutMs,
          body: {
            Name: name,
            StackFileContent: content.file,
            Env: content.variables,
            ...(swarmId === null ? {} : { SwarmID: swarmId }),
          },
        },
        stack,
        signal,
      );
      if (data) return data;
      throw new OrchestratorError("UPSTREAM_UNAVAILABLE", "Portainer did not name the new stack.", {
        ambiguous: true,
        details: { reason: "unknown_form" },
      });
    },
    async updateStack(id, content, signal) {
      await portainer.send(
        {
          method: "PUT",
          path: `/stacks/${id}`,
          query,
          timeoutMs: deployTimeoutMs,
          body: {
            StackFileContent: content.file,
            Env: content.variables,
            Prune: true,
            PullImage: false,
          },
        },
        signal,
      );
    },
    async startStack(id, signal) {
      await portainer.send(
        { method: "POST", path: `/stacks/${id}/start`, query, timeoutMs: deployTimeoutMs },
        signal,
      );
    },
    async stopStack(id, signal) {
      await portainer.send(
        { method: "POST", path: `/stacks/${id}/stop`, query, timeoutMs: deployTimeoutMs },
        signal,
      );
    },
    async deleteStack(id, signal) {
      await portainer.send(
        {
          method: "DELETE",
          path: `/stacks/${id}`,
          query,
          timeoutMs: deployTimeoutMs,
          accept: [404],
        },
        signal,
      );
    },
  };
}

/**
 * Portainer passes on what `docker` printed in `message` and `details`; Docker's own refusals come as `{message}`.
 * A refusal of a change that both wrote themselves is final: what was asked for did not happen.
 */
function explainRefusal(refusal: Refusal): OrchestratorError | null {
  const { status, text, genuine, mutates } = refusal;
  if (!genuine || !mutates) return null;
  if (status === 409) {
    return new OrchestratorError("DEPLOYMENT_FAILED", "Portainer found a conflict.", {
      retryable: true,
      details: { reason: "conflict", upstream_status: status },
    });
  }
  if (status !== 500 && status !== 400 && status !== 404) return null;
  if (/update out of sequence/i.test(text)) {
    return new OrchestratorError("DEPLOYMENT_FAILED", "The service changed meanwhile.", {
      retryable: true,
      details: { reason: "conflict", upstream_status: status },
    });
  }
  if (/stack is already (?:active|inactive)/i.test(text)) {
    return new OrchestratorError("DEPLOYMENT_FAILED", "The stack is in that state already.", {
      retryable: false,
      details: { reason: "already", upstream_status: status },
    });
  }
  // Swarm takes networks down and tasks with them in no order; a little later the same call goes through.
  if (/is in use by task|has active endpoints|network \S+ not found/i.test(text)) {
    return new OrchestratorError("DEPLOYMENT_FAILED", "The stack's network is being removed.", {
      retryable: true,
      details: { reason: "network_busy", upstream_status: status },
    });
  }
  // The proxy's or the engine's own trouble, which passes.
  if (/cannot connect to the docker daemon|error during connect/i.test(text)) {
    return new OrchestratorError("UPSTREAM_UNAVAILABLE", "Portainer cannot reach the engine.", {
      ambiguous: true,
      details: { reason: "engine_unreachable", upstream_status: status },
    });
  }
  const reason = recogniseReason(text);
  if (reason !== null) return failureError(reason);
  if (status !== 500) return null;
  return new OrchestratorError("DEPLOYMENT_FAILED", "Portainer could not carry the change out.", {
    retryable: true,
    details: { reason: "refused", upstream_status: status },
  });
}
