import type { Edition, JsonObject } from "../../../shared/contract/editions.ts";
import type { LogRow } from "../../../shared/contract/facts.ts";
import { isoTime } from "../../../shared/contract/times.ts";
import type { Presenters } from "./presenter.ts";

/** Answer of `agent_log_lines`: lines in order of time. */
export interface LogFacts {
  agentId: string;
  lines: LogRow[];
  /** All that match, whatever the page. A followed log has none. */
  total_lines: number;
  truncated: boolean;
  /** Cursor of older lines; null when there are none. */
  before: string | null;
  /** Cursor of what follows these lines; null when there are none yet. */
  after: string | null;
  last_id: number | string | null;
}

/** One log line in each edition's words; a followed log is a stream of these. */
export const presentLogLine: Record<Edition, (line: LogRow) => JsonObject> = {
  1: (line) => ({
    timestamp: isoTime(line.timestamp),
    level: line.level.toUpperCase(),
    message: line.message,
    pod: line.container_name,
  }),
  2: (line) => ({
    id: String(line.id),
    timestamp: isoTime(line.timestamp),
    level: line.level.toUpperCase(),
    message: line.message,
    source: line.source,
    metadata: { pod: line.container_name, ...(line.metadata as JsonObject) },
  }),
  3: (line) => ({
    timestamp: isoTime(line.timestamp),
    container_id: line.container_id,
    container_name: line.container_name,
    level: line.level.toLowerCase(),
    message: line.message,
    source: line.source,
  }),
};

/** `GET /api/agents/{id}/logs`. */
export const presentLogs: Presenters<LogFacts> = {
  1: ({ agentId, lines, total_lines, truncated, before, after }) => ({
    agentId,
    logs: lines.map(presentLogLine[1]),
    totalLines: total_lines,
    truncated,
    nextCursor: before,
    previousCursor: after,
  }),
  2: ({ agentId, lines, total_lines, truncated, before, after }, { userId, platform }) => ({
    agentId,
    user_id: userId,
    logs: lines.map(presentLogLine[2]),
    totalLines: total_lines,
    truncated,
    nextCursor: before,
    previousCursor: after,
    real_time_available: platform?.logsRealTime ?? null,
  }),
  3: ({ lines, total_lines, truncated, before, after }) => ({
    logs: lines.map(presentLogLine[3]),
    pagination: {
      total_lines,
      returned_lines: lines.length,
      has_more: truncated,
      next_cursor: before,
      previous_cursor: after,
    },
  }),
};
