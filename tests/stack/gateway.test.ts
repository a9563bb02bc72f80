import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type GatewayUnderTest, startGatewayUnderTest } from "./support/gateway.ts";

const ECHO = `
  Deno.serve(async (request) => {
    const { pathname, search } = new URL(request.url);
    if (request.method === "OPTIONS" && pathname.endsWith("/own-cors")) {
      return new Response(null, { headers: { "access-control-allow-origin": "https://mine" } });
    }
    if (pathname.endsWith("/gzip")) {
      const packed = new Blob(["hello"]).stream().pipeThrough(new CompressionStream("gzip"));
      return new Response(packed, { headers: { "content-encoding": "gzip" } });
    }
    if (pathname.endsWith("/redirect")) return new Response(null, { status: 302, headers: { location: "/x" } });
    if (pathname.endsWith("/stream")) return new Response(request.body);
    const headers = Object.fromEntries(request.headers);
    return Response.json({ path: pathname, search, headers, body: await request.text() });
  });
`;

let gateway: GatewayUnderTest;
beforeAll(async () => {
  gateway = await startGatewayUnderTest({ api: ECHO });
});
afterAll(() => gateway.stop());

const get = (path: string, headers: Record<string, string> = {}) =>
  fetch(gateway.url + path, { headers });
const body = async (path: string, headers: Record<string, string> = {}) =>
  await (await get(path, headers)).json();

describe("a project key", () => {
  test.each(["rest", "auth", "realtime"])("is asked for by /%s/v1", async (service) => {
    const answer = await get(`/${service}/v1/anything`);
    expect(answer.status).toBe(401);
    expect(await answer.json()).toMatchObject({ message: "No API key found in request" });
  });

  test("that is none is refused", async () => {
    const answer = await get("/rest/v1/agents", { apikey: "sb_publishable_wrong" });
    expect(answer.status).toBe(401);
    expect(await answer.json()).toMatchObject({ message: "Invalid API key" });
  });

  test("of another project, well signed, is refused", async () => {
    const [head, claims] = gateway.keys.anon.split(".");
    const answer = await get("/rest/v1/agents", { apikey: `${head}.${claims}.AAAA` });
    expect(answer.status).toBe(401);
  });

  test.each(
    [
      ["publishable", "anon"],
      ["secret", "serviceRole"],
      ["anon", "anon"],
      ["serviceRole", "serviceRole"],
    ] as const,
  )("%s stands for the JWT of its role", async (key, role) => {
    const { headers } = await body("/rest/v1/agents", { apikey: gateway.keys[key] });
    expect(headers.authorization).toBe(`Bearer ${gateway.keys[role]}`);
  });

  test("repeated as the bearer token is replaced", async () => {
    const { headers } = await body("/rest/v1/agents", {
      apikey: gateway.keys.publishable,
      authorization: `Bearer ${gateway.keys.publishable}`,
    });
    expect(headers.authorization).toBe(`Bearer ${gateway.keys.anon}`);
  });

  test("leaves a user's own token alone", async () => {
    const { headers } = await body("/rest/v1/agents", {
      apikey: gateway.keys.publishable,
      authorization: "Bearer a.b.c",
    });
    expect(headers.authorization).toBe("Bearer a.b.c");
  });

  test("does not lend its rights to another key in the bearer token", async () => {
    const { headers } = await body("/rest/v1/agents", {
      apikey: gateway.keys.publishable,
      authorization: `Bearer ${gateway.keys.secret}`,
    });
    expect(headers.authorization).toBe(`Bearer ${gateway.keys.secret}`);
  });

  test("in the query never reaches the service as a filter", async () => {
    const path = `/rest/v1/agents?apikey=${gateway.keys.publishable}&id=eq.1`;
    expect((await body(path)).search).toBe("?id=eq.1");
  });

  test("is not needed for what a browser must reach", async () => {
    expect((await get("/auth/v1/.well-known/jwks.json")).status).toBe(200);
    expect((await get("/auth/v1/verify?token=x")).status).toBe(200);
    expect((await get("/auth/v1/verify-not")).status).toBe(401);
  });
});

describe("a path", () => {
  const key = () => ({ apikey: gateway.keys.publishable });

  test("loses the service's prefix", async () => {
    expect((await body("/rest/v1/agents?select=*", key())).path).toBe("/agents");
    expect((await body("/rest/v1/", key())).path).toBe("/");
    expect((await body("/rest/v1", key())).path).toBe("/");
    expect((await body("/functions/v1/api/agents")).path).toBe("/api/agents");
  });

  test("of the API reaches function api unchanged", async () => {
    expect(await body("/api/agents/1?x=%20y")).toMatchObject({
      path: "/api/agents/1",
      search: "?x=%20y",
    });
  });

  test.each(["health", "metrics"])("/%s is the function's own", async (name) => {
    expect((await body(`/${name}`)).path).toBe(`/api/-/${name}`);
  });

  test("that only begins like a service is unknown", async () => {
    expect((await get("/apiary")).status).toBe(404);
    expect((await get("/rest/v1x")).status).toBe(404);
  });

  test("of a service to come says so", async () => {
    const answer = await get("/storage/v1/bucket");
    expect(answer.status).toBe(501);
    expect(await answer.json()).toMatchObject({ code: "NOT_IMPLEMENTED" });
  });

  test("of an unknown function has the platform's answer", async () => {
    const answer = await get("/functions/v1/nobody");
    expect(answer.status).toBe(404);
    expect(await answer.json()).toEqual({
      code: "NOT_FOUND",
      message: "Requested function was not found",
    });
  });
});

describe("a browser of another origin", () => {
  const preflight = (path: string) =>
    fetch(gateway.url + path, {
      method: "OPTIONS",
      headers: {
        origin: "http://app.test",
        "access-control-request-method": "PATCH",
        "access-control-request-headers": "apikey,x-client-info",
      },
    });

  test.each(["/rest/v1/agents", "/auth/v1/token", "/functions/v1/api/x", "/api/agents"])(
    "may ask %s",
    async (path) => {
      const answer = await preflight(path);
      expect(answer.status).toBe(204);
      expect(answer.headers.get("access-control-allow-origin")).toBe("*");
      expect(answer.headers.get("access-control-allow-methods")).toContain("PATCH");
      expect(answer.headers.get("access-control-allow-headers")).toBe("apikey,x-client-info");
    },
  );

  test("gets the function's own rule where it has one", async () => {
    const answer = await preflight("/api/own-cors");
    expect(answer.headers.get("access-control-allow-origin")).toBe("https://mine");
  });

  test("may read answers and refusals", async () => {
    const good = await get("/rest/v1/agents", { apikey: gateway.keys.publishable });
    expect(good.headers.get("access-control-allow-origin")).toBe("*");
    expect(good.headers.get("access-control-expose-headers")).toContain("Content-Range");
    const refused = await get("/rest/v1/agents");
    expect(refused.headers.get("access-control-allow-origin")).toBe("*");
  });
});

describe("what is handed on", () => {
  test("says who asked for what", async () => {
    const { headers } = await body("/api/agents", { "x-forwarded-for": "203.0.113.7" });
    expect(headers).toMatchObject({
      "x-forwarded-for": "203.0.113.7, 127.0.0.1",
      "x-real-ip": "127.0.0.1",
      "x-forwarded-proto": "http",
      "x-forwarded-host": new URL(gateway.url).host,
    });
  });

  test("keeps a body of every kind", async () => {
    const answer = await fetch(`${gateway.url}/api/x`, { method: "POST", body: "äöü\n" });
    expect((await answer.json()).body).toBe("äöü\n");
  });

  test("a redirect is the client's to follow", async () => {
    const answer = await fetch(`${gateway.url}/api/redirect`, { redirect: "manual" });
    expect(answer.status).toBe(302);
    expect(answer.headers.get("location")).toBe("/x");
  });

  test("a packed body is readable", async () => {
    expect(await (await get("/api/gzip")).text()).toBe("hello");
  });

  test("bodies stream both ways while they are written", async () => {
    const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>();
    const writer = writable.getWriter();
    const encode = (text: string) => new TextEncoder().encode(text);
    void writer.write(encode("one"));
    const answer = await fetch(`${gateway.url}/api/stream`, {
      method: "POST",
      body: readable,
      duplex: "half",
    } as RequestInit);
    const reader = answer.body!.getReader();
    expect(new TextDecoder().decode((await reader.read()).value)).toBe("one");
    void writer.write(encode("two"));
    expect(new TextDecoder().decode((await reader.read()).value)).toBe("two");
    await writer.close();
    expect((await reader.read()).done).toBe(true);
  });

  test("a defect of a service tells the client nothing", async () => {
    const answer = await get("/rest/v1/throws", { apikey: gateway.keys.publishable });
    expect(answer.status).toBe(500);
    expect(await answer.text()).not.toContain("hunter2");
    expect(gateway.log()).toContain("hunter2");
  });
});
