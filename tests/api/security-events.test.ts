import { beforeAll, describe, expect, it } from "vitest";
import { securityEvents1 } from "../../shared/contract/responses/edition-1.ts";
import { securityEvents2 } from "../../shared/contract/responses/edition-2.ts";
import { createTestApi, type Persona, type TestApi } from "./support/test-api.ts";

const path = "/api/security/events";
let test: TestApi;
let api: TestApi["api"];

beforeAll(async () => {
  test = await createTestApi();
  api = test.build({ countBatchMs: 1 });
});

/** Five wrong passwords, as Auth reports them. */
async function lockOut(person: Persona): Promise<void> {
  for (let count = 0; count < 5; count++) {
    await test.sql`select private.password_verification_hook(${
      test.sql.json({
        user_id: person.userId,
        valid: false,
        metadata: { ip_address: "192.168.1.100" },
      })
    })`;
  }
}

const read = (as: Persona, query = "", edition?: 1 | 2 | 3) =>
  test.call("GET", `${path}${query}`, { as, edition });

// deno-lint-ignore no-explicit-any
async function eventually(as: Persona, fits: (event: any) => boolean): Promise<any> {
  for (;;) {
    const found = (await read(as, "", 2)).json.events.find(fits);
    if (found !== undefined) return found;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

describe("GET /api/security/events", () => {
  it("answers edition 1 as documented", async () => {
    const person = await test.user();
    await lockOut(person);
    const { json } = await read(person, "", 1);
    expect(securityEvents1.parse(json)).toMatchObject({
      events: [{
        type: "AUTH_FAILURE",
        severity: "HIGH",
        agentId: null,
        message: "Multiple authentication failures detected",
        details: { failure_count: 5, time_window: "5 minutes" },
      }],
      total: 1,
    });
  });

  it.each([2, 3] as const)("answers edition %i as seed 002 documents", async (edition) => {
    const person = await test.user();
    await lockOut(person);
    const { json } = await read(person, "", edition);
    expect(securityEvents2.parse(json)).toMatchObject({
      events: [{
        event_type: "AUTH_FAILURE",
        severity: "HIGH",
        user_id: person.userId,
        ip_address: "192.168.1.100",
        user_agent: null,
        automated_response: { action_taken: "TEMPORARY_LOCKOUT", duration: "15 minutes" },
      }],
      total: 1,
      user_id: person.userId,
    });
  });

  it("answers both at once without a header, the second first", async () => {
    const person = await test.user();
    await lockOut(person);
    const { json, headers } = await read(person);
    expect(headers.get("api-version")).toBe("2");
    expect(json.events[0].type).toBe(json.events[0].event_type);
  });

  it("filters by severity, type and time", async () => {
    const person = await test.user();
    await lockOut(person);
    const total = async (query: string) => (await read(person, query, 2)).json.total;
    expect(await total("?severity=high")).toBe(1);
    expect(await total("?severity=CRITICAL")).toBe(0);
    expect(await total("?event_type=AUTH_FAILURE&since=1h")).toBe(1);
    expect(await total("?event_type=POLICY_CHANGE")).toBe(0);
    expect(await total(`?since=${new Date(Date.now() + 60_000).toISOString()}`)).toBe(0);
  });

  it("names every bad parameter at once", async () => {
    const query = "?limit=0&severity=BAD&event_type=a-b&since=soon";
    const { status, json } = await read(await test.user(), query, 1);
    expect(status).toBe(400);
    expect(Object.keys(json.error.details).sort()).toEqual([
      "event_type",
      "limit",
      "severity",
      "since",
    ]);
  });

  it("shows administrators the events of all, and nobody those of others", async () => {
    const person = await test.user();
    await lockOut(person);
    const { json: all } = await read(await test.user({ role: "admin" }), "?limit=500", 2);
    expect(all.events.map((event: { user_id: string }) => event.user_id)).toContain(person.userId);
    expect((await read(await test.user(), "", 2)).json).toMatchObject({ events: [], total: 0 });
  });

  it("needs monitoring:read", async () => {
    const key = await test.apiKey(await test.user(), { permissions: ["agents:read"] });
    expect((await read(key, "", 1)).status).toBe(403);
  });
});

describe("what the api function reports", () => {
  const headers = { "X-Forwarded-For": "203.0.113.9, 10.0.0.1", "User-Agent": "curl/8" };

  it.each([["revoked", "HIGH"], ["expired", "MEDIUM"]])(
    "is a key that is %s, once a minute with a count",
    async (reason, severity) => {
      const owner = await test.user();
      const key = await test.apiKey(owner);
      await (reason === "revoked"
        ? test.sql`update api_keys set revoked_at = now() where user_id = ${owner.userId}`
        : test
          .sql`update api_keys set expires_at = now() - interval '1 s' where user_id = ${owner.userId}`);
      const present = () => test.call("GET", "/api/agents", { as: key, headers, api });
      const answers = await Promise.all(Array.from({ length: 7 }, present));
      expect(new Set(answers.map((answer) => answer.status))).toEqual(new Set([401]));
      const event = await eventually(owner, (one) => one.details.count === 7);
      expect(event).toMatchObject({
        event_type: "API_KEY_MISUSE",
        severity,
        ip_address: "203.0.113.9",
        user_agent: "curl/8",
        details: { reason, method: "GET", route: "/api/agents" },
        automated_response: { action_taken: "REQUEST_REJECTED" },
      });
      expect((await read(owner, "", 2)).json.total).toBe(1);
      expect(JSON.stringify(event)).not.toContain(key.headers["X-API-Key"]);
    },
  );

  it("is a request that wants a permission, with the agent it was for", async () => {
    const owner = await test.user();
    const id = await test.create(owner);
    const key = await test.apiKey(owner, { permissions: ["agents:read"] });
    const { status } = await test.call("DELETE", `/api/agents/${id}`, { as: key, headers, api });
    expect(status).toBe(403);
    expect(await eventually(owner, (one) => one.event_type === "PERMISSION_DENIED"))
      .toMatchObject({
        severity: "MEDIUM",
        user_id: owner.userId,
        agent_id: id,
        details: { count: 1, permission: "agents:write", route: "/api/agents/{id}" },
      });
  });

  it("is no key that nobody made: there is nobody to tell", async () => {
    const before = await test.sql`select count(*)::int as number from security_events`;
    const unknown = { "X-API-Key": `alk_${"0".repeat(48)}` };
    expect((await test.call("GET", "/api/agents", { headers: unknown, api })).status).toBe(401);
    const owner = await test.user();
    const key = await test.apiKey(owner);
    await test.sql`update api_keys set revoked_at = now() where user_id = ${owner.userId}`;
    await test.call("GET", "/api/agents", { as: key, api });
    await eventually(owner, (one) => one.event_type === "API_KEY_MISUSE");
    const after = await test.sql`select count(*)::int as number from security_events`;
    expect(after[0]!.number - before[0]!.number).toBe(1);
  });
});
