import { z } from "zod";
import { OrchestratorError } from "../errors.ts";
import { failureError } from "../failures.ts";
import { createHttpClient, type HttpClient, type Refusal } from "../http.ts";
import { type Kind, KINDS, type Manifest } from "./manifests.ts";
import { anyObject } from "./state.ts";

/** Our name among the owners of fields. */
export const FIELD_MANAGER = "agent-launchpad";

export interface KubernetesApi {
  namespace: string;
  http: HttpClient;
  path(kind: Kind, name?: string): string;
  get<S extends z.ZodType>(
    kind: Kind,
    name: string,
    schema: S,
    signal: AbortSignal,
  ): Promise<z.output<S> | null>;
  /** Server-side apply: what is there already stays, so a retry is harmless. */
  apply(manifest: Manifest, name: string, signal: AbortSignal): Promise<void>;
  /** Names of the agent's objects of this kind. */
  list(kind: Kind, selector: string, signal: AbortSignal): Promise<Listed[]>;
  delete(kind: Kind, name: string, uid: string, signal: AbortSignal): Promise<void>;
}

export type Listed = z.output<typeof anyObject>;

export interface KubernetesEndpoint {
  upstream: string;
  baseUrl: string;
  headers: Record<string, string>;
  fetch: typeof fetch;
  timeoutMs: number;
}

export function createKubernetesApi(
  endpoint: KubernetesEndpoint,
  namespace: string,
): KubernetesApi {
  const http = createHttpClient({ ...endpoint, explain: explainRefusal });

  function path(kind: Kind, name?: string): string {
    const { apiVersion, resource } = KINDS.find((one) => one.kind === kind)!;
    const root = apiVersion === "v1" ? "/api/v1" : `/apis/${apiVersion}`;
    const rest = name === undefined ? "" : `/${encodeURIComponent(name)}`;
    return `${root}/namespaces/${encodeURIComponent(namespace)}/${resource}${rest}`;
  }

  return {
    namespace,
    http,
    path,
    async get(kind, name, schema, signal) {
      const { data } = await http.json({ path: path(kind, name), accept: [404] }, schema, signal);
      return data;
    },
    async apply(manifest, name, signal) {
      await http.send(
        {
          method: "PATCH",
          path: path(manifest.kind, name),
          // Ownership was looked at before: what others wrote into our own objects is ours to correct.
          query: { fieldManager: FIELD_MANAGER, force: true },
          contentType: "application/apply-patch+yaml",
          body: manifest,
        },
        signal,
      );
    },
    async list(kind, selector, signal) {
      const { data } = await http.json(
        { path: path(kind), query: { labelSelector: selector } },
        z.object({ items: z.array(anyObject) }),
        signal,
      );
      return data?.items ?? [];
    },
    async delete(kind, name, uid, signal) {
      await http.send(
        {
          method: "DELETE",
          path: path(kind, name),
          body: { propagationPolicy: "Background", preconditions: { uid } },
          // 409: another object bears the name by now.
          accept: [404, 409],
        },
        signal,
      );
    },
  };
}

/** Kubernetes explains itself in `Status` objects; their `reason` is an enumeration, their `message` is prose. */
function explainRefusal(refusal: Refusal): OrchestratorError | null {
  const { status, text, genuine } = refusal;
  if (!genuine) return null;
  // `text` is the JSON as it came, so quotes within it are escaped.
  if (status === 403 && /exceeded quota/i.test(text)) return failureError("quota");
  if (status === 404 && /namespaces? \\?"[^"]{0,254}" not found/i.test(text)) {
    return new OrchestratorError(
      "DEPLOYMENT_FAILED",
      "The cluster has no such namespace; check the cluster's namespace.",
      { retryable: false, details: { reason: "namespace_missing", upstream_status: status } },
    );
  }
  if (status === 409) {
    return new OrchestratorError("DEPLOYMENT_FAILED", "Kubernetes found a conflict.", {
      retryable: true,
      details: { reason: "conflict", upstream_status: status },
    });
  }
  if (status === 400 || status === 422) {
    return new OrchestratorError(
      "DEPLOYMENT_FAILED",
      "Kubernetes refused the workload as invalid.",
      {
        retryable: false,
        details: { reason: "invalid", upstream_status: status, fields: invalidFields(text) },
      },
    );
  }
  return null;
}

/** Paths of the fields that were refused, without what they held. */
function invalidFields(text: string): string[] {
  const parsed = z.object({
    details: z.object({ causes: z.array(z.object({ field: z.string().default("") })).nullish() })
      .nullish(),
  }).safeParse(JSON.parse(text));
  const causes = parsed.data?.details?.causes ?? [];
  return causes.map(({ field }) => field).filter((field) => /^[\w.[\]-]{1,120}$/.test(field));
}
