/** Levels as `agent_logs.level` holds them. */
export type LogLevel = "DEBUG" | "INFO" | "WARN" | "ERROR";

export interface ParsedLine {
  level: LogLevel;
  message: string;
  /** The part of the agent that wrote it (`eliza-core`), or null when the line does not say. */
  source: string | null;
  /** What else a JSON line carried. */
  metadata: Record<string, unknown> | null;
}

const LONGEST_MESSAGE = 16_384;
const LONGEST_METADATA = 4_096;

const LEVELS: Record<string, LogLevel> = {
  trace: "DEBUG",
  debug: "DEBUG",
  verbose: "DEBUG",
  info: "INFO",
  information: "INFO",
  notice: "INFO",
  log: "INFO",
  success: "INFO",
  progress: "INFO",
  warn: "WARN",
  warning: "WARN",
  error: "ERROR",
  err: "ERROR",
  fatal: "ERROR",
  critical: "ERROR",
  crit: "ERROR",
  panic: "ERROR",
  alert: "ERROR",
  emerg: "ERROR",
};

const WORD =
  "trace|debug|verbose|info|information|notice|log|success|progress|warn|warning|error|err|" +
  "fatal|critical|crit|panic|alert|emerg";
const TIME = String
  .raw`(?:\d{4}[-/]\d\d[-/]\d\d[T ])?\d\d:\d\d:\d\d(?:[.,]\d+)?(?: ?(?:Z|UTC|[+-]\d\d:?\d\d))?`;

/** `[time] LEVEL (source): message`, each part but the level optional, brackets free. */
const PLAIN = new RegExp(
  String.raw`^(\[?${TIME}\]?\s*[-:|]?\s*)?` +
    String.raw`(?:\[(${WORD})\]|(${WORD})(?=[\s:|\[(]))` +
    String
      .raw`\s*[-|]?\s*(?:\(([\w@./#-]{1,120})\)|\[([\w@./#-]{1,120})\]|([\w@./#-]{1,120})(?=:\s))?` +
    String.raw`\s*[:|-]?\s*(.*)$`,
  "is",
);

/** `time [source] LEVEL message`, as Python and Java loggers write it. */
const SOURCE_FIRST = new RegExp(
  String
    .raw`^\[?${TIME}\]?\s*[-|]?\s*\[?([\w@./#-]{1,120})\]?\s*[-|]?\s*\[?(${WORD})\]?\s*[:|-]?\s+(.*)$`,
  "is",
);

/** `level=info source=x msg="…"` */
const LOGFMT = /(?:^|\s)level="?(\w+)"?/i;

// deno-lint-ignore no-control-regex -- terminal colours start with ESC
const COLOURS = /\u001b\[[0-9;]*[A-Za-z]/g;

/**
 * Reads level, source and message from a line an agent wrote: JSON lines (pino, winston, structlog …),
 * logfmt, and the usual `[time] LEVEL (source): message` forms. A line that says no level is INFO on
 * stdout and ERROR on stderr.
 */
export function parseLine(raw: string, stream: "stdout" | "stderr"): ParsedLine {
  const line = clean(raw);
  const fallback: LogLevel = stream === "stderr" ? "ERROR" : "INFO";
  const first = line.trimStart();
  if (first.startsWith("{") && first.trimEnd().endsWith("}")) {
    const parsed = parseJson(first, fallback);
    if (parsed !== null) return parsed;
  }
  const plain = PLAIN.exec(line);
  if (plain !== null && saysLevel(line, plain)) {
    const level = LEVELS[(plain[2] ?? plain[3] ?? "").toLowerCase()] ?? fallback;
    const source = plain[4] ?? plain[5] ?? plain[6] ?? null;
    return { level, message: plain[7] || line, source: withoutPid(source), metadata: null };
  }
  const sourceFirst = SOURCE_FIRST.exec(line);
  if (sourceFirst !== null) {
    return {
      level: LEVELS[sourceFirst[2]!.toLowerCase()] ?? fallback,
      message: sourceFirst[3] || line,
      source: withoutPid(sourceFirst[1] ?? null),
      metadata: null,
    };
  }
  const logfmt = LOGFMT.exec(line);
  if (logfmt !== null) {
    const level = LEVELS[logfmt[1]!.toLowerCase()];
    if (level !== undefined) {
      const message = /(?:^|\s)(?:msg|message)=(?:"((?:[^"\\]|\\.)*)"|(\S+))/.exec(line);
      const source = /(?:^|\s)(?:source|logger|component|module)="?([\w@./#-]+)"?/.exec(line);
      return {
        level,
        message: message?.[1] ?? message?.[2] ?? line,
        source: source?.[1] ?? null,
        metadata: null,
      };
    }
  }
  return { level: fallback, message: line, source: null, metadata: null };
}

/** A bare word at the beginning is a level after a time, before a sign, or in capitals; else it is plain text. */
function saysLevel(line: string, [, time, , word]: RegExpExecArray): boolean {
  if (time !== undefined || word === undefined) return true;
  return word === word.toUpperCase() || /^\s*[:|[(]/.test(line.slice(word.length));
}

/** Postgres text has no NUL; terminals' colours and a trailing CR are noise. */
function clean(raw: string): string {
  let line = raw.endsWith("\r") ? raw.slice(0, -1) : raw;
  if (line.includes("\u0000")) line = line.replaceAll("\u0000", "");
  if (line.includes("\u001b")) line = line.replace(COLOURS, "");
  if (line.length > LONGEST_MESSAGE) {
    line = `${line.slice(0, LONGEST_MESSAGE)}… [${line.length - LONGEST_MESSAGE} more characters]`;
  }
  return line;
}

function parseJson(line: string, fallback: LogLevel): ParsedLine | null {
  let fields: Record<string, unknown>;
  try {
    fields = JSON.parse(line);
  } catch {
    return null;
  }
  const {
    level,
    severity,
    lvl,
    message,
    msg,
    text,
    source,
    logger,
    component,
    module,
    name,
    ...rest
  } = fields;
  const said = [message, msg, text].find((value) => typeof value === "string");
  if (typeof said !== "string") return null;
  for (const key of ["time", "timestamp", "ts", "@timestamp", "pid", "hostname", "v"]) {
    delete rest[key];
  }
  const metadata = Object.keys(rest).length > 0 && JSON.stringify(rest).length <= LONGEST_METADATA
    ? rest
    : null;
  const from = [source, logger, component, module, name].find((value) => typeof value === "string");
  return {
    level: levelOf(level ?? severity ?? lvl) ?? fallback,
    message: said.replaceAll("\u0000", ""),
    source: typeof from === "string" ? from.slice(0, 120).replaceAll("\u0000", "") : null,
    metadata,
  };
}

/** Words, or pino's and bunyan's numbers (10 trace … 60 fatal). */
function levelOf(value: unknown): LogLevel | null {
  if (typeof value === "string") return LEVELS[value.toLowerCase()] ?? null;
  if (typeof value !== "number") return null;
  if (value >= 50) return "ERROR";
  if (value >= 40) return "WARN";
  if (value >= 30) return "INFO";
  return "DEBUG";
}

/** pino-pretty writes `(name/1234)`. */
function withoutPid(source: string | null): string | null {
  return source === null ? null : source.replace(/\/\d+$/, "");
}
