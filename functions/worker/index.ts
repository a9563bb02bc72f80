import { firstKey, probeOptions } from "../../shared/health/environment.ts";
import { createServiceProbes } from "../../shared/health/services.ts";
import { createOrchestrator } from "../../shared/orchestrators/create.ts";
import { connectWorkerDatabase } from "../../shared/worker/connect.ts";
import { createJsonLog } from "../../shared/worker/log.ts";
import { keepOrchestrators } from "../../shared/worker/orchestrators.ts";
import { createHealthRounds } from "../../shared/worker/health-rounds.ts";
import { createRemainsRounds } from "../../shared/worker/remains-rounds.ts";
import { createScanRounds } from "../../shared/worker/scans/scan-rounds.ts";
import { createStackRounds } from "../../shared/worker/stack-rounds.ts";
import { createStorageApi } from "../../shared/storage/api.ts";
import { createStorageRounds } from "../../shared/worker/storage-rounds.ts";
import { createWorker } from "../../shared/worker/worker.ts";
import { createAuthorizer } from "./authorize.ts";
import { registerDefaultCluster } from "./default-cluster.ts";

/** A hosted function lives 150 s: a run takes on work for 100 s and lets what is under way take 30 s more. */
const BUDGET = { wallMs: 100_000, graceMs: 30_000, idleMs: 6_000 };

const log = createJsonLog("worker");
const environment = Deno.env.toObject();
const sql = connectWorkerDatabase(environment.SUPABASE_DB_URL ?? "");
const isAllowed = createAuthorizer(environment);
const orchestratorFor = keepOrchestrators((cluster) => createOrchestrator(cluster));
const worker = createWorker({ sql, orchestratorFor, log });
const measureHealth = createHealthRounds({
  sql,
  orchestratorFor,
  probeServices: createServiceProbes(probeOptions((name) => environment[name])),
  log,
});
const scan = createScanRounds({ sql, orchestratorFor, log });
const clearRemains = createRemainsRounds({ sql, orchestratorFor, log });
const lookAtStacks = createStackRounds({ sql, orchestratorFor, log });
const secretKey = firstKey(environment.SUPABASE_SECRET_KEYS) ??
  environment.SUPABASE_SERVICE_ROLE_KEY ?? "";
const storage = createStorageApi({ projectUrl: environment.SUPABASE_URL ?? "", secretKey });
const removeFiles = createStorageRounds({ sql, storage, log });

const runtime = globalThis as unknown as {
  EdgeRuntime: { waitUntil(work: Promise<unknown>): void };
};

let running = false;
let again = false;

async function work(): Promise<void> {
  running = true;
  again = false;
  try {
    await ready();
    const summary = await worker.run(BUDGET);
    again ||= summary.more;
  } catch (error) {
    log("error", "the run failed", { reason: reasonOf(error) });
  } finally {
    running = false;
  }
  if (again && !ending) await callMyself();
}

/** What is left goes to a new call, which has its own time; should it fail, cron calls within 5 s. */
async function callMyself(): Promise<void> {
  try {
    const answer = await fetch(`${environment.SUPABASE_URL}/functions/v1/worker`, {
      method: "POST",
      headers: { apikey: secretKey },
      signal: AbortSignal.timeout(5000),
    });
    await answer.body?.cancel();
  } catch (error) {
    log("debug", "could not call myself", { reason: reasonOf(error) });
  }
}

let registered: Promise<void> | null = null;

/** The clusters of the environment are registered once; a failure is tried again with the next call. */
function ready(): Promise<void> {
  return registered ??= registerDefaultCluster(sql, environment).catch((error) => {
    registered = null;
    throw error;
  });
}

/** Right at the start, so that the first agent finds its cluster; a database that starts too gets some time. */
async function begin(): Promise<void> {
  for (let attempt = 0; attempt < 60 && !ending; attempt++) {
    try {
      await ready();
      if (!running) await work();
      return;
    } catch (error) {
      log("debug", "the database is not ready", { reason: reasonOf(error) });
      await new Promise((resolve) => setTimeout(resolve, 500));
    }
  }
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? `${error.name}: ${error.message}` : "unknown";
}

let ending = false;
globalThis.addEventListener("beforeunload", () => {
  ending = true;
  worker.stop();
});

runtime.EdgeRuntime.waitUntil(begin());

Deno.serve(async (request) => {
  if (!await isAllowed(request)) {
    return Response.json({
      error: { code: "AUTHENTICATION_FAILED", message: "Invalid credentials" },
    }, {
      status: 401,
    });
  }
  if (request.method !== "POST") {
    return Response.json({ error: { code: "METHOD_NOT_ALLOWED", message: "Use POST" } }, {
      status: 405,
      headers: { allow: "POST" },
    });
  }
  // Whoever wakes the worker before the first agent is created may rely on the default cluster.
  try {
    await ready();
  } catch (error) {
    log("error", "the default cluster could not be registered", {
      reason: reasonOf(error),
    });
    return Response.json({
      error: { code: "UPSTREAM_UNAVAILABLE", message: "The database does not answer" },
    }, { status: 503 });
  }
  for (const round of [measureHealth, scan, clearRemains, lookAtStacks, removeFiles]) {
    runtime.EdgeRuntime.waitUntil(round());
  }
  const joined = running;
  if (running) {
    again = true;
    worker.wake();
  } else {
    runtime.EdgeRuntime.waitUntil(work());
  }
  return Response.json({ accepted: true, running: joined }, { status: 202 });
});
