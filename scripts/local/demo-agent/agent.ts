/**
 * The agent that local containers run: a small program that behaves as a deployed agent does, so that
 * everything around it (logs, health, figures, restarts) can be seen working on a machine without Docker.
 *
 * It runs under Deno because that starts in 12 ms with 31 MB resident, against 25 ms and 43 MB under
 * Node 20 (an HTTP server that answers "ok", medians of five), and because it can be confined to loopback.
 *
 * Environment:
 * - `PORT` to listen on (3000); `AGENT_NAME` for the log lines.
 * - `LOG_RATE` lines per second (0.5); `LOG_FORMAT` `text` or `json`.
 * - `MEMORY_MB` megabytes to hold (8); `CPU_PERCENT` of one core to use (0.5).
 * - `STARTUP_MS` to wait before listening; `CRASH_AFTER` seconds, then `EXIT_CODE` (1).
 * - `UNHEALTHY_AFTER` seconds, after which `/health` answers 503.
 * - `SPECIAL` to be printed as it came, by which one sees that a value arrives to the letter.
 * - `IGNORE_SIGTERM=1` to stay until it is killed.
 * - `AGENT_LAUNCHPAD_URL`, `AGENT_LAUNCHPAD_AGENT_ID`, `AGENT_LAUNCHPAD_KEY` to report of itself every `REPORT_SECONDS` (10).
 *
 * A message to it, `POST /` with `{"message": "…"}`, may ask for a failure (`"fail": true`) or for work that keeps a core
 * busy for so long (`"work_ms": 200`, at most 1000).
 *
 * It ends when its standard input ends, so that no agent outlives the engine that started it.
 */
import { createHealthReport, type RequestFigures } from "./health.ts";
import { createLogger, startChatter } from "./log.ts";
import { startReporting } from "./report.ts";

function numberFrom(name: string, fallback: number): number {
  const value = Number(Deno.env.get(name) ?? "");
  return Deno.env.get(name) && Number.isFinite(value) && value >= 0 ? value : fallback;
}

const startedAt = performance.now();
const name = Deno.env.get("AGENT_NAME") ?? Deno.env.get("HOSTNAME") ?? "agent";
const log = createLogger(Deno.env.get("LOG_FORMAT") === "json" ? "json" : "text");
const requests: RequestFigures = { total: 0, failed: 0, totalMs: 0 };

/** Touched page by page: memory that was only reserved would not count as used. */
const held = new Uint8Array(numberFrom("MEMORY_MB", 8) * 1024 * 1024);
for (let offset = 0; offset < held.length; offset += 4096) held[offset] = offset % 251;

const unhealthyAfter = numberFrom("UNHEALTHY_AFTER", Infinity);
const report = createHealthReport({
  startedAt,
  requests,
  heldBytes: held.length,
  isBroken: () => (performance.now() - startedAt) / 1000 >= unhealthyAfter,
});

const reporter = startReporting({
  environment: (name) => Deno.env.get(name),
  everyMs: Math.max(100, numberFrom("REPORT_SECONDS", 10) * 1000),
  requests,
  check: report.check,
  log,
});

async function answer(request: Request): Promise<Response> {
  const { pathname } = new URL(request.url);
  if (pathname !== "/") return Response.json({ error: "not found" }, { status: 404 });
  if (request.method === "GET" || request.method === "HEAD") {
    return Response.json({ name, status: "running", uptime_seconds: report.uptime() });
  }
  if (request.method !== "POST") {
    return Response.json({ error: "method not allowed" }, { status: 405 });
  }
  const body: unknown = await request.json().catch(() => null);
  if (typeof body !== "object" || body === null || !("message" in body)) {
    return Response.json({ error: 'expected {"message": "…"}' }, { status: 400 });
  }
  if ("fail" in body) throw new Error("the message asked for a failure");
  if ("work_ms" in body) burn(Math.min(Number(body.work_ms) || 0, 1000));
  log("info", "message-handler", `Message of ${String(body.message).length} characters answered`);
  const message = String(body.message);
  const reply = `${name} heard: ${message}`;
  const conversation = "conversation" in body ? String(body.conversation) : "http";
  reporter.heard({ conversation, message, reply });
  return Response.json({ name, reply });
}

/** Probes are left out of the figures: they would drown what users of the agent do. */
async function serve(request: Request): Promise<Response> {
  if (new URL(request.url).pathname === "/health") {
    const health = await report.check();
    return Response.json(health, { status: health.status === "healthy" ? 200 : 503 });
  }
  const began = performance.now();
  requests.total++;
  try {
    return await answer(request);
  } catch (error) {
    requests.failed++;
    log("error", "message-handler", `Request failed: ${(error as Error).message}`);
    return Response.json({ error: "internal error" }, { status: 500 });
  } finally {
    requests.totalMs += performance.now() - began;
  }
}

function burn(milliseconds: number): void {
  const until = performance.now() + milliseconds;
  for (let offset = 0; performance.now() < until; offset += 4096) {
    held[offset % (held.length || 1)] = (held[offset % (held.length || 1)] ?? 0) + 1;
  }
}

function useProcessor(percent: number): void {
  if (percent <= 0) return;
  const period = 250;
  setInterval(() => burn((period * percent) / 100), period);
}

/** Ends as agents do: what is being answered is answered, within the engine's grace period. */
function watchSignals(shutdown: () => Promise<void>): void {
  const leave = async (reason: string) => {
    log("info", "eliza-core", `${reason}, shutting down`);
    const patience = setTimeout(() => Deno.exit(0), 2000);
    await shutdown();
    await reporter.close();
    clearTimeout(patience);
    log("info", "eliza-core", "Bye");
    Deno.exit(0);
  };
  Deno.addSignalListener("SIGTERM", () => {
    if (Deno.env.get("IGNORE_SIGTERM") === "1") {
      log("warn", "eliza-core", "SIGTERM ignored");
    } else leave("SIGTERM received");
  });
  Deno.addSignalListener("SIGINT", () => leave("SIGINT received"));
}

async function main(): Promise<void> {
  let server: Deno.HttpServer | null = null;
  watchSignals(async () => await server?.shutdown());
  log("info", "eliza-core", `Starting agent ${name}`);
  const special = Deno.env.get("SPECIAL");
  if (special !== undefined) log("info", "eliza-core", `special=[${special}]`);
  const delay = numberFrom("STARTUP_MS", 0);
  if (delay > 0) await new Promise((done) => setTimeout(done, delay));
  const port = numberFrom("PORT", 3000);
  server = Deno.serve({
    hostname: "127.0.0.1",
    port,
    onListen: () => log("info", "eliza-server", "Listening for messages and health probes"),
  }, serve);

  useProcessor(numberFrom("CPU_PERCENT", 0.5));
  startChatter(log, numberFrom("LOG_RATE", 0.5), requests);

  const crashAfter = numberFrom("CRASH_AFTER", Infinity);
  if (crashAfter < Infinity) {
    setTimeout(() => {
      log("fatal", "eliza-core", "Unrecoverable error, exiting");
      Deno.exit(numberFrom("EXIT_CODE", 1));
    }, crashAfter * 1000);
  }
}

/** The engine holds the other end of standard input for as long as it lives. */
async function exitWithParent(): Promise<void> {
  const buffer = new Uint8Array(256);
  while (await Deno.stdin.read(buffer) !== null);
  Deno.exit(0);
}

exitWithParent();
main();
