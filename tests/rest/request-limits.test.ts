/** What a user may change over PostgREST in a minute, by the hook that it calls before each request. */
import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type RestUnderTest, startRest } from "./support.ts";

let service: RestUnderTest;

beforeAll(async () => {
  service = await startRest(`
    create table public.notes (id int generated always as identity primary key, note text not null);
    grant select, insert, update, delete on public.notes to authenticated, service_role;
    grant select on public.notes to anon;
    create function public.write_note(note text) returns int language sql volatile
      as 'insert into public.notes (note) values (note) returning id';
    create function public.count_notes() returns bigint language sql stable
      as 'select count(*) from public.notes';
    create function public.break_a_promise() returns int language sql stable
      as 'select public.write_note(''x'')';
    grant execute on all functions in schema public to authenticated;`);
});
afterAll(() => service.close());

/** A user with limits of their own; without any the installation's hold. */
async function user(limits?: { query_limit?: number; query_seconds?: number }) {
  const id = randomUUID();
  await service.database.sql`
    insert into auth.users (id, email, instance_id, aud, role)
    values (${id}, ${`${id}@example.com`}, '00000000-0000-0000-0000-000000000000', 'authenticated', 'authenticated')`;
  if (limits) {
    await service.database.sql`
      update public.profiles set rate_limit = ${
      service.database.sql.json(limits)
    } where id = ${id}`;
  }
  const token = await service.token("authenticated", { sub: id });
  const call = (method: string, path: string, body?: unknown) =>
    service.request(path, {
      method,
      token,
      headers: { "content-type": "application/json" },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
  return { id, call };
}

const remaining = (answer: Response) => answer.headers.get("supabase-ratelimit-remaining");
/** A window that does not end while a test runs. */
const DAY = { query_seconds: 86_400 };

describe("a user's changes", () => {
  it("are limited to 1,000, also when 1,001 come at once", async () => {
    const { call } = await user(DAY);
    const answers = await Promise.all(
      Array.from({ length: 1001 }, () => call("PATCH", "/notes?id=eq.0", { note: "none" })),
    );
    const statuses = answers.map((answer) => answer.status);
    expect(statuses.filter((status) => status === 204)).toHaveLength(1000);
    expect(statuses.filter((status) => status === 429)).toHaveLength(1);
  });

  it("beyond the limit get the documented answer", async () => {
    const { id, call } = await user({ query_limit: 1 });
    let refused!: Response;
    // The first in a minute is admitted, and the second unless the minute ended in between.
    await expect.poll(async () => {
      refused = await call("POST", "/notes", { note: id });
      return refused.status;
    }).toBe(429);
    const { details, hint, ...rest } = await refused.json();
    expect(rest).toEqual({ code: "RATE_LIMIT_EXCEEDED", message: "Rate limit exceeded" });
    expect(hint).toEqual(expect.any(String));
    expect(JSON.parse(details)).toEqual({
      limit_type: "supabase_queries",
      limit: 1,
      window_seconds: 60,
      reset_time: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:00Z$/),
      retry_after: Number(refused.headers.get("retry-after")),
      user_id: id,
    });
    expect(Number(refused.headers.get("retry-after"))).toBeGreaterThan(0);
    expect(Number(refused.headers.get("retry-after"))).toBeLessThanOrEqual(60);
    expect(remaining(refused)).toBe("0");
  });

  it("are told how many are left, each counted once", async () => {
    const { call } = await user({ query_limit: 100, ...DAY });
    const answers = [
      await call("POST", "/notes", { note: "a" }),
      await call("POST", "/notes", [{ note: "b" }, { note: "c" }]),
      await call("PATCH", "/notes?note=eq.a", { note: "d" }),
      await call("DELETE", "/notes?note=eq.d"),
      await call("POST", "/rpc/write_note", { note: "e" }),
    ];
    expect(answers.map((answer) => answer.status)).toEqual([201, 201, 204, 204, 200]);
    expect(answers.map(remaining)).toEqual(["99", "98", "97", "96", "95"]);
  });

  it("may be made again in the next window", async () => {
    const { call } = await user({ query_limit: 1, query_seconds: 1 });
    await call("POST", "/notes", { note: "a" });
    await expect.poll(async () => (await call("POST", "/notes", { note: "b" })).status).toBe(201);
  });

  it("of one are not those of another", async () => {
    const one = await user({ query_limit: 1, ...DAY });
    const other = await user({ query_limit: 1, ...DAY });
    await one.call("POST", "/notes", { note: one.id });
    expect((await one.call("POST", "/notes", { note: one.id })).status).toBe(429);
    expect(await (await one.call("GET", `/notes?note=eq.${one.id}`)).json()).toHaveLength(1);
    expect((await other.call("POST", "/notes", { note: "a" })).status).toBe(201);
  });

  it("do not count when they failed", async () => {
    const { call } = await user({ query_limit: 1, ...DAY });
    expect((await call("POST", "/notes", { note: null })).status).toBe(400);
    expect((await call("POST", "/notes", { note: "a" })).status).toBe(201);
  });
});

describe("reading", () => {
  it("is not limited, and tells what is left", async () => {
    const { call } = await user({ query_limit: 1, ...DAY });
    expect(remaining(await call("GET", "/notes?limit=1"))).toBe("1");
    await call("POST", "/notes", { note: "a" });
    for (const path of ["/notes?limit=1", "/rpc/count_notes"]) {
      const answer = await call("GET", path);
      expect([answer.status, remaining(answer)]).toEqual([200, "0"]);
    }
    expect((await call("HEAD", "/notes")).status).toBe(200);
  });

  it("by a stable function is reading, also by POST", async () => {
    const { call } = await user({ query_limit: 1, ...DAY });
    for (let times = 0; times < 2; times++) {
      const answer = await call("POST", "/rpc/count_notes", {});
      expect([answer.status, remaining(answer)]).toEqual([200, "1"]);
    }
  });

  it("holds a function to its promise to change nothing", async () => {
    const { call } = await user();
    const answer = await call("POST", "/rpc/break_a_promise", {});
    expect([answer.status, (await answer.json()).code]).toEqual([405, "25006"]);
  });
});

describe("others than users", () => {
  it("the service key has no limit", async () => {
    const token = await service.token("service_role");
    const answer = await service.request("/notes", {
      method: "POST",
      token,
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ note: "a" }),
    });
    expect([answer.status, remaining(answer)]).toEqual([201, null]);
  });

  it("anonymous callers pass the guard", async () => {
    const answer = await service.request("/notes?limit=1");
    expect([answer.status, remaining(answer)]).toEqual([200, null]);
  });

  it("nobody calls the guard as a function", async () => {
    const { call } = await user();
    expect((await call("POST", "/rpc/guard_request", {})).status).toBe(404);
  });
});
