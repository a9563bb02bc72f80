import { beforeAll, describe, expect, it } from "vitest";
import { runAsCallerAndKeep } from "../../shared/database/caller.ts";
import { sqlText } from "../../shared/database/literal.ts";
import { createTestApi, type Persona, type TestApi } from "./support/test-api.ts";

let test: TestApi;
let owner: Persona;

beforeAll(async () => {
  test = await createTestApi();
  owner = await test.user();
});

const body = { agentName: "once" };
const post = (key: string, overrides: Record<string, unknown> = {}) =>
  test.call("POST", "/api/agents", {
    as: owner,
    body,
    headers: { "Idempotency-Key": key },
    ...overrides,
  });

async function agentsOf(persona: Persona): Promise<number> {
  const [row] = await test.sql`
    select count(*)::int as number from public.agents where user_id = ${persona.userId}`;
  return row!.number;
}

describe("Idempotency-Key", () => {
  it("replays the first answer and does the work once", async () => {
    const before = await agentsOf(owner);
    const first = await post("replay");
    const second = await post("replay");
    expect(first.headers.get("idempotency-replayed")).toBeNull();
    expect(second.headers.get("idempotency-replayed")).toBe("true");
    expect([second.status, second.json]).toEqual([first.status, first.json]);
    expect(second.headers.get("location")).toBe(first.headers.get("location"));
    expect(await agentsOf(owner)).toBe(before + 1);
  });

  it("refuses another body", async () => {
    await post("other-body");
    const answer = await post("other-body", { body: { agentName: "twice" } });
    expect([answer.status, answer.json.error.code]).toEqual([422, "IDEMPOTENCY_KEY_REUSED"]);
  });

  it("refuses another path", async () => {
    await post("other-path");
    const answer = await test.call("POST", "/api/auth/generate-key", {
      as: owner,
      body,
      headers: { "Idempotency-Key": "other-path" },
    });
    expect(answer.status).toBe(400);
    const valid = await test.call("POST", "/api/auth/generate-key", {
      as: owner,
      body: {},
      headers: { "Idempotency-Key": "other-path" },
    });
    expect(valid.status).toBe(422);
  });

  it("lets one of many at once do the work", async () => {
    const before = await agentsOf(owner);
    const answers = await Promise.all(Array.from({ length: 5 }, () => post("at-once")));
    expect(await agentsOf(owner)).toBe(before + 1);
    for (const answer of answers) {
      if (answer.status === 409) {
        expect(answer.json.error.code).toBe("IDEMPOTENCY_KEY_IN_FLIGHT");
        expect(Number(answer.headers.get("retry-after"))).toBeGreaterThan(0);
      } else {
        expect(answer.status).toBe(201);
      }
    }
  });

  it("says that the first request is under way", async () => {
    await test.sql`
      select private.begin_idempotent(${owner.userId}, 'under-way', 'POST', '/api/agents',
        sha256(convert_to(${JSON.stringify(body)}, 'UTF8')))`;
    const answer = await post("under-way");
    expect([answer.status, answer.json.error.code]).toEqual([409, "IDEMPOTENCY_KEY_IN_FLIGHT"]);
  });

  it("is not blocked for ever by a process that died half-way", async () => {
    await test.sql`
      select private.begin_idempotent(${owner.userId}, 'died', 'POST', '/api/agents', sha256('x'))`;
    await test.sql`update private.idempotency_keys set locked_until = now() - interval '1 second'
      where key = 'died'`;
    expect((await post("died")).status).toBe(201);
  });

  it("may be used again when the request did nothing", async () => {
    const refused = await post("corrected", { body: { agentName: "a", replicas: 999 } });
    expect(refused.status).toBe(400);
    expect((await post("corrected")).status).toBe(201);
  });

  it("belongs to its user", async () => {
    const other = await test.user();
    const mine = await post("shared-word");
    const theirs = await post("shared-word", { as: other });
    expect(theirs.status).toBe(201);
    expect(theirs.json.agentId).not.toBe(mine.json.agentId);
  });

  it("keeps work and answer together: neither when the answer cannot be kept", async () => {
    const before = await agentsOf(owner);
    await test
      .sql`alter table private.idempotency_keys add constraint test_fails check (status is null) not valid`;
    try {
      expect((await post("fails")).status).toBe(500);
    } finally {
      await test.sql`alter table private.idempotency_keys drop constraint test_fails`;
    }
    expect(await agentsOf(owner)).toBe(before);
    expect((await post("fails")).status).toBe(201);
  });

  it("does nothing when its connection dies before the answer is kept, and the pool goes on", async () => {
    const caller = { userId: owner.userId, apiKeyId: null, agentId: null, claims: null };
    const lost = runAsCallerAndKeep(
      test.pool,
      caller,
      { requestId: "lost" },
      sqlText`select jsonb_build_object('pid', pg_backend_pid(), 'made', public.create_agent('{"name": "lost"}')) as result`,
      async (result: { pid: number }) => {
        await test.auth`select pg_terminate_backend(${result.pid})`;
        return sqlText`select 1`;
      },
    );
    await expect(lost).rejects.toMatchObject({ code: "SUPABASE_CONNECTION_ERROR" });
    expect(await test.sql`select from public.agents where name = 'lost'`).toHaveLength(0);
    expect((await test.call("GET", "/api/agents", { as: owner })).status).toBe(200);
  });

  it("replays a key that is shown once without keeping it in clear", async () => {
    const make = () =>
      test.call("POST", "/api/auth/generate-key", {
        as: owner,
        body: {},
        headers: { "Idempotency-Key": "one-key" },
      });
    const first = await make();
    const second = await make();
    expect(second.json).toEqual(first.json);
    const [row] = await test.sql`
      select body::text as body from private.idempotency_keys where key = 'one-key'`;
    expect(row!.body).not.toContain(first.json.apiKey);
  });

  it.each([["a b"], ["x".repeat(256)]])("refuses the key %s", async (key) => {
    const answer = await post(key);
    expect([answer.status, answer.json.error.code]).toEqual([400, "VALIDATION_ERROR"]);
    expect(Object.keys(answer.json.error.details)).toEqual(["Idempotency-Key"]);
  });
});
