import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, describe, expect, it } from "vitest";
import { readEnvironment } from "../../functions/api/environment.ts";
import { createWorkerKick } from "../../functions/api/wake-worker.ts";
import { seal, unseal } from "../../shared/http/seal.ts";

describe("the environment", () => {
  const hosted: Record<string, string> = {
    SUPABASE_URL: "https://project.example.com/",
    SUPABASE_DB_URL: "postgresql://postgres:x@db.example.com:5432/postgres",
    SUPABASE_SECRET_KEYS: '{"default":"sb_secret_a","cron":"sb_secret_b"}',
  };
  const read = (overrides: Record<string, string | undefined> = {}) =>
    readEnvironment((name) => ({ ...hosted, ...overrides })[name]);

  it("is what hosted functions get", () => {
    expect(read()).toMatchObject({
      projectUrl: "https://project.example.com",
      issuers: ["https://project.example.com/auth/v1"],
      jwks: null,
      legacySecret: null,
      secretKey: "sb_secret_a",
    });
  });

  it("may name further issuers", () => {
    expect(read({ AUTH_ISSUERS: "http://127.0.0.1:54321/auth/v1, " }).issuers).toEqual([
      "https://project.example.com/auth/v1",
      "http://127.0.0.1:54321/auth/v1",
    ]);
  });

  it("says what is missing", () => {
    expect(() => read({ SUPABASE_DB_URL: "" })).toThrow("SUPABASE_DB_URL");
  });
});

describe("the kick of the worker", () => {
  const servers: Server[] = [];
  afterEach(() => {
    for (const server of servers.splice(0)) server.close();
    delete (globalThis as { EdgeRuntime?: unknown }).EdgeRuntime;
  });

  it("carries the secret key, and many at once make few calls", async () => {
    const keys: unknown[] = [];
    const server = createServer((request, response) => {
      keys.push(request.headers.apikey);
      setTimeout(() => response.end("{}"), 20);
    });
    servers.push(server);
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const background: Promise<unknown>[] = [];
    Object.assign(globalThis, {
      EdgeRuntime: { waitUntil: (work: Promise<unknown>) => background.push(work) },
    });
    const { port } = server.address() as AddressInfo;
    const kick = createWorkerKick(`http://127.0.0.1:${port}`, "sb_secret_a");
    for (let index = 0; index < 10; index++) kick();
    await Promise.all(background);
    expect(keys).toEqual(["sb_secret_a", "sb_secret_a"]);
  });

  it("harms nobody when there is no worker", async () => {
    const background: Promise<unknown>[] = [];
    Object.assign(globalThis, {
      EdgeRuntime: { waitUntil: (work: Promise<unknown>) => background.push(work) },
    });
    createWorkerKick("http://127.0.0.1:1", "sb_secret_a")();
    await expect(Promise.all(background)).resolves.toHaveLength(1);
  });
});

describe("a sealed answer", () => {
  it("opens with the secret it was sealed with", async () => {
    expect(await unseal("secret", await seal("secret", "alk_x"))).toBe("alk_x");
  });

  it("does not show what is in it", async () => {
    expect(await seal("secret", "alk_x")).not.toContain("alk_x");
  });

  it.each([["another secret", (sealed: string) => sealed, "other"], [
    "a changed text",
    (sealed: string) => `${sealed.slice(0, -4)}AAAA`,
    "secret",
  ], ["garbage", () => "garbage", "secret"]])(
    "does not open with %s",
    async (_name, change, secret) => {
      expect(await unseal(secret, change(await seal("secret", "alk_x")))).toBeNull();
    },
  );
});
