/** Fields of a log line; never secrets, never an upstream's body. */
export type LogFields = Record<string, string | number | boolean | null | undefined>;

/** Writes one structured line. */
export type Log = (
  level: "debug" | "info" | "warn" | "error",
  message: string,
  fields?: LogFields,
) => void;

/** A log that prints one JSON object a line, with `service` and the time. */
export function createJsonLog(service: string): Log {
  return (level, message, fields = {}) => {
    const line = JSON.stringify({
      time: new Date().toISOString(),
      level,
      service,
      message,
      ...fields,
    });
    if (level === "error" || level === "warn") console.error(line);
    else console.log(line);
  };
}

/** The same log with `fields` on every line. */
export function withFields(log: Log, fields: LogFields): Log {
  return (level, message, more) => log(level, message, { ...fields, ...more });
}
