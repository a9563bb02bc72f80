import { beforeEach, expect, it } from "vitest";
import type { ServiceMeasures } from "../../shared/health/services.ts";
import { SERVICES } from "../../shared/health/status.ts";
import type { ClusterHealth } from "../../shared/orchestrators/types.ts";
import { createHealthRounds } from "../../shared/worker/health-rounds.ts";
import { createWorkerBed, type WorkerBed } from "./support/bed.ts";

let bed: WorkerBed;
let measured: number;
let probed: number;
beforeEach(async () => {
  bed = await createWorkerBed();
  measured = 0;
  probed = 0;
});

const up: ClusterHealth = {
  status: "up",
  version: "2.21.0",
  orchestrator: "portainer-swarm",
  nodes: { ready: 1, total: 1 },
  responseTimeMs: 12.4,
  message: null,
  figures: {
    pods: null,
    containers: { total: 5, running: 4, stopped: 1 },
    cpu: { total: 4, used: null },
    memory: { total: 8_000_000_000, used: null },
  },
};

function rounds(health: () => Promise<ClusterHealth> = () => Promise.resolve(up)) {
  return createHealthRounds({
    sql: bed.sql,
    orchestratorFor: () => ({
      ...bed.cluster,
      health: () => {
        measured++;
        return health();
      },
    }),
    probeServices: () => {
      probed++;
      const checked_at = new Date().toISOString();
      return Promise.resolve(
        Object.fromEntries(
          SERVICES.map((name) => [name, { status: "healthy", response_time_ms: 3, checked_at }]),
        ) as ServiceMeasures,
      );
    },
    log: (level, message, fields) => bed.log.push(JSON.stringify({ level, message, ...fields })),
  });
}

const kept = async () => (await bed.sql`select * from public.cluster_health`)[0];
const becomeDue = () =>
  bed.sql`update private.health_rounds set claimed_at = now() - interval '1 hour'`;

it("keeps what the cluster says of itself", async () => {
  await rounds()();
  expect(await kept()).toMatchObject({
    cluster_id: bed.clusterId,
    status: "healthy",
    response_time_ms: 12,
    nodes_ready: 1,
    nodes_total: 1,
    pods: null,
    containers: { total: 5, running: 4, stopped: 1 },
    cpu_total: 4,
    memory_total: "8000000000",
  });
  const services = await bed.sql`select service from private.service_health`;
  expect(services).toHaveLength(SERVICES.length);
});

it("measures at most once in the set time, whichever worker is woken", async () => {
  const [one, other] = [rounds(), rounds()];
  await Promise.all([one(), one(), other(), other()]);
  await one();
  expect([measured, probed]).toEqual([1, 1]);
  await becomeDue();
  await other();
  expect([measured, probed]).toEqual([2, 2]);
});

it("replaces a figure that is no longer known", async () => {
  await rounds()();
  await becomeDue();
  await rounds(() => Promise.resolve({ ...up, status: "down", figures: undefined, nodes: null }))();
  expect(await kept()).toMatchObject({
    status: "unhealthy",
    response_time_ms: null,
    containers: null,
    cpu_total: null,
  });
});

it("finds a cluster down whose driver throws", async () => {
  await rounds(() => Promise.reject(new Error("ptr_cluster-credential")))();
  expect(await kept()).toMatchObject({ status: "unhealthy", message: expect.any(String) });
  expect(bed.log.join()).not.toContain("ptr_cluster-credential");
});

it("leaves disabled clusters alone", async () => {
  await bed.sql`update public.clusters set enabled = false`;
  await rounds()();
  expect(measured).toBe(0);
});

it("survives a database that refuses", async () => {
  await bed.sql`alter function private.claim_health_checks rename to gone`;
  await rounds()();
  expect(bed.log.join()).toContain("health could not be measured");
});
