import { get as httpGet, request as httpRequest } from "node:http";
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

const ECHO_SOCKET = `
  Deno.serve((request) => {
    const { pathname, searchParams } = new URL(request.url);
    if (searchParams.get("token") !== "good") {
      return Response.json({ code: "AUTHENTICATION_FAILED" }, { status: 401 });
    }
    const { socket, response } = Deno.upgradeWebSocket(request, { protocol: "v2" });
    socket.onopen = () => socket.send("hello from " + pathname);
    socket.onmessage = ({ data }) => data === "close" ? socket.close(4001, "asked to") : socket.send(data);
    socket.onclose = ({ code }) => console.log("client closed with " + code);
    return response;
  });
`;

let gateway: GatewayUnderTest;
beforeAll(async () => {
  gateway = await startGatewayUnderTest({ api: ECHO, ws: ECHO_SOCKET });
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
    expect((await body("/storage/v1/object/public/b/cat.png")).path).toBe(
      "/object/public/b/cat.png",
    );
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

  test.each(["TRACE", "TRACK"])("is not asked for by %s", async (method) => {
    const status = await new Promise((resolve, reject) => {
      httpRequest(`${gateway.url}/api/agents`, { method }, (answer) => {
        answer.resume();
        resolve(answer.statusCode);
      }).on("error", reject).end();
    });
    expect(status).toBe(405);
  });

  test("that only begins like a service is unknown", async () => {
    expect((await get("/apiary")).status).toBe(404);
    expect((await get("/rest/v1x")).status).toBe(404);
  });

  test("of a service that the stack cannot have says why", async () => {
    const answer = await get("/graphql/v1");
    expect(answer.status).toBe(501);
    expect(await answer.json()).toMatchObject({
      code: "NOT_IMPLEMENTED",
      message: expect.stringContaining("pg_graphql"),
    });
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
    await expect.poll(gateway.log).toContain("hunter2");
  });
});

describe("a WebSocket", () => {
  /** What came in order: texts, buffers, and last the close code. */
  class Client {
    readonly socket: WebSocket;
    private readonly arrived: unknown[] = [];
    private waiting: ((value: unknown) => void)[] = [];

    constructor(path: string, protocols: string[] = []) {
      this.socket = new WebSocket(gateway.url.replace("http", "ws") + path, protocols);
      this.socket.binaryType = "arraybuffer";
      this.socket.onmessage = ({ data }) => this.take(data);
      this.socket.onclose = ({ code, reason }) => this.take({ code, reason });
    }

    private take(value: unknown): void {
      const waiting = this.waiting.shift();
      if (waiting) waiting(value);
      else this.arrived.push(value);
    }

    next(): Promise<unknown> {
      if (this.arrived.length > 0) return Promise.resolve(this.arrived.shift());
      return new Promise((resolve) => this.waiting.push(resolve));
    }
  }

  test("to Realtime is upgraded in place, with the role's JWT for the key", async () => {
    const client = new Client(
      `/realtime/v1/websocket?apikey=${gateway.keys.publishable}&vsn=1.0.0`,
    );
    const seen = JSON.parse(await client.next() as string);
    expect(seen.path).toBe("/websocket");
    expect(new URLSearchParams(seen.search).get("apikey")).toBe(gateway.keys.anon);
    expect(new URLSearchParams(seen.search).get("vsn")).toBe("1.0.0");
    client.socket.close();
  });

  test("to Realtime without a key is refused", async () => {
    const answer = await upgradeRequest("/realtime/v1/websocket");
    expect(answer.status).toBe(401);
    expect(JSON.parse(answer.body)).toMatchObject({ message: "No API key found in request" });
  });

  test("to a function carries text and bytes both ways", async () => {
    const client = new Client("/ws?token=good", ["v2", "v1"]);
    expect(await client.next()).toBe("hello from /ws");
    expect(client.socket.protocol).toBe("v2");
    client.socket.send("text");
    expect(await client.next()).toBe("text");
    client.socket.send(new Uint8Array([0, 255, 128]));
    expect(new Uint8Array(await client.next() as ArrayBuffer)).toEqual(
      new Uint8Array([0, 255, 128]),
    );
    client.socket.close();
  });

  test("carries a large message whole", async () => {
    const client = new Client("/functions/v1/ws/sub?token=good", ["v2"]);
    expect(await client.next()).toBe("hello from /ws/sub");
    const text = "x".repeat(2_000_000);
    client.socket.send(text);
    expect(await client.next()).toBe(text);
    client.socket.close();
  });

  test("ends with the function's own code and reason", async () => {
    const client = new Client("/ws?token=good", ["v2"]);
    await client.next();
    client.socket.send("close");
    expect(await client.next()).toEqual({ code: 4001, reason: "asked to" });
  });

  test("tells the function that the client has gone", async () => {
    const client = new Client("/ws?token=good", ["v2"]);
    await client.next();
    client.socket.close(4005);
    await expect.poll(gateway.log).toContain("client closed with 4005");
  });

  test("that the function refuses is answered with its status and body", async () => {
    const answer = await upgradeRequest("/ws?token=bad");
    expect(answer.status).toBe(401);
    expect(JSON.parse(answer.body)).toEqual({ code: "AUTHENTICATION_FAILED" });
  });
});

/** A handshake as a client sends it, for the answer that the WebSocket API hides. */
function upgradeRequest(path: string): Promise<{ status: number; body: string }> {
  return new Promise((resolve, reject) => {
    const request = httpGet(gateway.url + path, {
      headers: {
        connection: "Upgrade",
        upgrade: "websocket",
        "sec-websocket-version": "13",
        "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
      },
    }, (response) => {
      let body = "";
      response.on("data", (chunk) => body += chunk);
      response.on("end", () => resolve({ status: response.statusCode!, body }));
    });
    request.on("error", reject);
    request.on("upgrade", () => reject(new Error("the function accepted")));
  });
}
