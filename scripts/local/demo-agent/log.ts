import type { RequestFigures } from "./health.ts";

export type Level = "debug" | "info" | "warn" | "error" | "fatal";
export type Logger = (level: Level, source: string, message: string) => void;

const encoder = new TextEncoder();

/** Synchronous, so that a line written just before a crash is not lost. */
function write(stream: typeof Deno.stdout | typeof Deno.stderr, text: string): void {
  const bytes = encoder.encode(text);
  for (let written = 0; written < bytes.length;) {
    written += stream.writeSync(bytes.subarray(written));
  }
}

function formatLine(format: "text" | "json", level: Level, source: string, message: string) {
  const timestamp = new Date().toISOString();
  return format === "json"
    ? JSON.stringify({ timestamp, level, source, message }) + "\n"
    : `[${timestamp}] ${level.toUpperCase()} (${source}): ${message}\n`;
}

/** Writes lines as agents do: warnings and errors to standard error, the rest to standard output. */
export function createLogger(format: "text" | "json"): Logger & { format: "text" | "json" } {
  const log: Logger = (level, source, message) =>
    write(
      level === "warn" || level === "error" || level === "fatal" ? Deno.stderr : Deno.stdout,
      formatLine(format, level, source, message),
    );
  return Object.assign(log, { format });
}

/** What an idle agent has to say: one entry a turn, the turn's number in front of it. */
const TURNS: [Level, string, (requests: RequestFigures) => string][] = [
  ["info", "eliza-core", (r) => `Heartbeat: ${r.total} requests answered, ${r.failed} failed`],
  ["debug", "memory-manager", () => `Resident memory ${Deno.memoryUsage().rss} bytes`],
  ["info", "client-api", () => "Polling for messages"],
  ["debug", "evaluator", () => `Heap in use ${Deno.memoryUsage().heapUsed} bytes`],
  ["info", "eliza-core", () => "Character loaded, waiting for messages"],
  ["warn", "client-api", () => "No message since the last poll"],
];

/**
 * Logs `rate` lines per second for as long as the process lives.
 * Lines of one tick go out in one write per stream: at 10,000 lines per second single writes would be the load.
 */
export function startChatter(
  log: Logger & { format: "text" | "json" },
  rate: number,
  requests: RequestFigures,
): void {
  if (rate <= 0) return;
  let turn = 0;
  let due = 0;
  let last = performance.now();
  setInterval(() => {
    const now = performance.now();
    due = Math.min(due + ((now - last) / 1000) * rate, Math.max(rate, 1));
    last = now;
    let out = "";
    let err = "";
    for (; due >= 1; due--) {
      const [level, source, say] = TURNS[turn % TURNS.length]!;
      const line = formatLine(log.format, level, source, `#${++turn} ${say(requests)}`);
      if (level === "warn") err += line;
      else out += line;
    }
    if (out) write(Deno.stdout, out);
    if (err) write(Deno.stderr, err);
  }, Math.max(20, Math.min(1000, 1000 / rate)));
}
