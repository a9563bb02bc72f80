import postgres from "postgres";
import { createAuth } from "./auth.ts";
import { surviveLostConnections } from "../../shared/database/lost-connections.ts";
import { Closers, within } from "./closers.ts";
import type { StackConfig } from "./config.ts";
import { startCron } from "./cron.ts";
import { createTokenVerifier, type StackKeys } from "./keys.ts";
import type { SendMail } from "./inbox.ts";
import type { Log } from "./log.ts";
import { startNet } from "./net.ts";
import { type Postgres, superuser } from "./postgres.ts";
import { createRealtime } from "./realtime.ts";
import { createRest } from "./rest.ts";
import type { HttpService } from "./service.ts";
import { createStorage } from "./storage.ts";

export interface DatabaseServices {
  rest: HttpService;
  auth: HttpService;
  storage: HttpService;
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
    // A server that is killed while somebody signs in must not take the stack with it.
    const connections = (name: string, role: string, settings = {}) => {
      const sql = surviveLostConnections(postgres(database.url(role), {
        max: 5,
        // An idle backend of Postgres holds about 10 MB.
        idle_timeout: 20,
        onnotice: () => {},
        connection: settings,
      }));
      closers.add(`${name}'s connections`, () => sql.end({ timeout: 1 }));
      return sql;
    };
    const authSql = connections("auth", "supabase_auth_admin");
    const storageSql = connections("storage", "supabase_storage_admin", {
      application_name: "storage",
      // A policy that never ends must not keep one of these few for good.
      statement_timeout: 30_000,
    });
    const asAdministrator = database.url(superuser);
    const [rest, auth, storage, realtime] = await Promise.all([
      started("rest", (log) =>
        createRest({
          databaseUrl: database.url("authenticator"),
          verifyToken,
          log,
          ...config.rest,
        })),
      started("auth", (log) =>
        createAuth({
          sql: authSql,
          keys,
          apiUrl: config.urls.api,
          siteUrl: config.siteUrl,
          log,
          sendMail,
        })),
      started("storage", (log) =>
        createStorage({
          sql: storageSql,
          keys,
          verifyToken,
          stateDir: config.stateDir,
          ...config.storage,
          log,
        })),
      started(
        "realtime",
        (log) => createRealtime({ databaseUrl: asAdministrator, verifyToken, log }),
      ),
      started("cron", (log) => startCron({ databaseUrl: asAdministrator, log })),
      started("net", (log) => startNet({ databaseUrl: asAdministrator, log })),
    ]);
    return { rest, auth, storage, realtime, close: () => closers.close() };
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
