import { beforeAll, describe, expect, it } from "vitest";
import { connectDatabase } from "../../shared/database/connect.ts";
import { VERSION } from "../../shared/contract/version.ts";
import packageJson from "../../package.json" with { type: "json" };
import { createTestApi, type Persona, type TestApi } from "./support/test-api.ts";

let test: TestApi;
let owner: Persona;

beforeAll(async () => {
  test = await createTestApi();
  owner = await test.user();
});

describe("paths and methods", () => {
  it.each([["/api/nothing"], ["/api"], ["/"], ["/api/agents/a/b/c"], ["/api/agents/%ff"]])(
    "%s is unknown",
    async (path) => {
      const answer = await test.call("GET", path, { as: owner });
      expect([answer.status, answer.json.error.code]).toEqual([404, "NOT_FOUND"]);
    },
  );

  it("says which methods a path knows", async () => {
    const answer = await test.call("PATCH", "/api/agents", { as: owner });
    expect([answer.status, answer.json.error.code]).toEqual([405, "METHOD_NOT_ALLOWED"]);
    expect(answer.headers.get("allow")).toBe("POST, GET, HEAD, OPTIONS");
  });

  it.each([
    ["GET", "/api/agents/batch", "POST, OPTIONS"],
    ["DELETE", "/api/agents/search", "GET, HEAD, OPTIONS"],
  ])("takes no part of a path for an id: %s %s", async (method, path, allow) => {
    const answer = await test.call(method, path, { as: owner });
    expect([answer.status, answer.headers.get("allow")]).toEqual([405, allow]);
  });

  it("ignores a trailing slash", async () => {
    expect((await test.call("GET", "/api/agents/", { as: owner })).status).toBe(200);
  });

  it("answers HEAD like GET, without a body", async () => {
    const answer = await test.call("HEAD", "/api/agents", { as: owner });
    expect([answer.status, answer.text]).toEqual([200, ""]);
    expect(answer.headers.get("x-ratelimit-limit")).not.toBeNull();
  });

  it("takes no NUL in a parameter", async () => {
    const path = `/api/agents/${crypto.randomUUID()}/logs?container=%00`;
    const answer = await test.call("GET", path, { as: owner });
    expect([answer.status, Object.keys(answer.json.error.details)]).toEqual([400, ["container"]]);
  });

  it("refuses an edition that there is not", async () => {
    const answer = await test.call("GET", "/api/agents", {
      as: owner,
      headers: { "API-Version": "4" },
    });
    expect([answer.status, answer.json.error.code]).toEqual([400, "VALIDATION_ERROR"]);
    expect(Object.keys(answer.json.error.details)).toEqual(["API-Version"]);
  });
});

describe("CORS", () => {
  it("lets a page ask first", async () => {
    const answer = await test.call("OPTIONS", "/api/agents", {
      headers: {
        Origin: "https://app.example.com",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization, idempotency-key",
      },
    });
    expect(answer.status).toBe(204);
    expect(answer.headers.get("access-control-allow-methods")).toContain("POST");
    expect(answer.headers.get("access-control-allow-headers")).toBe(
      "authorization, idempotency-key",
    );
  });

  it.each([["an answer", 200], ["an error", 401]])("lets a page read %s", async (_name, status) => {
    const answer = await test.call("GET", "/api/agents", status === 200 ? { as: owner } : {});
    expect(answer.status).toBe(status);
    expect(answer.headers.get("access-control-allow-origin")).toBe("*");
    const exposed = answer.headers.get("access-control-expose-headers")!;
    for (
      const name of [
        "X-Request-Id",
        "API-Version",
        "X-RateLimit-Remaining",
        "RateLimit",
        "Retry-After",
      ]
    ) {
      expect(exposed).toContain(name);
    }
  });
});

describe("bodies", () => {
  it.each([["{"], ["nonsense"], ['{"agentName": "a",}']])("%s is not JSON", async (raw) => {
    const answer = await test.call("POST", "/api/agents", { as: owner, raw });
    expect([answer.status, answer.json.error.code]).toEqual([400, "VALIDATION_ERROR"]);
    expect(answer.json.error.details).toEqual({ body: "must be valid JSON in UTF-8" });
  });

  it("must not be nested so deep that reading it breaks", async () => {
    const raw = `{"agentName":"a","character":{"a":${"[".repeat(200_000)}${"]".repeat(200_000)}}}`;
    const answer = await test.call("POST", "/api/agents", { as: owner, raw });
    expect([answer.status, answer.json.error.code]).toEqual([400, "VALIDATION_ERROR"]);
    expect(Object.keys(answer.json.error.details)).toEqual(["body"]);
  });

  it("may hold brackets in text", async () => {
    const body = { agentName: "a", description: `"\\${"[{".repeat(200)}` };
    expect((await test.call("POST", "/api/agents", { as: owner, body })).status).toBe(201);
  });

  it("must be UTF-8", async () => {
    const raw = new Uint8Array([0x22, 0xff, 0x22]);
    expect((await test.call("POST", "/api/agents", { as: owner, raw })).status).toBe(400);
  });

  it("must claim to be JSON", async () => {
    const answer = await test.call("POST", "/api/agents", {
      as: owner,
      raw: "a=1",
      headers: { "Content-Type": "application/x-www-form-urlencoded" },
    });
    expect([answer.status, answer.json.error.code]).toEqual([415, "UNSUPPORTED_MEDIA_TYPE"]);
  });

  it("must not be larger than 1 MiB, said or unsaid", async () => {
    const raw = JSON.stringify({ agentName: "a", description: "x".repeat(1024 * 1024) });
    const said = await test.call("POST", "/api/agents", { as: owner, raw });
    const stream = new ReadableStream<Uint8Array>({
      pull: (controller) => controller.enqueue(new Uint8Array(65_536).fill(32)),
    });
    const request = new Request("http://127.0.0.1/api/agents", {
      method: "POST",
      headers: owner.headers,
      body: stream,
      duplex: "half",
    } as RequestInit);
    const unsaid = await test.api(request);
    expect([said.status, said.json.error.code]).toEqual([413, "PAYLOAD_TOO_LARGE"]);
    expect(unsaid.status).toBe(413);
  });
});

describe("each answer", () => {
  it("carries an id that stands in the log line", async () => {
    const answer = await test.call("GET", "/api/agents", { as: owner });
    const id = answer.headers.get("x-request-id");
    expect(id).toMatch(/^[0-9a-f-]{36}$/);
    expect(test.logged.filter((entry) => entry.request_id === id)).toEqual([
      expect.objectContaining({
        message: "request",
        method: "GET",
        route: "/api/agents",
        status: 200,
        user_id: owner.userId,
      }),
    ]);
  });

  it("takes a harmless id from the caller and no other", async () => {
    const good = await test.call("GET", "/api/x", {
      headers: { "X-Request-Id": "trace-12345678" },
    });
    expect(good.headers.get("x-request-id")).toBe("trace-12345678");
    const bad = await test.call("GET", "/api/x", { headers: { "X-Request-Id": 'a"}{"level' } });
    expect(bad.headers.get("x-request-id")).not.toContain("{");
  });

  it("says the same id in an error's body", async () => {
    const answer = await test.call("GET", "/api/agents");
    const id = answer.headers.get("x-request-id");
    expect([answer.json.error.correlation_id, answer.json.error.requestId]).toEqual([id, id]);
  });

  it("is not to be stored", async () => {
    const answer = await test.call("GET", "/api/agents", { as: owner });
    expect(answer.headers.get("cache-control")).toBe("no-store");
  });
});

describe("the log", () => {
  it("holds no credential, query value or body", async () => {
    const key = await test.apiKey(owner);
    const secret = "hunter2-hunter2";
    await test.call("POST", "/api/agents", {
      as: owner,
      body: { agentName: "a", environment: { PASSWORD: secret } },
    });
    await test.call("GET", `/api/agents?apikey=${secret}&limit=x`, { as: key });
    await test.call("POST", "/api/agents", { as: owner, raw: `{"${secret}` });
    const written = JSON.stringify(test.logged);
    expect(written).not.toContain(secret);
    expect(written).not.toContain(key.headers["X-API-Key"]);
    expect(written).not.toContain(owner.headers.Authorization!.slice(7));
  });
});

describe("when something breaks", () => {
  it("a database that is away is a 503, and known again when it is back", async () => {
    const sql = connectDatabase({ url: "postgresql://postgres:x@127.0.0.1:1/postgres" });
    const api = test.build({ sql });
    const answer = await test.call("GET", "/api/agents", { as: owner, edition: 2, api });
    expect([answer.status, answer.json.error.code]).toEqual([503, "SUPABASE_CONNECTION_ERROR"]);
    expect(answer.headers.get("retry-after")).not.toBeNull();
    expect(answer.text).not.toContain("127.0.0.1");
    await sql.end({ timeout: 1 });
  });

  it("connections that break are opened anew", async () => {
    await test.call("GET", "/api/agents", { as: owner });
    await test.auth`select pg_terminate_backend(pid) from pg_stat_activity
      where application_name = 'agent-launchpad' and datname = current_database()`;
    await expect.poll(async () => (await test.call("GET", "/api/agents", { as: owner })).status)
      .toBe(200);
  });

  it("what nobody expected says nothing of itself, but to the log", async () => {
    await test.sql`alter function public.list_agents rename to list_agents_away`;
    try {
      const answer = await test.call("GET", "/api/agents", { as: owner });
      expect([answer.status, answer.json.error.code]).toEqual([500, "INTERNAL_ERROR"]);
      expect(answer.text).not.toContain("list_agents");
      expect(test.logged.at(-1)).toMatchObject({
        level: "error",
        error: "INTERNAL_ERROR",
        cause: { state: "42883" },
      });
    } finally {
      await test.sql`alter function public.list_agents_away rename to list_agents`;
    }
  });
});

describe("the service itself", () => {
  it("tells its health, name and version to everybody", async () => {
    const answer = await test.call("GET", "/api/-/health");
    expect(answer.status).toBe(200);
    expect(answer.json).toMatchObject({
      status: "healthy",
      service: "agent-launchpad",
      version: "0.0.0",
    });
  });

  it("is unhealthy without its database", async () => {
    const sql = connectDatabase({ url: "postgresql://postgres:x@127.0.0.1:1/postgres" });
    const answer = await test.call("GET", "/api/-/health", { api: test.build({ sql }) });
    expect([answer.status, answer.json.status]).toEqual([503, "unhealthy"]);
    await sql.end({ timeout: 1 });
  });

  it("makes no series for methods that callers invent", async () => {
    const api = test.build();
    for (const method of ["BREW", "WHEN"]) await test.call(method, "/api/agents", { api });
    const { text } = await test.call("GET", "/api/-/metrics", { api });
    expect(text).toContain('http_requests_total{method="other",route="unknown",status="405"} 2\n');
    expect(text).not.toMatch(/BREW|WHEN/);
  });

  it("counts its requests for Prometheus", async () => {
    const api = test.build();
    await test.call("GET", "/api/agents", { as: owner, api });
    await test.call("GET", `/api/agents/${crypto.randomUUID()}`, { as: owner, api });
    const { text, headers } = await test.call("GET", "/api/-/metrics", { api });
    expect(headers.get("content-type")).toContain("text/plain; version=0.0.4");
    expect(text).toContain(
      'http_requests_total{method="GET",route="/api/agents",status="200"} 1\n',
    );
    expect(text).toContain(
      'http_requests_total{method="GET",route="/api/agents/{id}",status="404"} 1\n',
    );
    expect(text).toMatch(
      /http_request_duration_seconds_bucket\{method="GET",route="\/api\/agents",le="\+Inf"\} 1\n/,
    );
  });

  it("has the version of the package", () => {
    expect(VERSION).toBe(packageJson.version);
  });
});
