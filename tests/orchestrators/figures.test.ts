import { describe, expect, it } from "vitest";
import { createOrchestrator } from "../../shared/orchestrators/create.ts";
import { engineFigures } from "../../shared/orchestrators/portainer/figures.ts";
import type { ClusterFigures } from "../../shared/orchestrators/types.ts";

/** A Kubernetes API server as far as its health goes; a path that is not there gives 404. */
async function figuresOf(
  answers: Record<string, unknown>,
): Promise<ClusterFigures | undefined> {
  const orchestrator = createOrchestrator({
    id: "1",
    name: "test",
    kind: "kubernetes",
    url: "http://kubernetes.test",
    endpointId: null,
    namespace: null,
    credential: "token",
    options: {},
  }, {
    fetch: (input) => {
      const url = new URL(String(input instanceof Request ? input.url : input));
      const answer = answers[url.pathname + url.search] ?? answers[url.pathname];
      if (typeof answer === "number") {
        return Promise.resolve(Response.json({ kind: "Status" }, { status: answer }));
      }
      return Promise.resolve(
        answer === undefined
          ? Response.json({ kind: "Status" }, { status: 404 })
          : Response.json(answer),
      );
    },
  });
  const health = await orchestrator.health(new AbortController().signal);
  expect(health.status).toBe("up");
  return health.figures;
}

const ready = { conditions: [{ type: "Ready", status: "True" }] };
const pods = (number: number, next?: string) => ({
  metadata: next === undefined ? {} : { continue: next },
  items: Array.from({ length: number }, () => ({})),
});
const phase = (name: string, next = "") =>
  `/api/v1/pods?fieldSelector=status.phase%3D${name}&limit=200${next}`;

const cluster = {
  "/version": { gitVersion: "v1.35.0" },
  "/api/v1/nodes": {
    items: [
      { status: { ...ready, capacity: { cpu: "4", memory: "8Gi" } } },
      { status: { ...ready, capacity: { cpu: "2500m", memory: "4Gi" } } },
    ],
  },
  "/api/v1/pods?limit=1": { metadata: { continue: "x", remainingItemCount: 499 }, items: [{}] },
  [phase("Pending")]: pods(200, "p"),
  [phase("Pending", "&continue=p")]: pods(10),
  [phase("Failed")]: pods(3),
  [phase("Succeeded")]: pods(7),
  "/apis/metrics.k8s.io/v1beta1/nodes": {
    items: [{ usage: { cpu: "1500000000n", memory: "2Gi" } }, {
      usage: { cpu: "500m", memory: "1Gi" },
    }],
  },
};

describe("a Kubernetes cluster", () => {
  it("tells what its nodes have and use, and counts its pods", async () => {
    expect(await figuresOf(cluster)).toEqual({
      pods: { total: 500, running: 280, pending: 210, failed: 3 },
      containers: null,
      cpu: { total: 6.5, used: 2 },
      memory: { total: 12 * 2 ** 30, used: 3 * 2 ** 30 },
    });
  });

  it("tells nothing that its credential may not see", async () => {
    const figures = await figuresOf({
      ...cluster,
      "/api/v1/nodes": 403,
      "/api/v1/pods?limit=1": 403,
      "/apis/metrics.k8s.io/v1beta1/nodes": 404,
    });
    expect(figures).toEqual({
      pods: null,
      containers: null,
      cpu: { total: null, used: null },
      memory: { total: null, used: null },
    });
  });

  it("guesses no number that would take too long to count", async () => {
    const endless = Object.fromEntries(
      ["", "&continue=p"].map((next) => [phase("Pending", next), pods(200, "p")]),
    );
    const figures = await figuresOf({ ...cluster, ...endless });
    expect(figures?.pods).toEqual({ total: 500, running: null, pending: null, failed: 3 });
  });
});

describe("a Docker engine", () => {
  const size = {
    NCPU: 4,
    MemTotal: 1000,
    Containers: 5,
    ContainersRunning: 3,
    ContainersStopped: 2,
  };

  it("tells its size and its containers", () => {
    expect(engineFigures(size, null)).toEqual({
      pods: null,
      containers: { total: 5, running: 3, stopped: 2 },
      cpu: { total: 4, used: null },
      memory: { total: 1000, used: null },
    });
  });

  it("of a Swarm adds up the nodes, whose containers it does not know", () => {
    const node = (NanoCPUs?: number) => ({
      Status: { State: "ready" },
      Description: { Resources: { NanoCPUs, MemoryBytes: 500 } },
    });
    expect(engineFigures(size, [node(2e9), node(1e9)])).toMatchObject({
      containers: null,
      cpu: { total: 3 },
      memory: { total: 1000 },
    });
    expect(engineFigures(size, [node(2e9), node()]).cpu.total).toBeNull();
  });
});
