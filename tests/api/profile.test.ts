import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, beforeAll, describe, expect, it } from "vitest";
import { createAuthService } from "../../functions/api/auth-service.ts";
import { sizeText } from "../../functions/api/presenters/figures.ts";
import { profile1 } from "../../shared/contract/responses/edition-1.ts";
import { profile2 } from "../../shared/contract/responses/edition-2.ts";
import { createTestApi, type Persona, type TestApi } from "./support/test-api.ts";

const path = "/api/users/profile";
let test: TestApi;
let owner: Persona & { email: string };

beforeAll(async () => {
  test = await createTestApi();
  owner = await test.user({ role: "admin" });
});

const put = (
  body: unknown,
  options: { as?: Persona; edition?: 1 | 2 | 3; api?: TestApi["api"] } = {},
) => test.call("PUT", path, { as: owner, edition: 2, body, ...options });

describe("GET /api/users/profile", () => {
  it("answers edition 1 as documented", async () => {
    const { json } = await test.call("GET", path, { as: owner, edition: 1 });
    expect(profile1.parse(json)).toMatchObject({
      userId: owner.userId,
      email: owner.email,
      role: "ADMIN",
      permissions: expect.arrayContaining(["agents:*", "system:*", "users:*"]),
    });
  });

  it("answers edition 2 as documented", async () => {
    const { json } = await test.call("GET", path, { as: owner, edition: 2 });
    expect(profile2.parse(json)).toMatchObject({
      user: { id: owner.userId, email: owner.email, role: "authenticated" },
      profile: {
        notification_preferences: { email: true, real_time: true, security_alerts: true },
      },
    });
  });

  it("answers both at once without a header, the second first", async () => {
    const { json, headers } = await test.call("GET", path, { as: owner });
    expect(headers.get("api-version")).toBe("2");
    expect(json.userId).toBe(json.user.id);
  });

  it("counts the agents that are there", async () => {
    const someone = await test.user();
    await test.create(someone);
    const gone = await test.running(someone);
    await test.call("DELETE", `/api/agents/${gone}`, { as: someone });
    await test.finishOperations();
    const { json } = await test.call("GET", path, { as: someone, edition: 2 });
    expect(json.profile.agent_count).toBe(1);
  });

  it("tells the last sign-in", async () => {
    await test.auth`
      update auth.users set last_sign_in_at = '2024-01-15 10:00:00+00' where id = ${owner.userId}`;
    const { json } = await test.call("GET", path, { as: owner, edition: 1 });
    expect(json.lastLogin).toBe("2024-01-15T10:00:00.000Z");
  });

  it("shows a key what the key may", async () => {
    const key = await test.apiKey(owner, { permissions: ["agents:read"] });
    const { json } = await test.call("GET", path, { as: key });
    expect(profile1.parse(json).permissions).toEqual(["agents:read"]);
  });

  it("weighs the user's own objects", async () => {
    const used = async () =>
      (await test.call("GET", path, { as: owner, edition: 2 })).json.profile.storage_used;
    expect(await used()).toBe("0B");
    await test.sql`insert into storage.buckets (id, name) values ('weighed', 'weighed')`;
    await test.sql`
      insert into storage.objects (bucket_id, name, owner_id, metadata) values
        ('weighed', 'a', ${owner.userId}, '{"size": 104857600}'),
        ('weighed', 'b', ${owner.userId}, '{"size": 52428800}'),
        ('weighed', 'c', ${owner.userId}, '{}'),
        ('weighed', 'd', ${crypto.randomUUID()}, '{"size": 1000}')`;
    expect(await used()).toBe("150MB");
  });

  it("has no storage figure where a project has no Storage", async () => {
    await test.auth`alter table storage.objects rename to objects_away`;
    try {
      const { json } = await test.call("GET", path, { as: owner, edition: 2 });
      expect(json.profile.storage_used).toBeNull();
    } finally {
      await test.auth`alter table storage.objects_away rename to objects`;
    }
  });

  it("knows nobody without a credential, and no user who is gone", async () => {
    expect((await test.call("GET", path)).status).toBe(401);
    const gone = await test.user();
    await test.auth`delete from auth.users where id = ${gone.userId}`;
    const answer = await test.call("GET", path, { as: gone, edition: 2 });
    expect([answer.status, answer.json.error.code]).toEqual([401, "INVALID_JWT_TOKEN"]);
  });
});

describe("PUT /api/users/profile", () => {
  it("merges preferences in either edition's words", async () => {
    const someone = await test.user();
    const first = await put({ notifications: { slack: true } }, { as: someone, edition: 1 });
    expect(profile1.parse(first.json)).toBeDefined();
    const second = await put({ notification_preferences: { real_time: false } }, { as: someone });
    expect(profile2.parse(second.json).profile.notification_preferences).toEqual({
      email: true,
      slack: true,
      real_time: false,
      security_alerts: true,
    });
  });

  it("merges metadata; null removes", async () => {
    await put({ user_metadata: { full_name: "First", avatar_url: "https://example.com/a.png" } });
    const { json } = await put({ user_metadata: { full_name: "Second", avatar_url: null } });
    expect(json.user.user_metadata.full_name).toBe("Second");
    expect(json.user.user_metadata).not.toHaveProperty("avatar_url");
  });

  it("gives nobody permissions by their metadata", async () => {
    const someone = await test.user();
    const { status, json } = await put({ user_metadata: { permissions: ["system:*"] } }, {
      as: someone,
    });
    expect(status).toBe(200);
    expect(json.user.user_metadata.permissions).toEqual([
      "agents:read",
      "agents:write",
      "containers:manage",
      "monitoring:read",
    ]);
    // Nor by Auth's own PUT /user, which writes the column.
    await test.auth`
      update auth.users set raw_user_meta_data = '{"permissions": ["users:*"], "full_name": "x"}'
      where id = ${someone.userId}`;
    const [row] = await test.auth`
      select raw_user_meta_data as data from auth.users where id = ${someone.userId}`;
    expect(row!.data).toMatchObject({ full_name: "x" });
    expect(row!.data.permissions).not.toContain("users:*");
  });

  it("names every bad field and changes nothing", async () => {
    const someone = await test.user();
    const { status, json } = await put({
      email: "nobody",
      notifications: { email: "yes", pigeon: true },
      user_metadata: "x",
      role: "admin",
      notification_preferences: { slack: true },
    }, { as: someone });
    expect(status).toBe(400);
    expect(Object.keys(json.error.details).sort()).toEqual([
      "email",
      "notifications.email",
      "notifications.pigeon",
      "role",
      "user_metadata",
    ]);
    const after = await test.call("GET", path, { as: someone, edition: 2 });
    expect(after.json.profile.notification_preferences.slack).toBe(false);
  });

  it("lets metadata grow no larger than a token can carry", async () => {
    const someone = await test.user();
    const chunk = "x".repeat(9000);
    expect((await put({ user_metadata: { a: chunk } }, { as: someone })).status).toBe(200);
    const more = await put({ user_metadata: { b: chunk } }, { as: someone });
    expect([more.status, more.json.error.code]).toEqual([400, "VALIDATION_ERROR"]);
  });

  it("changes nothing with a key that may only read", async () => {
    const reader = await test.apiKey(owner, {
      permissions: ["agents:read", "monitoring:read_all"],
    });
    const answer = await put({ notifications: { email: false } }, { as: reader, edition: 1 });
    expect([answer.status, answer.json.error.code]).toEqual([403, "INSUFFICIENT_PERMISSIONS"]);
    const worker = await test.apiKey(owner, { permissions: ["containers:manage"] });
    expect((await put({ notifications: { email: true } }, { as: worker })).status).toBe(200);
  });

  it("changes preferences with a key, but no metadata, and no address without users:write", async () => {
    const someone = await test.user();
    const body = { email: someone.email, notifications: { email: false, slack: true } };
    const same = await put(body, { as: await test.apiKey(someone), edition: 1 });
    expect([same.status, same.json.notifications]).toEqual([200, { email: false, slack: true }]);
    const refused: [Persona, unknown][] = [
      [await test.apiKey(someone), { email: "new@example.com" }],
      [await test.apiKey(owner, { permissions: ["users:read"] }), { email: "new@example.com" }],
      [await test.apiKey(owner), { user_metadata: { full_name: "x" } }],
    ];
    for (const [key, body] of refused) {
      const answer = await put(body, { as: key, edition: 1 });
      expect([answer.status, answer.json.error.code]).toEqual([403, "INSUFFICIENT_PERMISSIONS"]);
    }
  });
});

describe("a change of address", () => {
  const servers: Server[] = [];
  afterEach(() => {
    for (const server of servers.splice(0)) server.close();
  });

  /** An Auth that answers each request alike. */
  async function withAuth(status: number, body: unknown, headers: Record<string, string> = {}) {
    const seen: { path?: string; authorization?: string; apikey?: unknown; body: string }[] = [];
    const server = createServer(async (request, response) => {
      let text = "";
      for await (const chunk of request) text += chunk;
      const { authorization, apikey } = request.headers;
      seen.push({ path: request.url, authorization, apikey, body: text });
      response.writeHead(status, { "Content-Type": "application/json", ...headers });
      response.end(JSON.stringify(body));
    });
    servers.push(server);
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const projectUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const auth = createAuthService({ projectUrl, apiKey: "key", secretKey: "secret" });
    return { seen, api: test.build({ auth }) };
  }

  it("goes to Auth with the caller's own token", async () => {
    const { seen, api } = await withAuth(200, {});
    const body = { email: "new@example.com", notifications: { slack: true } };
    const { status } = await put(body, { edition: 1, api });
    expect(status).toBe(200);
    expect(seen).toEqual([{
      path: "/auth/v1/user",
      authorization: owner.headers.Authorization,
      apikey: "key",
      body: '{"email":"new@example.com"}',
    }]);
  });

  it("goes to Auth as an administrator's with the key of one", async () => {
    const { seen, api } = await withAuth(200, {});
    const key = await test.apiKey(owner);
    const body = { email: "new@example.com", notifications: { email: true, slack: false } };
    const answer = await put(body, { as: key, edition: 1, api });
    expect([answer.status, answer.json.notifications]).toEqual([200, body.notifications]);
    expect(seen).toEqual([{
      path: `/auth/v1/admin/users/${owner.userId}`,
      authorization: "Bearer secret",
      apikey: "secret",
      body: '{"email":"new@example.com"}',
    }]);
  });

  it.each([[403, "not_admin"], [401, "no_authorization"], [404, "user_not_found"]])(
    "blames no caller for Auth's %i %s to the project's own key",
    async (given, code) => {
      const { api } = await withAuth(given, { error_code: code });
      const answer = await put({ email: "new@example.com" }, { as: await test.apiKey(owner), api });
      expect([answer.status, answer.json.error.code]).toEqual([503, "SUPABASE_CONNECTION_ERROR"]);
    },
  );

  it("is not begun when anything else of the request is refused", async () => {
    const { seen, api } = await withAuth(200, {});
    const someone = await test.user();
    const chunk = "x".repeat(9000);
    expect((await put({ user_metadata: { a: chunk } }, { as: someone })).status).toBe(200);
    const body = { email: "new@example.com", user_metadata: { b: chunk } };
    expect((await put(body, { as: someone, api })).status).toBe(400);
    const key = await test.apiKey(owner);
    const metadata = { email: "new@example.com", user_metadata: { full_name: "x" } };
    expect((await put(metadata, { as: key, api })).status).toBe(403);
    expect(seen).toEqual([]);
  });

  it("to the present one asks Auth for nothing", async () => {
    const { seen, api } = await withAuth(500, {});
    const answer = await put({ email: owner.email.toUpperCase() }, { api });
    expect([answer.status, seen]).toEqual([200, []]);
  });

  it.each([
    [422, "email_exists", 400, "VALIDATION_ERROR"],
    [400, "validation_failed", 400, "VALIDATION_ERROR"],
    [403, "session_not_found", 401, "INVALID_JWT_TOKEN"],
    [429, "over_email_send_rate_limit", 429, "RATE_LIMIT_EXCEEDED"],
    [500, "unexpected_failure", 503, "SUPABASE_CONNECTION_ERROR"],
  ])(
    "Auth's %i %s is our %i %s, and nothing else is changed",
    async (given, code, status, ours) => {
      const someone = await test.user();
      const { api } = await withAuth(given, { error_code: code, msg: "upstream words" });
      const body = { email: "new@example.com", notification_preferences: { slack: true } };
      const answer = await put(body, { as: someone, api });
      expect([answer.status, answer.json.error.code]).toEqual([status, ours]);
      expect(answer.text).not.toContain("upstream words");
      const after = await test.call("GET", path, { as: someone, edition: 2 });
      expect(after.json.profile.notification_preferences.slack).toBe(false);
    },
  );

  it("waits for no Auth that is away", async () => {
    const answer = await put({ email: "new@example.com" });
    expect([answer.status, answer.json.error.code]).toEqual([503, "SUPABASE_CONNECTION_ERROR"]);
  });
});

describe("a size", () => {
  it.each([
    [0, "0B"],
    [1023, "1023B"],
    [1536, "1.5KB"],
    [1024 * 1024 - 1, "1MB"],
    [157_286_400, "150MB"],
    [2_684_354_560, "2.5GB"],
  ])("of %i bytes is %s", (bytes, text) => expect(sizeText(bytes)).toBe(text));
});
