import { randomUUID } from "node:crypto";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { createOrchestrator } from "../../shared/orchestrators/create.ts";
import type { Orchestrator, WorkloadSpec } from "../../shared/orchestrators/types.ts";
import { apiKey, standaloneEndpoint, TestPortainer } from "../portainer/support.ts";
import { openPortainerRig } from "./portainer-rig.ts";
import { intercept, until } from "./rig.ts";

const signal = AbortSignal.timeout(5 * 60_000);

let portainer: TestPortainer;

beforeAll(async () => {
  portainer = await TestPortainer.start();
});

afterAll(() => portainer.close());

/** Volumes as a Docker engine keeps them: a name that is taken gives what is there. */
type Volumes = Map<string, { Labels: Record<string, string> }>;

function withVolumes(volumes: Volumes): typeof fetch {
  return (input, init) =>
    intercept((method, path, forward) => {
      const json = (status: number, body: unknown) =>
        Promise.resolve(new Response(JSON.stringify(body), { status }));
      if (path.endsWith("/docker/volumes/create")) {
        const asked = JSON.parse(String(init?.body)) as {
          Name: string;
          Labels: Record<string, string>;
        };
        if (!volumes.has(asked.Name)) volumes.set(asked.Name, { Labels: asked.Labels });
        return json(201, volumes.get(asked.Name));
      }
      if (method === "DELETE" && path.includes("/docker/volumes/")) {
        const name = decodeURIComponent(path.split("/").at(-1)!);
        return volumes.delete(name)
          ? Promise.resolve(new Response(null, { status: 204 }))
          : json(404, { message: "no such volume" });
      }
      return forward();
    }, fetch)(input, init);
}

describe("a claim on a stack's name", () => {
  let volumes: Volumes;
  let spec: WorkloadSpec;

  beforeEach(() => {
    volumes = new Map();
    const agentId = randomUUID();
    spec = {
      agentId,
      name: `claims-${agentId.slice(0, 8)}`,
      image: "agent-launchpad/demo-agent:latest",
      replicas: 1,
      environment: {},
      resources: {},
      port: 3000,
      healthCheck: null,
      labels: {},
      strategy: "rolling",
      maxUnavailable: 1,
      scaling: null,
      revision: 1,
    };
  });

  const rig = () =>
    openPortainerRig({ url: portainer.url, apiKey, endpointId: standaloneEndpoint, image: "" });

  function connect(now?: () => number): Orchestrator {
    return createOrchestrator(rig().cluster, {
      fetch: withVolumes(volumes),
      ...(now ? { now } : {}),
    });
  }

  async function delayCreation(milliseconds: number): Promise<void> {
    await fetch(`${portainer.url}/__faults`, {
      method: "POST",
      headers: { "x-api-key": apiKey },
      body: JSON.stringify({
        method: "POST",
        path: "^/api/stacks/create/",
        fault: { kind: "delay", ms: milliseconds },
      }),
    });
  }

  afterEach(async () => {
    await connect().remove({ ...spec, stackId: null, namespace: null }, signal);
  });

  it("lets one of two processes create and the other adopt", async () => {
    await delayCreation(1500);
    const first = connect().deploy(spec, signal);
    await until(() => Promise.resolve(volumes.size), (size) => size === 1);
    const [one, two] = await Promise.all([first, connect().deploy(spec, signal)]);
    expect(two.stackId).toBe(one.stackId);
    expect(await rig().count(spec.name)).toBe(1);
  });

  it("is given up with the deployment", async () => {
    await connect().deploy(spec, signal);
    expect([...volumes.keys()]).toEqual([]);
  });

  it("keeps others off while its maker may still be at it", async () => {
    volumes.set(`${spec.name}.agent-launchpad`, {
      Labels: {
        "agent-launchpad.agent": spec.agentId,
        "agent-launchpad.claim": randomUUID(),
        "agent-launchpad.claimed-at": String(Date.now()),
      },
    });
    await expect(connect().deploy(spec, signal)).rejects.toMatchObject({
      code: "UPSTREAM_UNAVAILABLE",
      retryable: true,
      ambiguous: false,
      details: { reason: "in_progress" },
    });
    expect(await rig().count(spec.name)).toBe(0);
  });

  it("is taken over once its maker must be gone", async () => {
    volumes.set(`${spec.name}.agent-launchpad`, {
      Labels: {
        "agent-launchpad.agent": spec.agentId,
        "agent-launchpad.claim": randomUUID(),
        "agent-launchpad.claimed-at": String(Date.now() - 60_000),
      },
    });
    await connect().deploy(spec, signal);
    expect(await rig().count(spec.name)).toBe(1);
    expect(volumes.size).toBe(0);
  });
});
