import type { ClusterOptions } from "../../shared/orchestrators/types.ts";
import { until } from "../support/until.ts";
import { type Rig } from "./rig.ts";

export interface PortainerRigOptions {
  url: string;
  apiKey: string;
  endpointId: number;
  image: string;
  lacks?: Rig["lacks"];
  clusterOptions?: ClusterOptions;
  close?: () => Promise<void>;
}

interface StackRow {
  Id: number;
  Name: string;
  EndpointId: number;
}

/** A Portainer environment with Docker behind it, looked at through Portainer's API. */
export function openPortainerRig(options: PortainerRigOptions): Rig {
  const { url, apiKey, endpointId } = options;

  async function call(method: string, path: string, body?: unknown): Promise<Response> {
    const response = await fetch(`${url}/api${path}`, {
      method,
      headers: { "x-api-key": apiKey, "content-type": "application/json" },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    if (!response.ok) {
      throw new Error(`${method} ${path}: ${response.status} ${await response.text()}`);
    }
    return response;
  }

  async function stacks(name: string): Promise<StackRow[]> {
    const response = await call("GET", "/stacks");
    if (response.status === 204) return [];
    const all = await response.json() as StackRow[];
    return all.filter((stack) => stack.Name === name && stack.EndpointId === endpointId);
  }

  async function swarmId(): Promise<string | null> {
    const response = await call("GET", `/endpoints/${endpointId}/docker/info`);
    const info = await response.json() as {
      Swarm?: { LocalNodeState?: string; Cluster?: { ID: string } };
    };
    return info.Swarm?.LocalNodeState === "active" ? info.Swarm.Cluster?.ID ?? null : null;
  }

  const labelOf = (swarm: string | null) =>
    swarm ? "com.docker.stack.namespace" : "com.docker.compose.project";

  async function engineView(name: string): Promise<string> {
    const swarm = await swarmId();
    const filters = encodeURIComponent(JSON.stringify({ label: [`${labelOf(swarm)}=${name}`] }));
    const path = swarm
      ? `/services?filters=${filters}`
      : `/containers/json?all=1&filters=${filters}`;
    const response = await call("GET", `/endpoints/${endpointId}/docker${path}`);
    const rows = await response.json() as {
      Id?: string;
      ID?: string;
      Version?: { Index: number };
      Created?: number;
    }[];
    return JSON.stringify(
      rows.map(({ Id, ID, Version, Created }) => [Id ?? ID, Version?.Index, Created]).sort(),
    );
  }

  return {
    image: options.image,
    fetch,
    cluster: {
      id: "00000000-0000-4000-8000-000000000001",
      name: "portainer",
      kind: "portainer",
      url,
      endpointId,
      namespace: null,
      credential: apiKey,
      options: options.clusterOptions ?? {},
    },
    lacks: options.lacks ?? new Set(),
    broken: {
      healthCheck: { path: "/missing", intervalSeconds: 1, timeoutSeconds: 2, retries: 2 },
    },
    count: async (name) => (await stacks(name)).length,

    async running(name) {
      const label = [`${labelOf(await swarmId())}=${name}`];
      const filters = encodeURIComponent(JSON.stringify({ label, status: ["running"] }));
      const path = `/endpoints/${endpointId}/docker/containers/json?filters=${filters}`;
      const rows = await (await call("GET", path)).json() as { Id: string }[];
      return rows.map(({ Id }) => Id);
    },

    async plantForeign(name) {
      const swarm = await swarmId();
      const file = `version: "3.8"\nservices:\n  web:\n    image: ${options.image}\n`;
      await call(
        "POST",
        `/stacks/create/${swarm ? "swarm" : "standalone"}/string?endpointId=${endpointId}`,
        { Name: name, StackFileContent: file, Env: [], ...(swarm ? { SwarmID: swarm } : {}) },
      );
    },

    foreignMark: async (name) => JSON.stringify(await stacks(name)) + await engineView(name),

    async removeForeign(name) {
      for (const stack of await stacks(name)) {
        // Swarm refuses while a task that has just begun holds the network.
        await until(
          () =>
            call("DELETE", `/stacks/${stack.Id}?endpointId=${endpointId}`).then(() => "", String),
          (error) => error === "",
        );
      }
    },

    creates: (method, path) => method === "POST" && path.startsWith("/api/stacks/create/"),

    close: options.close ?? (() => Promise.resolve()),
  };
}
