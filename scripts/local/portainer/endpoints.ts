import { PortainerError } from "./errors.ts";
import type { Engine } from "./engine.ts";
import type { ApiRequest } from "./http.ts";
import type { StackRecord } from "./store.ts";
import type { Swarm } from "./swarm.ts";

/** An environment of this Portainer. */
export interface Endpoint {
  id: number;
  name: string;
  engine: Engine;
  swarm: Swarm | null;
  /** Answers the Docker Engine API. */
  docker(request: ApiRequest, path: string): Promise<Response>;
}

/** The endpoint in Portainer's JSON; `Type` 1 is a Docker engine, with or without Swarm. */
export function endpointView(endpoint: Endpoint, stacks: StackRecord[], withSnapshot: boolean) {
  return {
    Id: endpoint.id,
    Name: endpoint.name,
    Type: 1,
    ContainerEngine: "docker",
    URL: "unix:///var/run/docker.sock",
    GroupId: 1,
    PublicURL: "127.0.0.1",
    Gpus: [],
    TLSConfig: { TLS: false, TLSSkipVerify: false },
    TagIds: [],
    Status: 1,
    Snapshots: withSnapshot ? [snapshot(endpoint, stacks)] : [],
    UserAccessPolicies: {},
    TeamAccessPolicies: {},
    ComposeSyntaxMaxVersion: "3.9",
    SecuritySettings: { allowStackManagementForRegularUsers: true },
    Heartbeat: false,
  };
}

function snapshot({ id, engine, swarm }: Endpoint, stacks: StackRecord[]) {
  const containers = engine.containers();
  const count = (test: (container: typeof containers[number]) => boolean) =>
    containers.filter(test).length;
  return {
    Time: Math.floor(Date.now() / 1000),
    DockerVersion: "27.3.1",
    Swarm: swarm !== null,
    TotalCPU: navigator.hardwareConcurrency,
    TotalMemory: Deno.systemMemoryInfo().total,
    ContainerCount: containers.length,
    RunningContainerCount: count(({ isRunning }) => isRunning),
    StoppedContainerCount: count(({ isRunning }) => !isRunning),
    HealthyContainerCount: count(({ state }) => state.health?.Status === "healthy"),
    UnhealthyContainerCount: count(({ state }) => state.health?.Status === "unhealthy"),
    VolumeCount: engine.volumes().length,
    ImageCount: engine.images.list().length,
    ServiceCount: swarm?.services().length ?? 0,
    StackCount: stacks.filter(({ endpointId }) => endpointId === id).length,
    NodeCount: swarm ? 1 : 0,
  };
}

/** @throws PortainerError 404 */
export function findEndpoint(endpoints: Endpoint[], id: number): Endpoint {
  const endpoint = endpoints.find((candidate) => candidate.id === id);
  if (!endpoint) {
    throw new PortainerError(
      404,
      "Unable to find an environment with the specified identifier inside the database",
      `Object not found inside the database (bucket=endpoints, key=${id})`,
    );
  }
  return endpoint;
}
