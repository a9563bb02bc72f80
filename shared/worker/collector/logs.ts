import { setImmediate } from "node:timers";
import { toNanoseconds } from "../../orchestrators/timestamps.ts";
import type { LogLine, Orchestrator, WorkloadRef } from "../../orchestrators/types.ts";
import type { Clock } from "../clock.ts";
import type { Redactor } from "../redaction.ts";
import type { WorkerSettings } from "../settings.ts";
import type { LogRow } from "./copy-rows.ts";
import { advance, type LogCursor, sinceOf } from "./log-cursor.ts";
import { parseLine } from "./parse-line.ts";
import { fromNanoseconds } from "./timestamp.ts";

/** How far each container's log is read. */
export type LogCursors = { [containerId: string]: LogCursor };

export interface LogSource {
  id: string;
  name: string;
}

/** What one round of reading brought; the next round is due at once while `behind` names containers. */
export interface LogRound {
  rows: LogRow[];
  cursors: LogCursors;
  behind: LogSource[];
}

/** Containers of one agent that are read at the same moment. */
const READ_AT_ONCE = 4;

/** Lines older than this have no partition to go to. */
const OLDEST_DAYS = 6;

/** Who says so, in lines of ours among the agent's. */
const OURS = "agent-launchpad";

/**
 * Reads one page of each container's log.
 *
 * @param bytes bound of all of them together
 */
export async function readLogs(
  sources: readonly LogSource[],
  cursors: LogCursors,
  bytes: number,
  tools: {
    upstream: Orchestrator;
    ref: WorkloadRef;
    redactor: Redactor;
    settings: WorkerSettings;
    clock: Clock;
    signal: AbortSignal;
  },
): Promise<LogRound> {
  const limitBytes = Math.max(65_536, Math.floor(bytes / sources.length));
  const round: LogRound = { rows: [], cursors: { ...cursors }, behind: [] };
  for (let start = 0; start < sources.length; start += READ_AT_ONCE) {
    await Promise.all(
      sources.slice(start, start + READ_AT_ONCE).map(async (source) => {
        const before = cursors[source.id] ?? null;
        const page = await readPage(source, before, limitBytes, tools);
        for (const row of await rowsOf(page.lines, source, tools)) round.rows.push(row);
        if (page.cursor !== null) round.cursors[source.id] = page.cursor;
        if (page.truncated) round.behind.push(source);
      }),
    );
  }
  if (sources.length > 1) {
    round.rows.sort((a, b) => (a.timestamp < b.timestamp ? -1 : a.timestamp > b.timestamp ? 1 : 0));
  }
  return round;
}

type Tools = Parameters<typeof readLogs>[3];

async function readPage(
  source: LogSource,
  cursor: LogCursor | null,
  limitBytes: number,
  { upstream, ref, signal }: Tools,
): Promise<{ lines: LogLine[]; cursor: LogCursor | null; truncated: boolean }> {
  const since = sinceOf(cursor);
  const page = await upstream.logs(
    ref,
    source.id,
    { ...(since === undefined ? {} : { since }), limitBytes },
    signal,
  );
  const { fresh, cursor: reached } = advance(cursor, page.lines);
  if (page.truncated && fresh.length === 0 && cursor !== null) {
    // More lines of the very same time than one read holds: step over what is left of them.
    return { lines: [], cursor: { at: stepOver(cursor.at), seen: 0 }, truncated: true };
  }
  return { lines: fresh, cursor: reached, truncated: page.truncated };
}

function stepOver(timestamp: string): string {
  return fromNanoseconds((toNanoseconds(timestamp) ?? 0n) + 1n);
}

/** After so many lines others get their turn: leases, kicks and the copy that is under way. */
const LINES_AT_A_TIME = 2000;

async function rowsOf(
  lines: LogLine[],
  source: LogSource,
  { redactor, clock }: Tools,
): Promise<LogRow[]> {
  const texts = redactor.texts(lines.map((line) => line.message));
  const oldest = new Date(clock.now() - OLDEST_DAYS * 86_400_000).toISOString();
  const rows: LogRow[] = [];
  let tooOld = 0;
  for (const [index, line] of lines.entries()) {
    if (index % LINES_AT_A_TIME === LINES_AT_A_TIME - 1) {
      await new Promise((resolve) => setImmediate(resolve));
    }
    if (line.timestamp < oldest) {
      tooOld++;
      continue;
    }
    rows.push({
      timestamp: line.timestamp,
      ...parseLine(texts[index]!, line.stream ?? "stdout"),
      container_id: source.id,
      container_name: source.name,
    });
  }
  if (tooOld > 0) {
    rows.unshift(
      notice(source, oldest, `${tooOld} lines older than ${OLDEST_DAYS} days were left out`),
    );
  }
  return rows;
}

/**
 * Gives up what lies between the cursor and the newest line when that is further apart than the settings allow. Both
 * times are the engine's own, so that clocks that differ do not look like a backlog.
 */
export async function skipBacklog(
  source: LogSource,
  cursor: LogCursor,
  { upstream, ref, settings, signal }: Tools,
): Promise<{ row: LogRow; cursor: LogCursor } | null> {
  const page = await upstream.logs(ref, source.id, { tail: 1, limitBytes: 65_536 }, signal);
  const newest = page.lines.at(-1)?.timestamp;
  if (newest === undefined) return null;
  const seconds = Number((toNanoseconds(newest) ?? 0n) - (toNanoseconds(cursor.at) ?? 0n)) / 1e9;
  if (seconds <= settings.logLagSeconds) return null;
  const row = notice(
    source,
    newest,
    `Log output of ${seconds.toFixed(1)} s was skipped, from ${cursor.at} to ${newest}: ` +
      "the agent writes faster than its log can be stored",
  );
  return {
    row: {
      ...row,
      metadata: { skipped_from: cursor.at, skipped_to: newest, skipped_seconds: seconds },
    },
    cursor: { at: newest, seen: 0 },
  };
}

function notice(source: LogSource, timestamp: string, message: string): LogRow {
  return {
    timestamp,
    level: "WARN",
    message,
    source: OURS,
    container_id: source.id,
    container_name: source.name,
    metadata: null,
  };
}
