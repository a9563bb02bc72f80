import { createHash } from "node:crypto";
import { createServer } from "node:http";
import net, { type AddressInfo, type Server } from "node:net";
import { afterEach, describe, expect, it } from "vitest";
import { createServiceProbes, type ServiceProbeOptions } from "../../shared/health/services.ts";
import { SLOW_MS } from "../../shared/health/status.ts";

/** The probes of services against small servers that behave well and badly. */

const servers: Server[] = [];
afterEach(() => {
  for (const server of servers.splice(0)) server.close();
});

async function listen(server: Server): Promise<number> {
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return (server.address() as AddressInfo).port;
}

/** A project whose every path gives this status; connections that stay silent with 0. */
async function project(status: number): Promise<string> {
  const server = createServer((_request, response) => {
    if (status !== 0) response.writeHead(status).end("{}");
  });
  const port = await listen(server);
  return `http://127.0.0.1:${port}`;
}

/** What the probes say; an answer is never called slow, which on a busy machine any may be. */
async function probe(options: Partial<ServiceProbeOptions>) {
  const measures = await createServiceProbes({
    projectUrl: "http://127.0.0.1:9",
    apiKey: "key",
    registryUrl: null,
    redisUrl: null,
    timeoutMs: 60_000,
    ...options,
  })();
  for (const measure of Object.values(measures)) {
    const { status, response_time_ms: time } = measure;
    if (status === "degraded" && time !== null && time > SLOW_MS) measure.status = "healthy";
  }
  return measures;
}

describe("services behind the gateway", () => {
  it("are healthy when they answer, with the time it took", async () => {
    const { auth, storage, functions } = await probe({ projectUrl: await project(200) });
    for (const each of [auth, storage, functions]) {
      expect(each.status).toBe("healthy");
      expect(each.response_time_ms).toBeGreaterThanOrEqual(0);
    }
  });

  it("are unhealthy when they fail, are silent or away", async () => {
    for (const projectUrl of [await project(500), await project(0), "http://127.0.0.1:9"]) {
      const measures = await probe({ projectUrl, timeoutMs: 300 });
      for (const name of ["auth", "realtime", "storage", "functions"] as const) {
        expect(measures[name]).toMatchObject({ status: "unhealthy", response_time_ms: null });
      }
    }
  });

  it("are unavailable where the project has no Storage", async () => {
    expect((await probe({ projectUrl: await project(501) })).storage.status).toBe("unavailable");
  });
});

describe("the registry", () => {
  it.each([[200, "healthy"], [401, "healthy"], [500, "unhealthy"]])(
    "that answers %i is %s",
    async (status, word) => {
      expect((await probe({ registryUrl: await project(status) })).registry.status).toBe(word);
    },
  );

  it("is unavailable when none is watched", async () => {
    expect((await probe({})).registry.status).toBe("unavailable");
  });
});

describe("Redis", () => {
  const info = "# Memory\r\nused_memory:47185920\r\n# Clients\r\nconnected_clients:12\r\n";

  /** A Redis that wants the password `secret`. */
  function redis(): Promise<number> {
    return listen(net.createServer((socket) => {
      let signedIn = false;
      socket.on("error", () => {});
      socket.on("data", (chunk) => {
        const text = chunk.toString();
        if (text.includes("AUTH")) {
          signedIn = text.includes("secret");
          socket.write(signedIn ? "+OK\r\n" : "-WRONGPASS invalid\r\n");
        }
        if (text.includes("INFO")) {
          socket.write(signedIn ? `$${info.length}\r\n${info}\r\n` : "-NOAUTH required\r\n");
        }
      });
    }));
  }

  it("tells its memory and its clients", async () => {
    const measured =
      (await probe({ redisUrl: `redis://:secret@127.0.0.1:${await redis()}` })).redis;
    expect(measured).toMatchObject({
      status: "healthy",
      details: { memory_bytes: 47_185_920, connections: 12 },
    });
  });

  it("is unhealthy when it refuses us, and unavailable when there is none", async () => {
    const refused = await probe({ redisUrl: `redis://:wrong@127.0.0.1:${await redis()}` });
    expect(refused.redis.status).toBe("unhealthy");
    expect((await probe({ redisUrl: "redis://127.0.0.1:9" })).redis.status).toBe("unhealthy");
    expect((await probe({})).redis.status).toBe("unavailable");
  });
});

describe("Realtime", () => {
  /** A Realtime that answers heartbeats, and whose tenant's health is this. */
  async function realtime(status: number, body: string): Promise<string> {
    const server = createServer((request, response) => {
      const known = request.headers.apikey === "sb_secret_test";
      response.writeHead(known ? status : 401).end(body);
    });
    server.on("upgrade", (request, socket) => {
      const key = String(request.headers["sec-websocket-key"]);
      const accept = createHash("sha1").update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`)
        .digest("base64");
      socket.write(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
          `Sec-WebSocket-Accept: ${accept}\r\n\r\n`,
      );
      const reply = JSON.stringify({ event: "phx_reply", payload: { status: "ok" } });
      socket.write(Buffer.concat([Buffer.from([0x81, reply.length]), Buffer.from(reply)]));
      socket.on("error", () => {});
    });
    return `http://127.0.0.1:${await listen(server)}`;
  }
  const health = (connected: unknown) =>
    JSON.stringify({ data: { healthy: true, connected_cluster: connected } });

  it("tells how many connections it has", async () => {
    const projectUrl = await realtime(200, health(45));
    const measured = (await probe({ projectUrl, secretKey: "sb_secret_test" })).realtime;
    expect(measured).toMatchObject({ status: "healthy", details: { connections: 45 } });
  });

  it.each([
    ["keeps it to itself", 403, ""],
    ["answers with something else", 200, "<html>"],
    ["answers with no number", 200, health("many")],
  ])("is healthy all the same when it %s", async (_, status, body) => {
    const projectUrl = await realtime(status, body);
    const measured = (await probe({ projectUrl, secretKey: "sb_secret_test" })).realtime;
    expect(measured).toMatchObject({ status: "healthy", details: { connections: null } });
  });
});
