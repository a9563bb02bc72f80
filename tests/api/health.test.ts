import { beforeAll, beforeEach, describe, expect, it } from "vitest";
import { health1 } from "../../shared/contract/responses/edition-1.ts";
import { health2 } from "../../shared/contract/responses/edition-2.ts";
import { health3 } from "../../shared/contract/responses/edition-3.ts";
import { createHealthMonitor } from "../../shared/database/health-monitor.ts";
import type { ServiceMeasures } from "../../shared/health/services.ts";
import { type HealthStatus, SERVICES } from "../../shared/health/status.ts";
import { createTestApi, type Persona, type TestApi } from "./support/test-api.ts";

const path = "/api/health";
let test: TestApi;
let user: Persona;
let probed = 0;

beforeAll(async () => {
  test = await createTestApi();
  user = await test.user();
});

beforeEach(async () => {
  await test.sql`truncate private.service_health`;
  await test.sql`delete from public.cluster_health`;
  probed = 0;
});

/** The api with services in these states; all others work. */
function apiWith(
  states: Partial<Record<keyof ServiceMeasures, HealthStatus>> = {},
  now = () => new Date(),
) {
  const probe = () => {
    probed++;
    const checked_at = now().toISOString();
    return Promise.resolve(
      Object.fromEntries(SERVICES.map((name) => {
        const status = states[name] ?? "healthy";
        return [name, { status, response_time_ms: 7, checked_at, details: {} }];
      })) as ServiceMeasures,
    );
  };
  return test.build({ measureHealth: createHealthMonitor(test.pool, probe, now), now });
}

const measureCluster = (measured: Record<string, unknown>) =>
  test.sql`select private.record_cluster_health(${test.clusterId}, ${
    test.sql.json({ status: "healthy", response_time_ms: 15, ...measured } as never)
  })`;

const ask = (edition: 1 | 2 | 3, api = apiWith(), as: Persona = user) =>
  test.call("GET", path, { as, edition, api });

describe("GET /api/health", () => {
  it("tells edition 2 when an image was last scanned", async () => {
    const lastScan = async () => (await ask(2)).json.components.container_registry.last_scan;
    await test.sql`delete from private.image_scans`;
    expect(await lastScan()).toBeNull();
    await test.sql`
      insert into private.image_scans (image, vulnerabilities, scanned_at) values
        ('a', '{}', '2024-01-15T12:00:00Z'), ('b', '{}', '2024-01-14T12:00:00Z')`;
    expect(await lastScan()).toBe("2024-01-15T12:00:00.000Z");
    await test.sql`delete from private.image_scans`;
  });

  it.each([[1, health1], [2, health2], [3, health3]] as const)(
    "answers edition %i as documented",
    async (edition, schema) => {
      await measureCluster({
        orchestrator: "portainer-kubernetes",
        nodes_ready: 3,
        nodes_total: 3,
        pods: { total: 15, running: 13, pending: 2, failed: 0 },
      });
      const { status, json } = await ask(edition);
      expect(status).toBe(200);
      expect(schema.safeParse(json).error).toBeUndefined();
    },
  );

  it("answers all editions at once without a header", async () => {
    const { json } = await test.call("GET", path, { as: user, api: apiWith() });
    expect(json.components).toMatchObject({ redis: {}, portainer: {}, supabase: { auth: {} } });
  });

  it("shows what was measured of a cluster", async () => {
    await measureCluster({
      orchestrator: "portainer-kubernetes",
      nodes_ready: 4,
      nodes_total: 5,
      pods: { total: 45, running: 43, pending: 2, failed: 0 },
    });
    const { json } = await ask(3);
    expect(json.components).toMatchObject({
      portainer: {
        status: "healthy",
        response_time: "15ms",
        endpoints: { kubernetes: "healthy", docker: "unavailable" },
      },
      kubernetes: {
        status: "healthy",
        nodes: { total: 5, ready: 4, not_ready: 1 },
        pods: { total: 45, running: 43, pending: 2, failed: 0 },
      },
    });
    const first = await ask(1);
    expect(first.json.components.kubernetes).toMatchObject({ nodes: 5, pods: 45 });
  });

  it("makes nothing up where there is no Kubernetes", async () => {
    await measureCluster({ orchestrator: "portainer-swarm", nodes_ready: 1, nodes_total: 1 });
    const { json } = await ask(3);
    expect(json.components.portainer.endpoints).toEqual({
      kubernetes: "unavailable",
      docker: "healthy",
    });
    expect(json.components.kubernetes).toMatchObject({
      status: "unavailable",
      nodes: null,
      pods: null,
    });
  });

  it("measures the database it asks", async () => {
    const { json } = await ask(3);
    const { connections, status } = json.components.database;
    expect(status).toBe("healthy");
    expect(connections.active).toBeGreaterThan(0);
    expect(connections.max).toBeGreaterThanOrEqual(connections.active + connections.idle);
    const [row] = await test.sql`
      select extract(epoch from now() - pg_postmaster_start_time()) / 3600 as hours`;
    expect(json.uptime).toMatch(new RegExp(`^${Math.floor(row!.hours)}h `));
  });

  it("counts the sessions in use", async () => {
    const before = (await ask(2)).json.components.supabase.auth.active_sessions;
    await test.auth`
      insert into auth.sessions (id, user_id, created_at, updated_at, not_after) values
        (gen_random_uuid(), ${user.userId}, now(), now(), null),
        (gen_random_uuid(), ${user.userId}, now() - interval '9 days', now() - interval '9 days', null),
        (gen_random_uuid(), ${user.userId}, now(), now(), now() - interval '1 hour')`;
    expect((await ask(2)).json.components.supabase.auth.active_sessions).toBe(before + 1);
  });

  it("names the caller, their permissions and their agents on Kubernetes", async () => {
    const someone = await test.user();
    await test.running(someone);
    const agent = await test.running(someone);
    await test.sql`
      update public.deployments set orchestrator = 'kubernetes' where agent_id = ${agent}`;
    const { json } = await ask(2, apiWith(), someone);
    expect(json).toMatchObject({
      user_id: someone.userId,
      user_permissions: ["agents:read", "agents:write", "containers:manage", "monitoring:read"],
      components: { kubernetes: { user_agents: 1 }, supabase: { auth: { jwt_valid: true } } },
    });
    const key = await test.apiKey(someone, { permissions: ["agents:read"] });
    const narrowed = await ask(2, apiWith(), key);
    expect(narrowed.json.user_permissions).toEqual(["agents:read"]);
    expect(narrowed.json.components.supabase.auth.jwt_valid).toBeNull();
  });

  it("tells operators which cluster it is, and nobody else", async () => {
    await measureCluster({});
    expect((await ask(3)).text).not.toContain(test.clusterId);
    const operator = await test.user({ role: "operator" });
    const { json } = await ask(3, apiWith(), operator);
    expect(json.components.clusters).toEqual([
      expect.objectContaining({ id: test.clusterId, status: "healthy" }),
    ]);
  });

  it("is for those who signed in", async () => {
    expect((await test.call("GET", path, { api: apiWith() })).status).toBe(401);
  });
});

describe("the status of the whole", () => {
  beforeEach(() => measureCluster({}));

  it.each(
    [
      [{}, "healthy"],
      [{ storage: "unavailable", redis: "unavailable", registry: "unavailable" }, "healthy"],
      [{ realtime: "unhealthy" }, "degraded"],
      [{ functions: "degraded" }, "degraded"],
      [{ redis: "unhealthy" }, "degraded"],
      [{ auth: "degraded" }, "degraded"],
      [{ auth: "unhealthy" }, "unhealthy"],
    ] as [Partial<Record<keyof ServiceMeasures, HealthStatus>>, HealthStatus][],
  )("with %j is %s", async (states, status) => {
    expect((await ask(3, apiWith(states))).json.status).toBe(status);
  });

  it("is degraded while a cluster is down", async () => {
    await measureCluster({ status: "unhealthy", response_time_ms: null });
    const { json } = await ask(3);
    expect([json.status, json.components.portainer.status]).toEqual(["degraded", "unhealthy"]);
  });

  it("is degraded when nobody measures a cluster any more", async () => {
    await test.sql`update public.cluster_health set checked_at = now() - interval '2 minutes'`;
    const { json } = await ask(3);
    expect([json.status, json.components.portainer.status]).toEqual(["degraded", "unavailable"]);
  });
});

describe("measuring", () => {
  it("is done once in ten seconds, however many ask", async () => {
    let moment = Date.now();
    const api = apiWith({}, () => new Date(moment));
    await Promise.all(Array.from({ length: 10 }, () => ask(3, api)));
    expect(probed).toBe(1);
    await test.sql`update private.service_health set checked_at = now() - interval '11 seconds'`;
    await ask(3, api);
    expect(probed).toBe(1);
    moment += 11_000;
    await ask(3, api);
    expect(probed).toBe(2);
  });

  it("is not done again by an instance that finds a fresh one", async () => {
    await ask(3, apiWith());
    await ask(3, apiWith());
    expect(probed).toBe(1);
    await test.sql`update private.service_health set checked_at = now() - interval '11 seconds'`;
    await ask(3, apiWith());
    expect(probed).toBe(2);
  });

  it("finds that nothing is there", async () => {
    // The api of the tests has no project behind it.
    const { json } = await test.call("GET", path, { as: user, edition: 2 });
    expect(json.status).toBe("UNHEALTHY");
    expect(json.components.supabase.auth).toMatchObject({
      status: "UNHEALTHY",
      responseTime: null,
    });
    expect(json.components.container_registry).toMatchObject({
      status: "UNAVAILABLE",
      available: null,
    });
  });
});
