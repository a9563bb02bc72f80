/** Edition 2's `metrics.supabase`: what the owner of an agent asks of Supabase, and who may see it. */
import { beforeAll, describe, expect, it } from "vitest";
import { createTestApi, type Persona, type TestApi } from "./support/test-api.ts";

let test: TestApi;
beforeAll(async () => {
  test = await createTestApi();
});

async function usage(agentId: string, as: Persona) {
  const answer = await test.call("GET", `/api/agents/${agentId}/metrics`, { as, edition: 2 });
  expect(answer.status, answer.text).toBe(200);
  return answer.json.metrics.supabase;
}

/** Requests of the last full minute: over PostgREST as the guard counts them, to /api as it does itself. */
async function haveAsked(user: Persona, written: number, requests: number): Promise<void> {
  for (let n = 0; n < written; n++) {
    await test.asCaller(user, (sql) => sql`select private.guard_request()`);
  }
  await test.sql`
    update private.query_counts set window_start = date_trunc('minute', clock_timestamp()) - interval '1 minute'
    where user_id = ${user.userId}`;
  const [{ minute }] = await test.sql`
    select date_trunc('minute', clock_timestamp()) - interval '1 minute' as minute` as [
    { minute: Date },
  ];
  await test.sql`
    select private.count_requests(${
    test.sql.json([{ minute, user_id: user.userId, requests, errors: 0, duration_ms: 1 }])
  })`;
}

describe("what an owner asks of Supabase", () => {
  it("is counted", async () => {
    const owner = await test.user();
    const id = await test.create(owner);
    await test.sql`select private.count_auth_request(${owner.userId}) from generate_series(1, 3)`;
    // Retried where a minute ends between counting and reading.
    await expect.poll(async () => {
      await test.sql`delete from private.query_counts where user_id = ${owner.userId}`;
      await test.sql`delete from private.request_counts where user_id = ${owner.userId}`;
      await haveAsked(owner, 12, 5);
      return (await usage(id, owner)).rls_queries_per_minute;
    }).toBe(17);
    const figures = await usage(id, owner);
    expect(figures.auth_requests_per_hour).toBe(3);
    expect(figures.real_time_subscriptions).toBe(0);
    const [{ connections }] = await test.sql`
      select count(*)::integer as connections from pg_stat_activity where datname = current_database()` as [
      { connections: number },
    ];
    expect(figures.database_connections).toBeGreaterThan(0);
    expect(figures.database_connections).toBeLessThanOrEqual(connections + 4);
  });

  it("is the owner's and not that of who looks", async () => {
    const owner = await test.user();
    const admin = await test.user({ role: "admin" });
    const id = await test.create(owner);
    await test.sql`select private.count_auth_request(${owner.userId}) from generate_series(1, 2)`;
    await test.sql`select private.count_auth_request(${admin.userId}) from generate_series(1, 7)`;
    expect((await usage(id, admin)).auth_requests_per_hour).toBe(2);
    expect((await usage(id, owner)).auth_requests_per_hour).toBe(2);
  });

  it("is shown to nobody else, over /api or as a function", async () => {
    const owner = await test.user();
    const stranger = await test.user();
    const id = await test.create(owner);
    const answer = await test.call("GET", `/api/agents/${id}/metrics`, {
      as: stranger,
      edition: 2,
    });
    expect(answer.status).toBe(404);
    const ask = (as: Persona) =>
      test.asCaller(as, (sql) => sql`select public.supabase_usage(${id}) as result`);
    expect((await ask(stranger))[0]!.result).toBeNull();
    expect((await ask(owner))[0]!.result).toHaveProperty("rls_queries_per_minute");
    const [direct] = await test.asCaller(
      stranger,
      (sql) => sql`select private.supabase_usage(${owner.userId}) as result`,
    );
    expect(direct!.result).toBeNull();
  });

  it("is not read for editions that do not show it", async () => {
    const owner = await test.user();
    const id = await test.create(owner);
    const answer = await test.call("GET", `/api/agents/${id}/metrics`, { as: owner, edition: 3 });
    expect(answer.json.metrics).not.toHaveProperty("supabase");
  });
});
