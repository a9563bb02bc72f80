import postgres from "postgres";
import { createOrchestrator } from "../../shared/orchestrators/create.ts";
import { createJsonLog } from "../../shared/worker/log.ts";
import { keepOrchestrators } from "../../shared/worker/orchestrators.ts";
import { createWorker } from "../../shared/worker/worker.ts";
import { createAuthorizer } from "./authorize.ts";
import { registerDefaultCluster } from "./default-cluster.ts";

/** A hosted function lives 150 s: a run takes on work for 100 s and lets what is under way take 30 s more. */
const BUDGET = { wallMs: 100_000, graceMs: 30_000, idleMs: 6_000 };

const log = createJsonLog("worker");
const databaseUrl = Deno.env.get("SUPABASE_DB_URL") ?? "";
const sql = postgres(databaseUrl, {
  max: 10,
  // A transaction pooler gives each statement another connection.
  prepare: new URL(databaseUrl).port !== "6543",
  onnotice: () => {},
  connection: { application_name: "launchpad-worker" },
});
const isAllowed = createAuthorizer(Deno.env.toObject());
const worker = createWorker({
  sql,
  orchestratorFor: keepOrchestrators((cluster) => createOrchestrator(cluster)),
  log,
});

const runtime = globalThis as unknown as {
  EdgeRuntime: { waitUntil(work: Promise<unknown>): void };
};

let registered: Promise<void> | null = null;
let running = false;
let again = false;

async function work(): Promise<void> {
  running = true;
  try {
    do {
      again = false;
      registered ??= registerDefaultCluster(sql, Deno.env.toObject());
      await registered;
      const summary = await worker.run(BUDGET);
      again ||= summary.more;
    } while (again && !ending);
  } catch (error) {
    registered = null;
    log("error", "the run failed", { reason: error instanceof Error ? error.message : "unknown" });
  } finally {
    running = false;
  }
}

let ending = false;
globalThis.addEventListener("beforeunload", () => {
  ending = true;
  worker.stop();
});

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
  const joined = running;
  if (running) {
    again = true;
    worker.wake();
  } else {
    runtime.EdgeRuntime.waitUntil(work());
  }
  return Response.json({ accepted: true, running: joined }, { status: 202 });
});
