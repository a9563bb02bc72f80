/** Where a service of the stack reports. One line per call; `fields` end up as `key=value`. */
export interface Log {
  debug(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  error(message: string, fields?: LogFields): void;
  /** A log whose lines carry `name` in brackets. */
  child(name: string): Log;
}

export type LogFields = Record<string, string | number | boolean | null | undefined>;
export type LogLevel = "debug" | "info" | "warn" | "error" | "silent";

const RANK: Record<LogLevel, number> = { debug: 0, info: 1, warn: 2, error: 3, silent: 4 };

/**
 * A log that hands finished lines to `write`.
 *
 * @param level lines below it are dropped
 * @param write gets one line without its line end
 */
export function createLog(level: LogLevel, write: (line: string) => void, name = ""): Log {
  const at = (lineLevel: LogLevel) => (message: string, fields: LogFields = {}) => {
    if (RANK[lineLevel] < RANK[level]) return;
    const mark = lineLevel === "info" || lineLevel === "debug" ? "" : `${lineLevel}: `;
    const prefix = name === "" ? "" : `[${name}] `;
    write(`${prefix}${mark}${message}${formatFields(fields)}`);
  };
  return {
    debug: at("debug"),
    info: at("info"),
    warn: at("warn"),
    error: at("error"),
    child: (childName) => createLog(level, write, name === "" ? childName : `${name}/${childName}`),
  };
}

function formatFields(fields: LogFields): string {
  return Object.entries(fields)
    .filter(([, value]) => value !== undefined)
    .map(([key, value]) => ` ${key}=${formatValue(value ?? null)}`)
    .join("");
}

function formatValue(value: string | number | boolean | null): string {
  return typeof value === "string" && /[\s"=]/.test(value) ? JSON.stringify(value) : String(value);
}
