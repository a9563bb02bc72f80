import { beforeAll, describe, expect, it } from "vitest";
import { erased2 } from "../../shared/contract/responses/edition-2.ts";
import { createTestApi, type Persona, type TestApi } from "./support/test-api.ts";

const profile = "/api/users/profile";
const path = "/api/users/export";
let test: TestApi;
beforeAll(async () => {
  test = await createTestApi();
  await test.sql`update public.settings set value = '0' where key = 'settle_seconds'`;
});

describe("DELETE /api/users/profile", () => {
  const erase = (as: Persona, body: unknown = {}, edition?: 1 | 2 | 3) =>
    test.call("DELETE", profile, { as, body, ...(edition && { edition }) });

  it("erases the account and says what is left to do", async () => {
    const person = await test.user();
    await test.running(person);
    const { status, json } = await erase(person, { confirm: person.email });
    expect(status).toBe(202);
    expect(erased2.parse(json)).toMatchObject({
      user_id: person.userId,
      status: "DELETING",
      erasure: { state: "pending", agents: 1, pending: { operations: 1 } },
    });
    expect(await test.sql`select from auth.users where id = ${person.userId}`).toHaveLength(0);
  });

  it("answers the same when asked again", async () => {
    const person = await test.user();
    const first = await erase(person, { confirm: person.email });
    const second = await erase(person);
    expect(second.status).toBe(202);
    expect(second.json.erasure).toEqual(first.json.erasure);
    expect(second.json.status).toBe("DELETED");
  });

  it("wakes the worker, which removes the containers", async () => {
    const person = await test.user();
    await test.running(person);
    const before = test.kicks();
    await erase(person, { confirm: person.email });
    expect(test.kicks()).toBe(before + 1);
  });

  it("does nothing without a confirmation", async () => {
    const person = await test.user();
    const { status, json } = await erase(person, {}, 2);
    expect(status).toBe(400);
    expect(json.error).toMatchObject({ code: "VALIDATION_ERROR" });
    expect((await erase(person, { confirm: 1 })).status).toBe(400);
    expect((await erase(person, { sure: true })).status).toBe(400);
    expect(await test.sql`select from auth.users where id = ${person.userId}`).toHaveLength(1);
  });

  it("is not for an API key", async () => {
    const person = await test.user();
    const key = await test.apiKey(person);
    const { status, json } = await erase(key, { confirm: person.email }, 2);
    expect(status).toBe(403);
    expect(json.error.code).toBe("INSUFFICIENT_PERMISSIONS");
  });

  describe("leaves to a token that outlives its account", () => {
    let person: Awaited<ReturnType<typeof test.user>>;
    beforeAll(async () => {
      person = await test.user();
      await erase(person, { confirm: person.email });
    });

    it.each([
      ["GET", "/api/agents"],
      ["GET", `/api/agents/${crypto.randomUUID()}/status`],
      ["GET", path],
      ["GET", "/api/health"],
      ["POST", "/api/agents", { agentName: "late" }],
      ["POST", "/api/agents", { agentName: "late" }, { "Idempotency-Key": "late" }],
      ["PUT", "/api/users/profile", { notification_preferences: { email: false } }],
      ["POST", "/api/-/realtime/channels", { topic: "realtime:system" }],
    ])(
      "nothing: %s %s is 401, so that the client signs in again",
      async (method, asked, body?, headers?) => {
        const { status, json } = await test.call(method, asked, {
          as: person,
          body,
          headers,
          edition: 2,
        });
        expect({ status, ...json.error }).toMatchObject({
          status: 401,
          code: "INVALID_JWT_TOKEN",
          details: { reason: "unknown user" },
        });
      },
    );
  });
});

describe("GET /api/users/export", () => {
  it("is a document to download with everything of the caller, and no secret", async () => {
    const person = await test.user();
    const agentId = await test.running(person, { environment: { API_TOKEN: "top-secret" } });
    await test.sql`
      insert into public.agent_logs (agent_id, user_id, timestamp, level, message)
      select ${agentId}::uuid, ${person.userId}::uuid, now(), 'INFO', 'line ' || n
      from generate_series(1, 1234) n`;
    const { status, json, headers, text } = await test.call("GET", path, { as: person });
    expect(status).toBe(200);
    expect(headers.get("content-disposition")).toContain("attachment");
    expect(json).toMatchObject({
      user_id: person.userId,
      data: {
        account: [{ email: person.email }],
        agents: [{ id: agentId, environment_keys: ["API_TOKEN"] }],
        profiles: [{ id: person.userId }],
      },
    });
    expect(json.data.agent_logs).toHaveLength(1234);
    expect(text).not.toContain("top-secret");
  });

  it("holds nothing of others, also for administrators", async () => {
    const other = await test.user();
    await test.running(other);
    const admin = await test.user({ role: "admin" });
    const { json, text } = await test.call("GET", path, { as: admin });
    expect(json.data.agents).toBeUndefined();
    expect(text).not.toContain(other.userId);
  });

  it("is not for an API key", async () => {
    const key = await test.apiKey(await test.user());
    expect((await test.call("GET", path, { as: key })).status).toBe(403);
  });

  it("gives its connection back when the client goes away, and lets few download at once", async () => {
    const person = await test.user();
    const agentId = await test.running(person);
    await test.sql`
      insert into public.agent_logs (agent_id, user_id, timestamp, level, message)
      select ${agentId}::uuid, ${person.userId}::uuid, now(), 'INFO', repeat('x', 1000)
      from generate_series(1, 2000) n`;
    const request = () => new Request(`http://127.0.0.1${path}`, { headers: person.headers });
    const open = [await test.api(request()), await test.api(request())];
    const refused = await test.api(request());
    expect(refused.status).toBe(503);
    expect(refused.headers.get("retry-after")).toBe("10");
    for (const response of open) await response.body!.cancel();
    await expect.poll(async () => {
      const [row] = await test.sql`
        select count(*)::integer as held from pg_stat_activity
        where datname = current_database() and state = 'idle in transaction'`;
      return row!.held;
    }).toBe(0);
    expect((await test.call("GET", path, { as: person })).status).toBe(200);
  });
});
