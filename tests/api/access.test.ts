import { UnsecuredJWT } from "jose";
import { beforeAll, describe, expect, it } from "vitest";
import { createTestApi, type Persona, type TestApi } from "./support/test-api.ts";

let test: TestApi;
let owner: Persona;
let stranger: Persona;
let agent: string;

beforeAll(async () => {
  test = await createTestApi();
  owner = await test.user();
  stranger = await test.user();
  agent = await test.running(owner);
});

const routes = (id: string): [string, string, unknown?][] => [
  ["GET", `/api/agents/${id}`],
  ["GET", `/api/agents/${id}/status`],
  ["GET", `/api/agents/${id}/logs`],
  ["GET", `/api/agents/${id}/logs?follow=true`],
  ["GET", `/api/agents/${id}/metrics`],
  ["PUT", `/api/agents/${id}`, { description: "mine now" }],
  ["POST", `/api/agents/${id}/scale`, { replicas: 2 }],
  ["POST", `/api/agents/${id}/restart`],
  ["POST", `/api/agents/${id}/stop`],
  ["POST", `/api/agents/${id}/start`],
  ["DELETE", `/api/agents/${id}`],
];

describe("a stranger", () => {
  it("finds no agent of another user, whatever they ask of it", async () => {
    for (const [method, path, body] of routes(agent)) {
      const answer = await test.call(method, path, { as: stranger, body });
      expect([method, path, answer.status, answer.json.error.code]).toEqual([
        method,
        path,
        404,
        "AGENT_NOT_FOUND",
      ]);
    }
  });

  it("cannot tell another's agent from none at all", async () => {
    const none = crypto.randomUUID();
    const [theirs, nobodys] = await Promise.all(
      [agent, none].map((id) =>
        test.call("GET", `/api/agents/${id}`, { as: stranger, edition: 3 })
      ),
    );
    const shape = (answer: typeof theirs, id: string) =>
      JSON.stringify({ ...answer!.json.error, timestamp: 0, correlation_id: 0 })
        .replaceAll(id, "ID");
    expect(shape(theirs, agent)).toBe(shape(nobodys, none));
  });

  it("sees none of them in a list, and may not name the owner", async () => {
    const list = (query: string) =>
      test.call("GET", `/api/agents${query}`, { as: stranger, edition: 1 });
    expect((await list("")).json).toMatchObject({ agents: [], total: 0 });
    expect((await list(`?owner=${stranger.userId}`)).json).toMatchObject({ agents: [], total: 0 });
    for (const name of [owner.userId, crypto.randomUUID()]) {
      const refused = await list(`?owner=${name}`);
      expect([refused.status, refused.json.error.code]).toEqual([403, "INSUFFICIENT_PERMISSIONS"]);
    }
  });

  it("gets 404 for what cannot be an id", async () => {
    const answer = await test.call("GET", "/api/agents/agent-123abc", { as: stranger, edition: 1 });
    expect(answer.status).toBe(404);
    expect(answer.json.error.message).toBe("Agent with ID 'agent-123abc' not found");
  });
});

describe("an administrator", () => {
  it("reads other users' agents and lists them by owner", async () => {
    const admin = await test.user({ role: "admin" });
    const read = await test.call("GET", `/api/agents/${agent}`, { as: admin });
    expect(read.status).toBe(200);
    const listed = await test.call("GET", `/api/agents?owner=${owner.userId}`, {
      as: admin,
      edition: 1,
    });
    expect(listed.json.agents.map((each: { owner: string }) => each.owner)).toEqual([owner.userId]);
  });

  it("is none any more right after a demotion", async () => {
    const admin = await test.user({ role: "admin" });
    await test.sql`update public.profiles set role = 'user' where id = ${admin.userId}`;
    expect((await test.call("GET", `/api/agents/${agent}`, { as: admin })).status).toBe(404);
  });
});

describe("somebody without a good credential", () => {
  const codes = { 1: "INVALID_API_KEY", 2: "INVALID_JWT_TOKEN", 3: "AUTHENTICATION_FAILED" };

  async function refusedEverywhere(headers: Record<string, string>) {
    for (const [method, path, body] of [...routes(agent), ["GET", "/api/agents"] as const]) {
      for (const edition of [1, 2, 3] as const) {
        const answer = await test.call(method, path, { headers, edition, body });
        expect([path, answer.status, answer.json.error.code]).toEqual([path, 401, codes[edition]]);
        expect(answer.headers.get("www-authenticate")).toContain("Bearer");
      }
    }
  }

  it("is refused when anonymous", async () => {
    await refusedEverywhere({});
  });

  it("is refused with a garbage token", async () => {
    await refusedEverywhere({ Authorization: "Bearer garbage" });
  });

  it("is refused with the project's own key as a token", async () => {
    await refusedEverywhere({
      Authorization: "Bearer sb_publishable_x",
      apikey: "sb_publishable_x",
    });
  });

  it("is refused with another scheme", async () => {
    await refusedEverywhere({ Authorization: "Basic dXNlcjpwYXNz" });
  });

  it("is refused with alg none", async () => {
    const token = new UnsecuredJWT({ sub: owner.userId, role: "authenticated" })
      .setIssuer("http://127.0.0.1:54321/auth/v1").setAudience("authenticated")
      .setExpirationTime("1h").encode();
    await refusedEverywhere({ Authorization: `Bearer ${token}` });
  });

  it("is refused with an unknown, malformed or empty API key", async () => {
    await refusedEverywhere({ "X-API-Key": `alk_${"0".repeat(48)}` });
    await refusedEverywhere({ "X-API-Key": "'; select 1; --" });
    await refusedEverywhere({ "X-API-Key": "" });
  });

  it("is refused with two credentials, though both be good", async () => {
    const key = await test.apiKey(owner);
    await refusedEverywhere({ ...owner.headers, ...key.headers });
  });

  it("does not get through with a good token beside a bad key", async () => {
    await refusedEverywhere({ ...owner.headers, "X-API-Key": "bad" });
  });

  it("brings no API key in by a claim of its token", async () => {
    const key = await test.apiKey(owner);
    const [row] = await test.sql`select id from public.api_keys limit 1`;
    const token = await test.token(stranger.userId, { api_key_id: row!.id });
    const answer = await test.call("GET", "/api/agents", {
      headers: { Authorization: `Bearer ${token}` },
    });
    // The claim is dropped: the stranger is the stranger, not narrowed by somebody's key.
    expect([answer.status, answer.json.agents]).toEqual([200, []]);
    expect(key.userId).toBe(owner.userId);
  });
});

describe("an API key", () => {
  it("acts for its owner, in edition 1", async () => {
    const key = await test.apiKey(owner);
    const answer = await test.call("GET", `/api/agents/${agent}/status`, { as: key });
    expect(answer.status).toBe(200);
    expect(answer.json.status).toBe("DEPLOYED");
    expect(answer.headers.get("api-version")).toBe("1");
  });

  it("is refused from the moment it is revoked", async () => {
    const key = await test.apiKey(owner);
    expect((await test.call("GET", "/api/agents", { as: key })).status).toBe(200);
    await test.sql`update public.api_keys set revoked_at = now()
      where id = (select id from public.api_keys order by created_at desc limit 1)`;
    const answer = await test.call("GET", "/api/agents", { as: key });
    expect([answer.status, answer.json.error.code]).toEqual([401, "INVALID_API_KEY"]);
    expect(answer.json.error.details.reason).toBe("revoked");
  });

  it("is refused when it has expired", async () => {
    const key = await test.apiKey(owner);
    await test.sql`update public.api_keys set expires_at = now() - interval '1 second'
      where id = (select id from public.api_keys order by created_at desc limit 1)`;
    const answer = await test.call("GET", "/api/agents", { as: key });
    expect([answer.status, answer.json.error.code]).toEqual([401, "INVALID_API_KEY"]);
  });

  it.each([
    ["is banned", "banned_until = now() + interval '1 day'", "banned_until = now()"],
    ["was deleted softly", "deleted_at = now()", "deleted_at = null"],
  ])("is refused while its owner %s in Auth", async (_, barred, welcome) => {
    const someone = await test.user();
    const key = await test.apiKey(someone);
    const list = () => test.call("GET", "/api/agents", { as: key });
    const setUser = (columns: string) =>
      test.auth.unsafe(`update auth.users set ${columns} where id = '${someone.userId}'`);
    await setUser(barred);
    const answer = await list();
    expect([answer.status, answer.json.error.code]).toEqual([401, "INVALID_API_KEY"]);
    expect(answer.json.error.details.reason).toBe("owner barred");
    await setUser(welcome);
    expect((await list()).status).toBe(200);
  });

  it("does what it was narrowed to, and nothing else", async () => {
    const reader = await test.apiKey(owner, { permissions: ["agents:read"] });
    for (const [method, path, body] of routes(agent)) {
      const allowed = method === "GET" && !/logs|metrics/.test(path);
      const answer = await test.call(method, path, { as: reader, edition: 1, body });
      expect([method, path, answer.status]).toEqual([method, path, allowed ? 200 : 403]);
      if (!allowed) expect(answer.json.error.code).toBe("INSUFFICIENT_PERMISSIONS");
    }
    const created = await test.call("POST", "/api/agents", {
      as: reader,
      edition: 3,
      body: { agentName: "no" },
    });
    expect([created.status, created.json.error.code]).toEqual([403, "AUTHORIZATION_FAILED"]);
  });

  it("that may not read lists nothing", async () => {
    const writer = await test.apiKey(owner, { permissions: ["agents:write"] });
    const answer = await test.call("GET", "/api/agents", { as: writer, edition: 2 });
    expect([answer.status, answer.json.error.code]).toEqual([403, "INSUFFICIENT_PERMISSIONS"]);
  });

  it("that may only monitor reads figures and logs of its owner's agents", async () => {
    const monitor = await test.apiKey(owner, { permissions: ["monitoring:read"] });
    const others = await test.apiKey(stranger, { permissions: ["monitoring:read"] });
    for (const what of ["metrics", "logs"]) {
      const path = `/api/agents/${agent}/${what}`;
      const answer = await test.call("GET", path, { as: monitor, edition: 1 });
      expect([what, answer.status, answer.json.agentId]).toEqual([what, 200, agent]);
      expect((await test.call("GET", path, { as: others, edition: 1 })).status).toBe(404);
    }
    expect((await test.call("GET", `/api/agents/${agent}/status`, { as: monitor })).status)
      .toBe(403);
  });

  it("cannot make a key that can do more than itself", async () => {
    const reader = await test.apiKey(owner, { permissions: ["agents:read"] });
    const answer = await test.call("POST", "/api/auth/generate-key", { as: reader, body: {} });
    expect([answer.status, answer.json.error.code]).toEqual([403, "INSUFFICIENT_PERMISSIONS"]);
  });
});
