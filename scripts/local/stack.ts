import { Closers } from "./closers.ts";
import type { StackConfig } from "./config.ts";
import { type ProcessStatus, startControl } from "./control.ts";
import { DatabaseHalf } from "./database-half.ts";
import { createFunctions, type FunctionsHost } from "./functions.ts";
import { startGateway } from "./gateway.ts";
import { startInbox } from "./inbox.ts";
import { loadKeys, type StackKeys } from "./keys.ts";
import { claimStateDir } from "./lock.ts";
import type { Log } from "./log.ts";
import { resetPortainer, startPortainer } from "./portainer-process.ts";
import { checkMachine } from "./preflight.ts";
import { ChildDownError, type SupervisedChild } from "./supervisor.ts";

export interface StackOptions {
  config: StackConfig;
  log: Log;
  /** Told of each part once it stands, with the time it took. */
  progress: (part: string, milliseconds: number) => void;
  /** Whether saving a file reloads the functions that it concerns. */
  watch: boolean;
  /** Somebody asks for the end of the stack: `npm run stop`. */
  onStopRequest: () => void;
}

export interface Stack {
  keys: StackKeys;
  /** Ends every part in order and gives the state directory back. Safe to call twice. */
  stop(): Promise<void>;
}

/**
 * Brings up the whole local Supabase. Whatever has started is stopped again when a later part fails.
 *
 * @throws {StackError} for what the person at the terminal can put right
 */
export async function startStack(options: StackOptions): Promise<Stack> {
  const closers = new Closers(options.log);
  try {
    const keys = await startParts(options, closers);
    return { keys, stop: () => closers.close() };
  } catch (error) {
    await closers.close();
    throw error;
  }
}

async function startParts(options: StackOptions, closers: Closers): Promise<StackKeys> {
  const { config, log, progress } = options;
  const lock = await claimStateDir(config);
  closers.add("the state directory's lock", lock.release);
  const description = {
    pid: Deno.pid,
    root: config.root,
    startedAt: new Date().toISOString(),
    ports: config.ports,
    urls: config.urls,
  };
  await lock.describe({ ...description, control: null });
  await checkMachine(config);
  log.info("Starting Agent Launchpad");
  const keys = await loadKeys(config);

  const inbox = startInbox({
    host: config.host,
    port: config.ports.inbox,
    log: log.child("inbox"),
  });
  closers.add("the inbox", () => inbox.close());
  const database = new DatabaseHalf(config, keys, inbox.sendMail, log);
  closers.add("the database", () => database.stop());
  // Postgres is busy on one core while Deno starts on the other.
  const [portainer] = await Promise.all([
    timed("Local Portainer", progress, async () => {
      const child = startPortainer(config, keys, log);
      closers.add("the local Portainer", () => child.stop());
      await untilListening(child);
      return child;
    }),
    timed("Database", progress, () => database.start()),
  ]);

  const secrets = localPortainer(config, keys);
  const functions = await createFunctions({ config, keys, log, secrets, watch: options.watch });
  closers.add("the functions", () => functions.close());
  const gateway = startGateway({
    host: config.host,
    port: config.ports.api,
    keys,
    services: {
      rest: database.service("rest"),
      auth: database.service("auth"),
      storage: database.service("storage"),
      realtime: database.service("realtime"),
      functions,
    },
    log: log.child("gateway"),
  });
  closers.add("the gateway", () => gateway.close());
  await Promise.all([
    timed("Edge Functions", progress, () => Promise.all(functions.children.map(untilListening))),
    timed("REST, Auth, Storage, Realtime, cron", progress, () => database.startServices()),
  ]);
  await wakeWorker(functions, keys, log);

  const control = startControl(config.host, {
    stop: options.onStopRequest,
    status: async () => ({
      processes: [
        { name: "gateway, rest, auth, storage, realtime, cron", pid: Deno.pid, state: "ready" },
        await database.status(),
        ...[...functions.children, portainer].map(childStatus),
      ],
    }),
    reset: async (write) => {
      await database.reset(write);
      await resetPortainer(config, portainer);
      // They hold what they read from the database that is gone.
      await Promise.all(functions.children.map((child) => child.restart()));
      await wakeWorker(functions, keys, log);
    },
  });
  closers.add("the control port", () => control.close());
  await lock.describe({ ...description, control: { url: control.url, token: control.token } });
  return keys;
}

/** What `supabase secrets set` would hold; the environment of `npm start` comes before it. */
function localPortainer(config: StackConfig, keys: StackKeys): Record<string, string> {
  if (Deno.env.has("PORTAINER_URL") || Deno.env.has("KUBERNETES_URL")) return {};
  return {
    PORTAINER_URL: config.urls.portainer,
    PORTAINER_API_KEY: keys.portainerApiKey,
    PORTAINER_ENDPOINT_ID: "1",
  };
}

/**
 * Wakes function `worker` once: it makes the cluster that its environment names known to the
 * database, and takes up operations that the last stop interrupted.
 */
async function wakeWorker(functions: FunctionsHost, keys: StackKeys, log: Log): Promise<void> {
  if (!functions.children.some(({ name }) => name === "worker")) return;
  const headers = { apikey: keys.secret };
  const answer = await functions.fetch(
    new Request("http://functions/worker", { method: "POST", headers }),
  );
  if (!answer.ok) log.warn("function worker did not wake", { status: answer.status });
  await answer.body?.cancel();
}

/** A child that does not come up is no reason to go without the others: its log says why. */
async function untilListening(child: SupervisedChild): Promise<void> {
  try {
    await child.ready();
  } catch (error) {
    if (!(error instanceof ChildDownError)) throw error;
  }
}

function childStatus({ name, pid, state }: SupervisedChild): ProcessStatus {
  return { name, pid, state };
}

async function timed<T>(
  part: string,
  progress: StackOptions["progress"],
  start: () => Promise<T>,
): Promise<T> {
  const startedAt = performance.now();
  const result = await start();
  progress(part, performance.now() - startedAt);
  return result;
}
