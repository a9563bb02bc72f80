/** Postgres, bootstrap and migrations in one: what every service of the stack builds on. */
import { fstatSync } from "node:fs";
import { parseArgs } from "node:util";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { bootstrapDatabase } from "./bootstrap.ts";
import { databaseUrl } from "./config.ts";
import { StackError } from "./errors.ts";
import { createLog } from "./log.ts";
import { migrateDatabase } from "./migrate.ts";
import {
  type Postgres,
  type PostgresOptions,
  removeDatabase,
  startPostgres,
  superuser,
} from "./postgres.ts";

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "../..");

/**
 * Starts the server and brings its database up to this checkout's bootstrap and, unless
 * `migrations` is false, to its migrations.
 *
 * @throws StackError for what {@link startPostgres} and {@link migrateDatabase} throw; the server is
 *   stopped then
 */
export async function startDatabase(
  options: PostgresOptions & { migrations?: boolean },
): Promise<Postgres> {
  const server = await startPostgres(options);
  try {
    await bootstrapDatabase(server.url(superuser), options.keys.databasePassword);
    if (options.migrations !== false) {
      await migrateDatabase({
        url: server.url("postgres"),
        supabaseDir: path.join(root, "supabase"),
        onMigration: (name) => options.log.info(`Applying migration ${name}`),
      });
    }
    return server;
  } catch (error) {
    await server.stop();
    throw error;
  }
}

/** `postgres.ts --state DIR --port N`: a database without the rest of the stack. */
export async function runDatabaseCommand(args: string[]): Promise<void> {
  const { values } = parseArgs({
    args,
    options: {
      state: { type: "string" },
      port: { type: "string", default: "55432" },
      // For throw-away databases: a crash of the machine may cost them everything.
      fast: { type: "boolean", default: false },
      // Deletes the files in the end.
      discard: { type: "boolean", default: false },
      // Supabase's part only.
      bare: { type: "boolean", default: false },
    },
  });
  if (!values.state) {
    console.error(
      "usage: postgres.ts --state DIRECTORY [--port 55432] [--fast] [--bare] [--discard]",
    );
    Deno.exit(2);
  }
  const ended = endOfInputOrSignal();
  const port = Number(values.port);
  const stateDir = path.resolve(values.state);
  const log = createLog("info", (line) => console.error(line));
  try {
    const server = await startDatabase({
      config: { stateDir, host: "127.0.0.1", ports: { db: port } },
      keys: { databasePassword: "postgres" },
      log,
      migrations: !values.bare,
      ...(values.fast
        ? { settings: { fsync: "off", synchronous_commit: "off", full_page_writes: "off" } }
        : {}),
    });
    for (const role of ["postgres", superuser, "authenticator", "supabase_auth_admin"]) {
      console.log(`${role} ${databaseUrl(role, port)}`);
    }
    console.log("ready");
    await ended;
    await server.stop();
    if (values.discard) await removeDatabase(stateDir, log);
    Deno.exit(0);
  } catch (error) {
    if (!(error instanceof StackError)) throw error;
    console.error(`${error.message}\n  ${error.hint}`);
    Deno.exit(1);
  }
}

function endOfInputOrSignal(): Promise<void> {
  return new Promise((resolve) => {
    for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"] as const) {
      Deno.addSignalListener(signal, () => resolve());
    }
    // A parent that died closes the pipe, however it died. A terminal or /dev/null is no such pipe.
    const input = fstatSync(0);
    if (!input.isFIFO() && !input.isSocket()) return;
    (async () => {
      for await (const _ of Deno.stdin.readable) { /* nobody talks to us */ }
      resolve();
    })();
  });
}
