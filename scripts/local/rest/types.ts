/**
 * How the values of a result become JSON as Postgres itself writes it, and how JSON arguments reach
 * the server. postgres.js turns many types into JavaScript objects that JSON would spell differently.
 */
import type { PostgresType } from "postgres";

const asText = { serialize: (value: unknown) => value as string, parse: (text: string) => text };

/** `2026-01-02 03:04:05.6+00` is `2026-01-02T03:04:05.6+00:00` in JSON. */
function timestampText(text: string): string {
  return text.replace(" ", "T").replace(/([+-]\d\d)$/, "$1:00");
}

/** Callers hand JSON over as text already; a JavaScript value is anything else. */
const json = {
  serialize: (value: unknown) => typeof value === "string" ? value : JSON.stringify(value),
  parse: (text: string) => JSON.parse(text),
};

export const restTypes: Record<string, PostgresType> = {
  json: { to: 114, from: [114], ...json },
  jsonb: { to: 3802, from: [3802], ...json },
  numeric: {
    to: 1700,
    from: [1700],
    serialize: (value: unknown) => String(value),
    // NaN and Infinity are strings in Postgres's JSON; everything else is what a client makes of it.
    parse: (text: string) => Number.isFinite(Number(text)) ? Number(text) : text,
  },
  bytea: { to: 17, from: [17], ...asText },
  timestamp: { to: 1114, from: [1114], serialize: asText.serialize, parse: timestampText },
  timestamptz: { to: 1184, from: [1184], serialize: asText.serialize, parse: timestampText },
};
