import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { createClient, type SupabaseClient } from "@supabase/supabase-js";
import { exportJWK, generateKeyPair, SignJWT } from "jose";
import postgres from "postgres";
import { afterAll, expect, vi } from "vitest";
import { createTestDatabase, type TestDatabase } from "../../support/database.ts";
import { freePorts } from "../../../scripts/free-ports.ts";
import { denoCommand } from "../../support/deno.ts";
import { PATIENCE } from "../../support/until.ts";
import { POLL } from "./listen.ts";

export interface TestRealtime {
  /** What supabase-js takes: `/realtime/v1` is under it. */
  url: string;
  database: TestDatabase;
  /** As the superuser. */
  admin: postgres.Sql;
  anonKey: string;
  /** A token of a signed-in user. @param life seconds */
  userToken(
    sub: string,
    options?: { life?: number; role?: string; claims?: object },
  ): Promise<string>;
  /** supabase-js, unmodified, for a user or, without one, for anon. Closed after the test file. */
  client(
    sub?: string,
    options?: { vsn?: "1.0.0" | "2.0.0"; token?: () => Promise<string> },
  ): SupabaseClient;
  /** What the server has logged. */
  output(): string;
  /** The process, for tests that kill it. */
  pid: number;
  /** Before the end of the file, where many are started: a server has few slots. */
  stop(): Promise<void>;
}

// Registered after the database's own, whose turn therefore comes later: it drops what we still use.
const onEnd: (() => Promise<void>)[] = [];
afterAll(async () => {
  for (const end of onEnd.splice(0)) await end();
});

/** Realtime on a database of its own, stopped after the test file. */
export async function startRealtime(
  { limits = {}, schema }: { limits?: Record<string, number>; schema?: string } = {},
): Promise<TestRealtime> {
  const database = await createTestDatabase();
  const admin = postgres(database.url("supabase_admin"), { max: 2, onnotice: () => {} });
  if (schema) await database.sql.unsafe(schema);
  const { privateKey, publicKey } = await generateKeyPair("ES256");
  const jwks = { keys: [{ ...(await exportJWK(publicKey)), kid: "test", alg: "ES256" }] };
  const sign = (claims: Record<string, unknown>, life: number) => {
    const now = Math.floor(Date.now() / 1000);
    return new SignJWT({ iat: now, exp: now + life, ...claims })
      .setProtectedHeader({ alg: "ES256", kid: "test" }).sign(privateKey);
  };
  const anonKey = await sign({ role: "anon" }, 86_400);
  const [port] = await freePorts(1);

  const deno = denoCommand();
  const script = fileURLToPath(new URL("./server.ts", import.meta.url));
  const child = spawn(deno.command, [...deno.args, "run", "-A", "--quiet", script], {
    stdio: ["pipe", "pipe", "pipe"],
    env: {
      ...process.env,
      REALTIME_SETUP: JSON.stringify({
        databaseUrl: database.url("supabase_admin"),
        port,
        jwks,
        limits,
      }),
    },
  });
  let output = "";
  child.stderr.on("data", (data) => output += data);
  await new Promise<void>((resolve, reject) => {
    child.stdout.on("data", () => resolve());
    child.once("exit", () => reject(new Error(`Realtime did not start:\n${output}`)));
  });

  const clients: SupabaseClient[] = [];
  let stopped: Promise<void> | undefined;
  const stop = () =>
    stopped ??= (async () => {
      for (const client of clients) await client.realtime.disconnect();
      if (child.exitCode === null && child.signalCode === null) {
        child.kill("SIGKILL");
        await new Promise((resolve) => child.once("exit", resolve));
      }
      // The server notices a moment later, and a database with a slot cannot be dropped.
      await vi.waitFor(async () => expect(await slots(admin)).toEqual([]), POLL);
      await admin.end({ timeout: 1 });
    })();
  onEnd.push(stop);
  const url = `http://127.0.0.1:${port}`;
  const userToken: TestRealtime["userToken"] = (sub, { life = 3600, role, claims } = {}) =>
    sign({ sub, role: role ?? "authenticated", ...claims }, life);
  return {
    url,
    database,
    admin,
    anonKey,
    userToken,
    client(sub, { vsn, token } = {}) {
      const accessToken = token ?? (sub === undefined ? undefined : once(() => userToken(sub)));
      const client = createClient(url, anonKey, {
        ...(accessToken && { accessToken }),
        realtime: { timeout: PATIENCE.timeout, ...(vsn && { vsn }) },
      });
      clients.push(client);
      return client;
    },
    output: () => output,
    pid: child.pid!,
    stop,
  };
}

/** Replication slots of the database. */
export async function slots(admin: postgres.Sql): Promise<string[]> {
  const rows = await admin`
    select slot_name as name from pg_replication_slots where database = current_database()`;
  return rows.map(({ name }) => name);
}

function once<T>(make: () => Promise<T>): () => Promise<T> {
  let made: Promise<T> | undefined;
  return () => made ??= make();
}
