import { existsSync } from "node:fs";
import { join } from "node:path";
import postgres from "postgres";
import { Closers, within } from "./closers.ts";
import type { StackConfig } from "./config.ts";
import { createTokenVerifier, type StackKeys } from "./keys.ts";
import type { Log } from "./log.ts";
import type { SendMail } from "./inbox.ts";
import { type Postgres, superuser } from "./postgres.ts";
import type { HttpService } from "./service.ts";

export interface DatabaseServices {
  rest: HttpService;
  auth: HttpService;
  realtime: HttpService;
  close(): Promise<void>;
}

export interface DatabaseServicesOptions {
  config: StackConfig;
  keys: StackKeys;
  database: Postgres;
  sendMail: SendMail;
  log: Log;
}

/** A service that does not let go of its connections must not hold up the end of the stack. */
const CLOSE_WITHIN_MS = 3_000;

/** Starts everything that lives in this process and works on the database. */
export async function startDatabaseServices(
  options: DatabaseServicesOptions,
): Promise<DatabaseServices> {
  const { config, keys, database, sendMail, log } = options;
  const verifyToken = createTokenVerifier(keys);
  const closers = new Closers(log);
  const started = async <S extends { close(): Promise<void> }>(
    name: string,
    start: (log: Log) => Promise<S>,
  ): Promise<S> => {
    const service = await start(log.child(name));
    closers.add(name, () => within(CLOSE_WITHIN_MS, service.close()));
    return service;
  };

  try {
    await publishToVault(database.url(superuser), config, keys);
    const authSql = postgres(database.url("supabase_auth_admin"), {
      max: 5,
      // An idle backend of Postgres holds about 10 MB.
      idle_timeout: 20,
      onnotice: () => {},
    });
    closers.add("auth's connections", () => authSql.end({ timeout: 1 }));
    const [rest, auth, realtime] = await Promise.all([
      started("rest", async (log) =>
        (await load("rest")).createRest({
          databaseUrl: database.url("authenticator"),
          verifyToken,
          log,
        })),
      started("auth", async (log) =>
        (await load("auth")).createAuth({
          sql: authSql,
          keys,
          apiUrl: config.urls.api,
          siteUrl: config.siteUrl,
          log,
          sendMail,
        })),
      started("realtime", async (log) =>
        (await load("realtime")).createRealtime({
          databaseUrl: database.url(superuser),
          verifyToken,
          log,
        })),
      started(
        "cron",
        async (log) =>
          (await load("cron")).startCron({ databaseUrl: database.url(superuser), log }),
      ),
      started(
        "net",
        async (log) => (await load("net")).startNet({ databaseUrl: database.url(superuser), log }),
      ),
    ]);
    return { rest, auth, realtime, close: () => closers.close() };
  } catch (error) {
    await closers.close();
    throw error;
  }
}

/** Tells the database where the stack answers, so that `private.wake_worker()` can call it. */
async function publishToVault(url: string, config: StackConfig, keys: StackKeys): Promise<void> {
  const sql = postgres(url, { max: 1, onnotice: () => {} });
  try {
    for (const [name, value] of [["project_url", config.urls.api], ["secret_key", keys.secret]]) {
      await sql`
        with known as (
          select id, decrypted_secret from vault.decrypted_secrets where name = ${name!}
        ), updated as (
          select vault.update_secret(id, ${value!}) from known where decrypted_secret <> ${value!}
        ), created as (
          select vault.create_secret(${value!}, ${name!}) where not exists (select from known)
        )
        select (select count(*) from updated), (select count(*) from created)`;
    }
  } finally {
    await sql.end();
  }
}

// deno-lint-ignore no-explicit-any
async function load(name: string): Promise<any> {
  const path = join(import.meta.dirname!, `${name}.ts`);
  if (existsSync(path)) return await import(path);
  const missing = () =>
    Promise.resolve({
      fetch: () =>
        Promise.resolve(Response.json({ message: `${name} is missing` }, { status: 503 })),
      close: () => Promise.resolve(),
    });
  return new Proxy({}, { get: (_, key) => key === "then" ? undefined : missing });
}
