/**
 * The Postgres server of the local stack: npm's binaries, a data directory of our own, one child
 * process that is restarted when it dies.
 *
 * Run by itself it serves as a database for work on one part:
 * `deno run -A scripts/local/postgres.ts --state /tmp/somewhere --port 55432` starts the server,
 * applies bootstrap and migrations, prints the URLs and stops on SIGTERM, SIGINT or end of input.
 */
import * as fs from "node:fs/promises";
import path from "node:path";
import { diskError, installBinaries, locateFiles, type PostgresFiles } from "./postgres-files.ts";
import { commandLine, isAlive, startTime, waitForExit } from "./processes.ts";
import { StackError } from "./errors.ts";
import type { Log } from "./log.ts";

export interface PostgresOptions {
  config: { stateDir: string; host: string; ports: { db: number } };
  keys: { databasePassword: string };
  /** Progress and trouble, one sentence each. */
  log: Log;
  /** Extra lines for the server's configuration; tests trade durability for speed with it. */
  settings?: Record<string, string>;
}

export interface Postgres {
  /** Connection string of a login role, by default to the stack's only database. */
  url(role: string, database?: string): string;
  /** Disconnects everybody, writes what is in memory and ends the server. Safe to call twice. */
  stop(): Promise<void>;
}

/** The bootstrap superuser; role `postgres` is none, as on the hosted platform. */
export const superuser = "supabase_admin";

/**
 * Starts the server, creating its data directory first when there is none, and comes back once it
 * accepts connections. A server that a killed stack left behind is stopped first.
 *
 * @throws StackError for a busy port, a full disk, missing binaries, a stack that runs already
 */
export async function startPostgres(options: PostgresOptions): Promise<Postgres> {
  const { config, keys, log } = options;
  await claimState(config.stateDir);
  const files = await locateFiles(config.stateDir);
  await stopLeftover(files, log);
  assertPortFree(config.host, config.ports.db);
  await installBinaries(files);
  const fresh = !(await exists(path.join(files.data, "PG_VERSION")));
  if (fresh) {
    log.info("Creating the database files");
    await initialise(files, keys.databasePassword);
  }
  await configure(files, options);
  const server = superviseServer(files, config, log);
  await server.ready;

  return {
    url: (role, database = "postgres") =>
      `postgresql://${role}:${encodeURIComponent(keys.databasePassword)}` +
      `@${config.host}:${config.ports.db}/${database}`,
    stop: async () => {
      await server.stop();
      await fs.rm(ownerFile(config.stateDir), { force: true });
    },
  };
}

/**
 * Stops a server that still runs on this state directory and deletes its files.
 *
 * @throws StackError when the stack that owns it is alive
 */
export async function removeDatabase(
  stateDir: string,
  log: Log,
): Promise<void> {
  await claimState(stateDir);
  const files = await locateFiles(stateDir);
  await stopLeftover(files, log);
  await fs.rm(files.place, { recursive: true, force: true });
  await fs.rm(path.join(stateDir, "postgres.place"), { force: true });
  await fs.rm(ownerFile(stateDir), { force: true });
}

const ownerFile = (stateDir: string) => path.join(stateDir, "postgres.owner");

/** Refuses when another live process runs the server of this state directory. */
async function claimState(stateDir: string): Promise<void> {
  await fs.mkdir(stateDir, { recursive: true });
  const text = await fs.readFile(ownerFile(stateDir), "utf8").catch(() => "");
  const [pid, started] = text.trim().split("\n");
  if (pid && Number(pid) !== Deno.pid && started && startTime(Number(pid)) === started) {
    throw new StackError(
      `A stack already runs on ${stateDir} (process ${pid}).`,
      "Use that one, or npm run stop; a second checkout needs its own LAUNCHPAD_STATE_DIR and ports.",
    );
  }
  await fs.writeFile(ownerFile(stateDir), `${Deno.pid}\n${startTime(Deno.pid)}\n`);
}

/** A postmaster outlives a stack that got kill -9; it holds port and data directory. */
async function stopLeftover(files: PostgresFiles, log: Log): Promise<void> {
  const pidFile = path.join(files.data, "postmaster.pid");
  const pid = Number((await fs.readFile(pidFile, "utf8").catch(() => "")).split("\n")[0]);
  if (!pid || !isAlive(pid)) return;
  const command = commandLine(pid);
  if (!command?.includes(files.data)) {
    // The id belongs to somebody else by now; Postgres itself would refuse to start over this file.
    await fs.rm(pidFile, { force: true });
    return;
  }
  log.info("Stopping the database server that an earlier stack left behind");
  for (const signal of ["SIGINT", "SIGQUIT", "SIGKILL"] as const) {
    try {
      Deno.kill(pid, signal);
    } catch (error) {
      if (!isAlive(pid)) return;
      throw new StackError(
        `The database server left behind by an earlier stack (process ${pid}) cannot be stopped.`,
        `Run npm start as the user who started it, or end it with: kill -INT ${pid}`,
        { cause: error },
      );
    }
    if (await waitForExit(pid, 10_000)) return;
  }
}

function assertPortFree(host: string, port: number): void {
  try {
    Deno.listen({ hostname: host, port }).close();
  } catch (error) {
    if (!(error instanceof Deno.errors.AddrInUse)) {
      if (error instanceof Deno.errors.PermissionDenied) throw portError(port, "needs privileges");
      throw error;
    }
    throw portError(port, "is in use by another program");
  }
}

function portError(port: number, why: string): StackError {
  return new StackError(
    `Port ${port}, which the database wants, ${why}.`,
    "Stop that program, or choose another port: LAUNCHPAD_DB_PORT=54422 npm start",
  );
}

/** Runs initdb beside the final directory, so that an interrupted first start leaves nothing half. */
async function initialise(files: PostgresFiles, password: string): Promise<void> {
  const draft = `${files.data}.new`;
  const passwordFile = path.join(files.place, "password");
  await fs.rm(draft, { recursive: true, force: true });
  await fs.rm(files.data, { recursive: true, force: true });
  try {
    await fs.writeFile(passwordFile, `${password}\n`, { mode: 0o600 });
    if (files.user) await fs.chown(passwordFile, files.user.uid, files.user.gid);
    // ICU's en-US sorts as the hosted platform does, and alike on every operating system.
    const result = await new Deno.Command(path.join(files.install, "bin", "initdb"), {
      args: [
        `--pgdata=${draft}`,
        `--username=${superuser}`,
        `--pwfile=${passwordFile}`,
        "--auth=scram-sha-256",
        "--encoding=UTF8",
        "--locale=C",
        "--locale-provider=icu",
        "--icu-locale=en-US",
        "--no-instructions",
        "-c",
        "scram_iterations=4",
      ],
      ...unprivileged(files),
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
    }).output();
    if (!result.success) {
      const words = new TextDecoder().decode(result.stderr).trim();
      throw diskError(words) ?? new StackError(
        `The database files could not be created: ${lastError(words)}`,
        `Look at the directory ${files.place}, and try npm run reset.`,
      );
    }
    await fs.appendFile(
      path.join(draft, "postgresql.conf"),
      "\n# Written anew at each start of the stack:\ninclude_if_exists = 'launchpad.conf'\n",
    );
    await fs.rename(draft, files.data);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) throw cannotRun(error);
    throw error instanceof StackError ? error : diskError(error) ?? error;
  } finally {
    await fs.rm(passwordFile, { force: true });
  }
}

async function configure(files: PostgresFiles, options: PostgresOptions): Promise<void> {
  const settings: Record<string, string> = {
    listen_addresses: options.config.host,
    port: String(options.config.ports.db),
    unix_socket_directories: "",
    max_connections: "100",
    // A laptop's share: the whole idle stack stays below 700 MB.
    shared_buffers: "48MB",
    huge_pages: "off",
    jit: "off",
    max_parallel_workers: "2",
    max_worker_processes: "4",
    max_wal_size: "256MB",
    min_wal_size: "48MB",
    wal_level: "logical",
    max_replication_slots: "10",
    max_wal_senders: "10",
    // A forgotten slot may not fill the disk.
    max_slot_wal_keep_size: "512MB",
    timezone: "UTC",
    log_timezone: "UTC",
    lc_messages: "C",
    shared_preload_libraries: "pg_stat_statements",
    log_line_prefix: "%m [%p] %q%u@%d ",
    log_checkpoints: "off",
    password_encryption: "scram-sha-256",
    // A thousandth of the usual rounds: the password is public and a connection costs 3 ms less.
    scram_iterations: "4",
    ...options.settings,
  };
  const text = Object.entries(settings)
    .map(([name, value]) => `${name} = '${value.replaceAll("'", "''")}'\n`)
    .join("");
  const file = path.join(files.data, "launchpad.conf");
  try {
    await fs.writeFile(file, text, { mode: 0o600 });
    if (files.user) await fs.chown(file, files.user.uid, files.user.gid);
  } catch (error) {
    throw diskError(error) ?? error;
  }
}

/** A child that owns no terminal, sees nothing of our environment and stands where it may look. */
function unprivileged(files: PostgresFiles) {
  return {
    ...(files.user ?? {}),
    cwd: files.place,
    clearEnv: true,
    env: { PATH: "/usr/local/bin:/usr/bin:/bin", LC_ALL: "C", TZ: "UTC" },
  };
}

interface SupervisedServer {
  ready: Promise<void>;
  stop(): Promise<void>;
}

/** Keeps one postmaster running until `stop`; the first start's failure rejects `ready`. */
function superviseServer(
  files: PostgresFiles,
  config: PostgresOptions["config"],
  log: Log,
): SupervisedServer {
  let child: Deno.ChildProcess | null = null;
  let stopping = false;
  let restart: Promise<void> = Promise.resolve();

  async function launch(): Promise<void> {
    const started = await spawnServer(files, config.ports.db);
    child = started;
    started.status.then(() => {
      if (child === started) child = null;
      if (stopping) return;
      log.warn("The database server died; starting it again");
      restart = relaunch();
    });
  }

  async function relaunch(): Promise<void> {
    for (let pause = 250; !stopping; pause = Math.min(pause * 2, 10_000)) {
      // Backends of a killed postmaster notice within moments and must be gone first.
      await new Promise((resolve) => setTimeout(resolve, pause));
      if (stopping) return;
      try {
        await launch();
        return log.info("The database server runs again");
      } catch (error) {
        log.error(error instanceof StackError ? `${error.message} ${error.hint}` : String(error));
      }
    }
  }

  return {
    ready: launch(),
    stop: async () => {
      stopping = true;
      await restart;
      const running = child;
      if (!running) return;
      // Fast, immediate, by force: the first is an ordinary end and takes tens of milliseconds.
      for (const signal of ["SIGINT", "SIGQUIT", "SIGKILL"] as const) {
        try {
          running.kill(signal);
        } catch {
          // Gone between the check and the signal.
        }
        if (await settlesWithin(running.status, 10_000)) return;
      }
    },
  };
}

async function spawnServer(files: PostgresFiles, port: number): Promise<Deno.ChildProcess> {
  await rotateLog(files);
  const logStart = await fs.stat(files.log).then((found) => found.size, () => 0);
  let child: Deno.ChildProcess;
  try {
    // The shell only redirects and becomes the server: a log file outlives us, a pipe would not.
    child = new Deno.Command("/bin/sh", {
      args: [
        "-c",
        'log=$1; shift; exec "$@" >>"$log" 2>&1',
        "sh",
        files.log,
        path.join(files.install, "bin", "postgres"),
        "-D",
        files.data,
      ],
      ...unprivileged(files),
      // Ctrl-C goes to the terminal's whole group; the server ends last, when we say so.
      detached: true,
      stdin: "null",
      stdout: "null",
      stderr: "null",
    }).spawn();
  } catch (error) {
    throw diskError(error) ?? error;
  }
  let ended = false;
  child.status.then(() => ended = true);
  const pidFile = path.join(files.data, "postmaster.pid");
  const deadline = Date.now() + 120_000;
  while (Date.now() < deadline) {
    if (ended) throw await explain(files, logStart, port);
    const lines = (await fs.readFile(pidFile, "utf8").catch(() => "")).split("\n");
    if (Number(lines[0]) === child.pid && lines[7]?.trim() === "ready") return child;
    await new Promise((resolve) => setTimeout(resolve, 15));
  }
  child.kill("SIGQUIT");
  throw new StackError(
    "The database server did not become ready within two minutes.",
    `Read ${files.log}.`,
  );
}

/** Turns the last words of a server that did not come up into advice. */
async function explain(files: PostgresFiles, logStart: number, port: number): Promise<StackError> {
  const bytes = await fs.readFile(files.log).catch(() => new Uint8Array());
  const words = new TextDecoder().decode(bytes.subarray(logStart));
  if (/Address already in use/.test(words)) return portError(port, "is in use by another program");
  if (/Cannot allocate memory|could not map anonymous shared memory/.test(words)) {
    return new StackError("There is not enough free memory for the database.", "Free 200 MB.");
  }
  if (/not found|cannot execute|Exec format error/.test(words) && !/FATAL/.test(words)) {
    return cannotRun(words);
  }
  if (/incompatible with server/.test(words)) {
    return new StackError(
      "The database files were made by another version of Postgres.",
      "Run npm run reset: it deletes them and starts anew.",
    );
  }
  return diskError(words) ?? new StackError(
    `The database server did not start: ${lastError(words)}`,
    `Read ${files.log}; npm run reset starts with a new database.`,
  );
}

function cannotRun(cause: unknown): StackError {
  return new StackError(
    `The Postgres binaries do not run on this system (${Deno.build.os} ${Deno.build.arch}).`,
    "They need glibc on Linux; use such a system, or set SUPABASE_URL to a hosted project.",
    { cause },
  );
}

function lastError(words: string): string {
  const lines = words.split("\n").filter((line) => /FATAL|PANIC|error|ERROR/.test(line));
  return (lines.at(-1) ?? words.split("\n").at(-1) ?? "").replace(
    /^.*?(FATAL|PANIC|ERROR):\s*/,
    "",
  );
}

async function rotateLog(files: PostgresFiles): Promise<void> {
  const size = await fs.stat(files.log).then((found) => found.size, () => 0);
  if (size > 8 * 1024 * 1024) await fs.rename(files.log, `${files.log}.1`);
}

function exists(file: string): Promise<boolean> {
  return fs.access(file).then(() => true, () => false);
}

function settlesWithin(promise: Promise<unknown>, ms: number): Promise<boolean> {
  let timer: ReturnType<typeof setTimeout>;
  const timeout = new Promise<boolean>((resolve) => timer = setTimeout(() => resolve(false), ms));
  return Promise.race([promise.then(() => true), timeout]).finally(() => clearTimeout(timer));
}

// Not awaited here: database.ts imports this module and would wait for it to finish.
if (import.meta.main) import("./database.ts").then((it) => it.runDatabaseCommand(Deno.args));
