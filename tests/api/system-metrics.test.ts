import { beforeAll, beforeEach, describe, expect, it } from "vitest";
import { system1 } from "../../shared/contract/responses/edition-1.ts";
import { system2 } from "../../shared/contract/responses/edition-2.ts";
import { system3 } from "../../shared/contract/responses/edition-3.ts";
import { createTestApi, type Persona, type TestApi } from "./support/test-api.ts";

let test: TestApi;
let owner: Persona;
let stranger: Persona;
let operator: Persona;

beforeAll(async () => {
  test = await createTestApi();
  owner = await test.user();
  stranger = await test.user();
  operator = await test.user({ role: "operator" });
  await test.running(owner, { resources: { cpu: "500m", memory: "1Gi", replicas: 2 } });
  await test.running(owner);
  await test.running(stranger);
  await test.create(owner);
});

const third = async (as: Persona) =>
  (await test.call("GET", "/api/metrics", { as, edition: 3 })).json;
const first = async (as: Persona) =>
  (await test.call("GET", "/api/system/metrics", { as, edition: 1 })).json;

async function measure(of: Persona, figures: Record<string, number | null>, ago = "0 seconds") {
  const [agent] = await test.sql`
    select a.id from public.agents a join public.deployments d on d.agent_id = a.id
    where a.user_id = ${of.userId} and d.state = 'running' order by a.created_at limit 1`;
  await test.sql`
    insert into public.agent_metrics (agent_id, user_id, replicas, timestamp, cpu_usage, cpu_limit,
      memory_usage, memory_limit, network_rx, network_tx)
    select ${agent!.id}, ${of.userId}, 1, now() - ${ago}::interval, m.cpu_usage, m.cpu_limit,
      m.memory_usage, m.memory_limit, m.network_rx, m.network_tx
    from jsonb_populate_record(null::public.agent_metrics, ${test.sql.json(figures)}) m`;
}

beforeEach(async () => {
  await test.sql`truncate public.agent_metrics, public.agent_metrics_latest, public.cluster_health`;
});

describe("each edition", () => {
  it("is answered as documented, with and without measurements", async () => {
    for (const measured of [false, true]) {
      if (measured) {
        await measure(owner, { cpu_usage: 0.25, cpu_limit: 1, network_rx: 10, network_tx: 20 });
      }
      for (const as of [owner, operator]) {
        for (const [edition, schema] of [[1, system1], [2, system2], [3, system3]] as const) {
          const path = edition === 3 ? "/api/metrics" : "/api/system/metrics";
          const { status, json } = await test.call("GET", path, { as, edition });
          expect(status).toBe(200);
          expect(schema.safeParse(json).error).toBeUndefined();
        }
      }
    }
  });

  it("is the one that documents the path, without a header", async () => {
    const one = await test.call("GET", "/api/metrics", { as: owner });
    expect([one.headers.get("api-version"), "performance" in one.json]).toEqual(["3", true]);
    const other = await test.call("GET", "/api/system/metrics", { as: owner });
    expect([other.headers.get("api-version"), "resources" in other.json]).toEqual(["2", true]);
  });
});

describe("whose figures", () => {
  it("users get their own", async () => {
    expect(await third(owner)).toMatchObject({
      scope: "own",
      agents: { total: 3, active: 2, deploying: 1, failed: 0 },
      containers: { total: 3, running: 3, stopped: 0, failed: 0 },
    });
    expect(await first(stranger)).toMatchObject({
      scope: "own",
      system: { totalAgents: 1, runningAgents: 1 },
    });
  });

  it("operators and administrators get everybody's", async () => {
    for (const as of [operator, await test.user({ role: "admin" })]) {
      expect(await third(as)).toMatchObject({
        scope: "system",
        agents: { total: 4, active: 3 },
        containers: { total: 4 },
      });
    }
  });

  it("a key gets no more than its permissions", async () => {
    const own = await test.apiKey(operator, { permissions: ["monitoring:read"] });
    expect((await first(own)).scope).toBe("own");
    const none = await test.apiKey(operator, { permissions: ["agents:read"] });
    const refused = await test.call("GET", "/api/system/metrics", { as: none });
    expect([refused.status, refused.json.error.code]).toEqual([403, "INSUFFICIENT_PERMISSIONS"]);
  });
});

describe("containers and deployments", () => {
  it("counts by what became of them", async () => {
    const someone = await test.user();
    const crashed = await test.running(someone);
    const stopped = await test.running(someone);
    const containers = (list: object[]) => test.sql.json(list as never);
    await test.sql`update public.deployments set containers = ${
      containers([
        { status: "running" },
        { status: "exited", exit_code: 1 },
        { status: "exited", exit_code: 0, oom_killed: true },
        { status: "dead" },
        { status: "created" },
      ])
    } where agent_id = ${crashed}`;
    // Stopped on purpose: the exit code is that of the signal.
    await test.sql`update public.deployments set state = 'stopped', containers = ${
      containers([{ status: "exited", exit_code: 143 }])
    } where agent_id = ${stopped}`;
    expect((await third(someone)).containers).toEqual({
      total: 6,
      running: 1,
      stopped: 2,
      failed: 3,
    });
  });

  it("tells how many deployments succeeded", async () => {
    const someone = await test.user();
    expect((await first(someone)).system.deployments).toEqual({
      successful: 0,
      failed: 0,
      successRate: null,
    });
    for (let made = 0; made < 3; made++) await test.running(someone);
    await test.sql`update public.operations set state = 'failed' where id = (
      select id from public.operations where user_id = ${someone.userId} limit 1)`;
    expect((await first(someone)).system.deployments).toEqual({
      successful: 2,
      failed: 1,
      successRate: 66.7,
    });
  });
});

describe("resources", () => {
  it("are null where nobody measured", async () => {
    expect((await first(owner)).resources.cpu).toEqual({
      total: null,
      used: null,
      percentage: null,
    });
    expect((await third(operator)).system).toMatchObject({ cpu_usage: null, network_rx: null });
  });

  it("of a user are measured against the limits", async () => {
    await measure(owner, {
      cpu_usage: 0.25,
      cpu_limit: 1,
      memory_usage: 256,
      memory_limit: 1024,
      network_rx: 10,
      network_tx: 20,
    });
    expect((await first(owner)).resources).toMatchObject({
      cpu: { total: 1, used: 0.25, percentage: 25 },
      memory: { total: 1024, used: 256, percentage: 25 },
    });
    expect((await third(owner)).system).toMatchObject({ network_rx: 10, network_tx: 20 });
    expect((await third(stranger)).system.network_rx).toBeNull();
  });

  it("of an agent that is measured no more count no more", async () => {
    await measure(owner, { cpu_usage: 0.25, cpu_limit: 1 }, "3 minutes");
    expect((await first(owner)).resources.cpu.used).toBeNull();
  });

  it("of the system are measured against the clusters, by the hosts where these tell", async () => {
    await measure(owner, { cpu_usage: 1, cpu_limit: 1, memory_usage: 100, memory_limit: 1024 });
    const cluster = (figures: object) =>
      test.sql`select private.record_cluster_health(${test.clusterId}, ${
        test.sql.json({ status: "healthy", cpu_total: 4, memory_total: 1000, ...figures } as never)
      })`;
    await cluster({});
    await test.sql`select private.sum_usage()`;
    expect((await first(operator)).resources).toMatchObject({
      cpu: { total: 4, used: 1, percentage: 25 },
      memory: { total: 1000, used: 100, percentage: 10 },
    });
    await cluster({ cpu_used: 3, memory_used: 500 });
    expect((await first(operator)).resources).toMatchObject({
      cpu: { used: 3, percentage: 75 },
      memory: { used: 500, percentage: 50 },
    });
    await test.sql`update public.cluster_health set checked_at = now() - interval '5 minutes'`;
    expect((await first(operator)).resources.cpu.total).toBeNull();
  });

  it("weigh the database", async () => {
    expect((await first(operator)).resources.storage.used).toBeGreaterThan(1_000_000);
    expect((await first(owner)).resources.storage.used).toBe(0);
    const whole = async (as: Persona, bytes: unknown) => {
      await test.sql`
        update public.settings set value = ${JSON.stringify(bytes)}::text::jsonb
        where category = 'platform' and key = 'storage_bytes'`;
      return (await first(as)).resources.storage;
    };
    const storage = await whole(operator, 2 ** 40);
    expect(storage.total).toBe(1_099_511_627_776);
    expect(storage.percentage).toBe(Math.round(storage.used / 2 ** 40 * 1000) / 10);
    expect((await whole(owner, 2 ** 40)).total).toBeNull();
    for (const unknown of [null, 0, -5, "much"]) {
      expect(await whole(operator, unknown)).toMatchObject({ total: null, percentage: null });
    }
  });
});

describe("performance", () => {
  const counts = (minute: string, user_id: string, requests: number, errors: number, ms: number) =>
    test.sql`insert into private.request_counts values
      (date_trunc('minute', now()) - ${minute}::interval, ${user_id}, ${requests}, ${errors}, ${ms})`;
  beforeEach(() => test.sql`truncate private.request_counts`);

  it("is of the last minutes, of the caller or of all", async () => {
    await counts("1 minute", owner.userId, 80, 2, 8000);
    await counts("2 minutes", stranger.userId, 20, 2, 6000);
    await counts("30 minutes", owner.userId, 999, 999, 1);
    const own = await third(owner);
    expect(own.performance).toMatchObject({ average_response_time: "100ms", error_rate: 0.025 });
    const all = (await third(operator)).performance;
    expect(all).toMatchObject({ average_response_time: "140ms", error_rate: 0.04 });
    expect(all.requests_per_minute).toBeGreaterThanOrEqual(100 / 6);
    expect(all.requests_per_minute).toBeLessThanOrEqual(100 / 5);
  });

  it("is unknown without requests", async () => {
    expect((await third(stranger)).performance).toEqual({
      average_response_time: null,
      requests_per_minute: 0,
      error_rate: null,
    });
  });

  it("is counted by all instances together, in batches", async () => {
    const someone = await test.user();
    const instances = [test.build({ countBatchMs: 20 }), test.build({ countBatchMs: 20 })];
    const ask = (api: TestApi["api"], as?: Persona) =>
      test.call("GET", "/api/agents/nothing", { as, api });
    await Promise.all(
      instances.flatMap((api) => [ask(api, someone), ask(api, someone), ask(api)]),
    );
    const written = async (userId: string) => {
      const [row] = await test.sql`
        select coalesce(sum(requests), 0)::int as requests, coalesce(sum(errors), 0)::int as errors,
          coalesce(sum(duration_ms), 0) > 0 as timed
        from private.request_counts where user_id = ${userId}`;
      return { ...row };
    };
    await expect.poll(() => written(someone.userId)).toEqual({
      requests: 4,
      errors: 0,
      timed: true,
    });
    // Those who did not prove who they are.
    await expect.poll(() => written("00000000-0000-0000-0000-000000000000")).toMatchObject({
      requests: 2,
    });
  });

  it("loses no count while the database refuses them", async () => {
    const someone = await test.user();
    const api = test.build({ countBatchMs: 20 });
    await test.sql`alter function private.count_requests rename to count_requests_later`;
    await test.sql`create sequence private.refusals`;
    await test
      .sql`create function private.count_requests(counts jsonb) returns void language plpgsql
      as $$ begin perform nextval('private.refusals'); raise 'no'; end $$`;
    await test.call("GET", "/api/agents/nothing", { as: someone, api });
    await expect.poll(async () =>
      (await test.sql`select is_called from private.refusals`)[0]!.is_called
    ).toBe(true);
    await test.sql`drop function private.count_requests`;
    await test.sql`alter function private.count_requests_later rename to count_requests`;
    await test.call("GET", "/api/agents/nothing", { as: someone, api });
    await expect.poll(async () => {
      const rows = await test.sql`
        select sum(requests)::int as requests from private.request_counts
        where user_id = ${someone.userId}`;
      return rows[0]!.requests;
    }).toBe(2);
  });
});
