/** Stacks of several services, on both engines of the local Portainer. */
import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createOrchestrator } from "../../shared/orchestrators/create.ts";
import { imagesOf } from "../../shared/orchestrators/stack-file.ts";
import type {
  ClusterConnection,
  Orchestrator,
  StackService,
  WorkloadRef,
  WorkloadSpec,
  WorkloadState,
} from "../../shared/orchestrators/types.ts";
import { apiKey, standaloneEndpoint, swarmEndpoint, TestPortainer } from "../portainer/support.ts";
import { openPortainerRig } from "./portainer-rig.ts";
import { until } from "../support/until.ts";
const image = "agent-launchpad/demo-agent:latest";
const { signal } = new AbortController();

function service(name: string, replicas: number, changes: Partial<StackService> = {}) {
  return {
    name,
    image,
    replicas,
    environment: { AGENT_NAME: `${name}-of-the-stack` },
    resources: { memory: "128Mi", cpu: "100m" },
    ports: [3000],
    healthCheck: null,
    networks: ["inside"],
    volumes: [],
    ...changes,
  };
}

function specOf(services: StackService[], of: Partial<WorkloadSpec> = {}): WorkloadSpec {
  const agentId = randomUUID();
  return {
    agentId,
    name: `stack-${agentId.slice(0, 8)}`,
    image,
    replicas: services.reduce((sum, { replicas }) => sum + replicas, 0),
    environment: {},
    resources: {},
    port: null,
    healthCheck: null,
    labels: { team: "ai-agents" },
    strategy: "rolling",
    maxUnavailable: 1,
    scaling: null,
    revision: 1,
    ...of,
    stack: {
      services,
      networks: [{ name: "inside", encrypted: true }],
      volumes: [{ name: "data" }],
    },
  };
}

describe.each([
  ["Swarm", swarmEndpoint],
  ["standalone Docker", standaloneEndpoint],
])("a stack on %s", (_, endpointId) => {
  let portainer: TestPortainer;
  let cluster: ClusterConnection;
  let orchestrator: Orchestrator;
  const own: WorkloadRef[] = [];
  beforeAll(async () => {
    portainer = await TestPortainer.start();
    cluster = openPortainerRig({ url: portainer.url, apiKey, endpointId, image }).cluster;
    orchestrator = createOrchestrator(cluster);
  });
  afterAll(() => portainer?.discard());

  async function deploy(spec: WorkloadSpec): Promise<WorkloadRef> {
    const ref = { ...await orchestrator.deploy(spec, signal), composed: true };
    own.push(ref);
    await settled(ref);
    return ref;
  }

  const settled = async (ref: WorkloadRef): Promise<WorkloadState> =>
    (await until(
      () => orchestrator.inspect(ref, signal),
      (state) => state?.settled === true,
    ))!;

  it("runs every service with its own replicas; networks and volumes are told", async () => {
    const spec = specOf([
      service("worker", 2, { volumes: [{ name: "data", target: "/app/data" }] }),
      service("front-end", 1),
    ]);
    const state = await settled(await deploy(spec));
    expect(state).toMatchObject({ status: "active", desired: 3, ready: 3, revision: 1 });
    const services = state.services.map(({ name, replicas, ports }) => ({
      name,
      replicas,
      targets: [...new Set(ports.map(({ target }) => target))],
    })).sort((a, b) => (a.name < b.name ? -1 : 1));
    expect(services).toEqual([
      {
        name: `${spec.name}_front-end`,
        replicas: { running: 1, desired: 1 },
        targets: [3000],
      },
      { name: `${spec.name}_worker`, replicas: { running: 2, desired: 2 }, targets: [3000] },
    ]);
    expect(state.networks).toEqual([
      endpointId === swarmEndpoint
        ? { name: `${spec.name}_inside`, driver: "overlay", encrypted: true }
        : { name: `${spec.name}_inside`, driver: "bridge", encrypted: false },
    ]);
    expect(state.volumes).toEqual([{ name: `${spec.name}_data`, driver: "local" }]);
  });

  it("a repeated deployment changes nothing", async () => {
    const spec = specOf([service("one", 1), service("two", 1)]);
    const ref = await deploy(spec);
    const before = (await settled(ref)).containers.map(({ id }) => id).sort();
    await orchestrator.deploy(spec, signal);
    expect((await settled(ref)).containers.map(({ id }) => id).sort()).toEqual(before);
  });

  it("an update adds, scales and removes services and leaves the others alone", async () => {
    const spec = specOf([service("kept", 1), service("scaled", 1), service("removed", 1)]);
    const ref = await deploy(spec);
    const idOf = async () =>
      (await settled(ref)).containers.find(({ name }) => name.includes("kept"))!.id;
    const kept = await idOf();
    const next = [service("kept", 1), service("scaled", 3), service("added", 1)];
    await orchestrator.deploy(
      specOf(next, { agentId: spec.agentId, name: spec.name, revision: 2 }),
      signal,
    );
    const state = await until(
      () => orchestrator.inspect(ref, signal),
      (seen) => seen?.settled === true && seen.revision === 2,
    );
    expect(
      state!.services.map(({ name, replicas }) => [
        name.slice(spec.name.length + 1),
        replicas.running,
      ]).sort(),
    ).toEqual([["added", 1], ["kept", 1], ["scaled", 3]]);
    expect(await idOf()).toBe(kept);
  });

  it("a removal takes services, networks and volumes, and no other stack's", async () => {
    const [ref, other] = [
      await deploy(specOf([service("one", 1)])),
      await deploy(specOf([service("one", 1)])),
    ];
    await orchestrator.remove(ref, signal);
    await until(() => orchestrator.inspect(ref, signal), (state) => state === null);
    const left = JSON.stringify(await engine("/volumes")) +
      JSON.stringify(await engine("/networks"));
    expect(left).not.toContain(ref.name);
    expect((await settled(other)).volumes).toHaveLength(1);
  });

  it("a stack of this name that is somebody else's is refused and not touched", async () => {
    const spec = specOf([service("one", 1)]);
    const theirs = await deploy(spec);
    const ours = specOf([service("two", 1)], { name: spec.name });
    await expect(orchestrator.deploy(ours, signal)).rejects.toMatchObject({
      code: "DEPLOYMENT_FAILED",
      details: { reason: "name_taken" },
    });
    await orchestrator.remove({ ...theirs, agentId: ours.agentId }, signal);
    expect((await settled(theirs)).services).toHaveLength(1);
  });

  it("no value stands in the stack file", async () => {
    const spec = specOf([service("one", 1, { environment: { TOKEN: "s3cret-value" } })]);
    const { stackId } = await deploy(spec);
    const answer = await fetch(`${portainer.url}/api/stacks/${stackId}/file`, {
      headers: { "x-api-key": apiKey },
    });
    const { StackFileContent: file } = await answer.json() as { StackFileContent: string };
    expect(file).toContain("AGENT_ENV_one__TOKEN");
    expect(file).not.toContain("s3cret-value");
  });

  async function engine(path: string): Promise<unknown> {
    const answer = await fetch(`${portainer.url}/api/endpoints/${endpointId}/docker${path}`, {
      headers: { "x-api-key": apiKey },
    });
    return await answer.json();
  }
});

it("Kubernetes behind Portainer is refused in words, before anything is sent to it", async () => {
  const sent: string[] = [];
  const orchestrator = createOrchestrator({
    id: randomUUID(),
    name: "kubernetes behind Portainer",
    kind: "portainer",
    url: "http://portainer.test",
    endpointId: 3,
    namespace: null,
    credential: "ptr_test",
    options: {},
  }, {
    fetch: (input) => {
      sent.push(new URL(String(input)).pathname);
      return Promise.resolve(Response.json({ Id: 3, Type: 5, URL: "", PublicURL: "", Status: 1 }));
    },
  });
  await expect(orchestrator.deploy(specOf([service("one", 1)]), signal)).rejects.toMatchObject({
    code: "DEPLOYMENT_FAILED",
    retryable: false,
    details: { reason: "not_supported" },
  });
  expect(sent).toEqual(["/api/endpoints/3"]);
});

it("every image is pulled once", () => {
  const services = [service("a", 1), service("b", 1), service("c", 1, { image: "redis:7" })];
  expect(imagesOf(specOf(services))).toEqual([image, "redis:7"]);
});
