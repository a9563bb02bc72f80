import { createTlsFetch, type TlsMaterial } from "../../shared/orchestrators/tls.ts";
import type { ClusterConnection } from "../../shared/orchestrators/types.ts";
import type { Rig } from "./rig.ts";

export interface KubernetesRigOptions {
  url: string;
  namespace: string;
  /** A token, or the JSON form of `ClusterConnection.credential`. */
  credential: string;
  ca?: string;
  image: string;
  lacks?: Rig["lacks"];
  /** Set for a cluster behind Portainer: how the driver is to reach it, and what its proxy asks for. */
  behind?: { cluster: Partial<ClusterConnection>; headers: Record<string, string> };
  close?: () => Promise<void>;
}

/** A Kubernetes API server, looked at past the driver. */
export function openKubernetesRig(options: KubernetesRigOptions): Rig {
  const material: TlsMaterial & { token?: string } = options.credential.startsWith("{")
    ? JSON.parse(options.credential) as TlsMaterial & { token?: string }
    : options.credential === ""
    ? {}
    : { token: options.credential };
  const send = createTlsFetch({ ...material, ...(options.ca ? { ca: options.ca } : {}) });
  const deployments = `/apis/apps/v1/namespaces/${options.namespace}/deployments`;

  async function call(method: string, path: string, body?: unknown): Promise<unknown> {
    const response = await send(options.url + path, {
      method,
      headers: {
        "content-type": "application/json",
        ...(material.token ? { authorization: `Bearer ${material.token}` } : {}),
        ...options.behind?.headers,
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    if (!response.ok && response.status !== 404) {
      throw new Error(`${method} ${path}: ${response.status} ${await response.text()}`);
    }
    return await response.json();
  }

  return {
    image: options.image,
    fetch: send,
    cluster: {
      id: "00000000-0000-4000-8000-000000000002",
      name: "kubernetes",
      kind: "kubernetes",
      url: options.url,
      endpointId: null,
      namespace: options.namespace,
      credential: options.credential,
      options: options.ca ? { ca: options.ca } : {},
      ...options.behind?.cluster,
    },
    lacks: options.lacks ?? new Set(),

    broken: { image: "agent-launchpad-contract.invalid/none:1" },

    async running(name) {
      const selector = encodeURIComponent(`app.kubernetes.io/name=${name}`);
      const list = await call(
        "GET",
        `/api/v1/namespaces/${options.namespace}/pods?labelSelector=${selector}`,
      ) as { items: { metadata: { name: string }; status: { phase?: string } }[] };
      return list.items.filter(({ status }) => status.phase === "Running")
        .map(({ metadata }) => metadata.name);
    },

    async count(name) {
      const list = await call("GET", deployments) as { items: { metadata: { name: string } }[] };
      return list.items.filter(({ metadata }) => metadata.name === name).length;
    },

    async plantForeign(name) {
      await call("POST", deployments, {
        apiVersion: "apps/v1",
        kind: "Deployment",
        metadata: { name },
        spec: {
          replicas: 1,
          selector: { matchLabels: { app: name } },
          template: {
            metadata: { labels: { app: name } },
            spec: { containers: [{ name: "web", image: options.image }] },
          },
        },
      });
    },

    async foreignMark(name) {
      const found = await call("GET", `${deployments}/${name}`) as {
        metadata: { uid: string; generation: number };
      };
      return `${found.metadata.uid} ${found.metadata.generation}`;
    },

    async removeForeign(name) {
      await call("DELETE", `${deployments}/${name}`);
    },

    creates: (method, path) => method === "PATCH" && /\/deployments\/[^/]+$/.test(path),

    close: options.close ?? (() => Promise.resolve()),
  };
}
