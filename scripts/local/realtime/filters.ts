import type { Sql } from "postgres";
import { arrayElements } from "./values.ts";

/** One condition of `filter: "column=op.value,…"`. */
export interface Filter {
  column: string;
  op: FilterOperator;
  /** As Postgres reads it; of `in` the text of an array. */
  value: string;
  negate: boolean;
}

const OPERATORS = [
  "eq",
  "neq",
  "lt",
  "lte",
  "gt",
  "gte",
  "in",
  "like",
  "ilike",
  "is",
  "match",
  "imatch",
  "isdistinct",
] as const;
export type FilterOperator = typeof OPERATORS[number];

/** A filter whose words are wrong; the message is Realtime's. */
export class FilterError extends Error {
  override name = "FilterError";
}

/**
 * Reads the filter of a `postgres_changes` binding. Conditions are joined by commas, which stand for
 * AND; a value may be quoted as in PostgREST.
 *
 * @throws {FilterError}
 */
export function parseFilter(text: string): Filter[] {
  if (text.trim() === "") return [];
  return splitConditions(text).map((segment) => parseCondition(segment.trim()));
}

function parseCondition(condition: string): Filter {
  if (condition === "") {
    throw new FilterError("filter must not contain empty segments (check for extra commas)");
  }
  const equals = condition.indexOf("=");
  if (equals < 0) throw new FilterError(listed(condition));
  const column = condition.slice(0, equals);
  let rest = condition.slice(equals + 1);
  const negate = rest.startsWith("not.");
  if (negate) rest = rest.slice(4);
  const dot = rest.indexOf(".");
  if (dot < 0) throw new FilterError(listed(rest));
  const op = OPERATORS.find((name) => name === rest.slice(0, dot));
  const value = rest.slice(dot + 1);
  if (op === undefined) throw new FilterError(listed(rest.slice(0, dot), value));
  if (op !== "in") return { column, op, value: unquote(value), negate };
  if (!/^\(.*\)$/s.test(value)) {
    throw new FilterError("`in` filter value must be wrapped by parentheses");
  }
  return { column, op, value: `{${value.slice(1, -1)}}`, negate };
}

/** Elixir prints a list so, and clients have seen these messages. */
function listed(...parts: string[]): string {
  return `[${parts.map((part) => JSON.stringify(part)).join(", ")}]`;
}

/** Splits at commas outside of parentheses and of quotes that open a value. */
function splitConditions(text: string): string[] {
  const segments: string[] = [];
  let segment = "";
  let depth = 0;
  let quoted = false;
  for (let index = 0; index < text.length; index++) {
    const character = text[index]!;
    if (quoted) {
      if (character === "\\" && index + 1 < text.length) segment += text[index++];
      else if (character === '"') quoted = false;
    } else if (character === '"' && ".(,".includes(text[index - 1] ?? " ")) {
      quoted = true;
    } else if (character === "(") {
      depth++;
    } else if (character === ")") {
      depth = Math.max(0, depth - 1);
    } else if (character === "," && depth === 0) {
      segments.push(segment);
      segment = "";
      continue;
    }
    segment += text[index];
  }
  return [...segments, segment];
}

function unquote(value: string): string {
  const quoted = /^"((?:[^"\\]|\\.)*)"$/s.exec(value);
  return quoted ? quoted[1]!.replace(/\\(.)/gs, "$1") : value;
}

/** Null means that only Postgres can tell. */
export type Test = (value: string | null) => boolean | null;

/**
 * Compares here what can be compared as text without asking the type: equality where a value has one
 * spelling only, and order of whole numbers. Everything else is left to Postgres.
 *
 * @param wanted the filter's value as Postgres spells it
 * @param typeName `pg_type.typname` of the column
 */
export function compileTest(filter: Filter, wanted: string, typeName: string): Test {
  const { op, negate } = filter;
  const decided = (holds: boolean) => holds !== negate;
  const ordered = INTEGERS.has(typeName);
  if (op === "is" && wanted === "null") return (value) => decided(value === null);
  if (!ordered && !ONE_SPELLING.has(typeName)) return () => null;
  switch (op) {
    case "eq":
      return (value) => value !== null && decided(value === wanted);
    case "neq":
      return (value) => value !== null && decided(value !== wanted);
    case "isdistinct":
      return (value) => decided(value !== wanted);
    case "in": {
      const list = new Set(arrayElements(wanted));
      return (value) => value !== null && decided(list.has(value));
    }
  }
  if (!ordered) return () => null;
  const limit = BigInt(wanted);
  switch (op) {
    case "lt":
      return (value) => value !== null && decided(BigInt(value) < limit);
    case "lte":
      return (value) => value !== null && decided(BigInt(value) <= limit);
    case "gt":
      return (value) => value !== null && decided(BigInt(value) > limit);
    case "gte":
      return (value) => value !== null && decided(BigInt(value) >= limit);
    default:
      return () => null;
  }
}

const INTEGERS = new Set(["int2", "int4", "int8"]);
/** Text is here because the default collation is deterministic: equal means the same bytes. */
const ONE_SPELLING = new Set(["uuid", "text", "varchar", "bool", "date"]);

export interface Comparison {
  type: number;
  op: FilterOperator;
  negate: boolean;
  value: string | null;
  wanted: string;
}

/** Lets Postgres compare; one verdict for each comparison. */
export async function compareInDatabase(sql: Sql, comparisons: Comparison[]): Promise<boolean[]> {
  const [row] = await sql<{ passes: boolean[] }[]>`
    select _realtime.passes(${JSON.stringify(comparisons)}::text::jsonb) as passes`;
  return row!.passes;
}
