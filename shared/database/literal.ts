/**
 * SQL literals. Statements of the request path are sent by the simple query protocol, in which a
 * whole transaction is one message: one round trip, no prepared statement for a pooler to lose,
 * and no connection to reserve. Measured on one machine with 32 requests in flight: 27,000
 * transactions a second against 15,000 for pipelined prepared statements and 10,000 for
 * `sql.begin`. Its price is that values stand in the text, so they pass through here and nowhere
 * else.
 *
 * Postgres writes the text of a statement that failed into its log, and shows it in pg_stat_activity.
 * So JSON, which is what bodies of requests are, is no literal: it is sent beside the text.
 */

/** A statement, or a value that `sqlText` writes as it is: made by the functions of this file only. */
export class SqlFragment {
  readonly text: string;
  /** The values of `$1`, `$2` … in the text. */
  readonly parameters: readonly string[];
  constructor(text: string, parameters: readonly string[] = []) {
    this.text = text;
    this.parameters = parameters;
  }
}

/** A value that stands in no text: made by `jsonb`. */
export class SqlParameter {
  readonly value: string;
  constructor(value: string) {
    this.value = value;
  }
}

export type SqlValue = string | number | boolean | null | Date | SqlFragment | SqlParameter;

/**
 * Text as a literal. With `standard_conforming_strings` (on since PostgreSQL 9.1, and pinned by the
 * connection's start-up parameters) a doubled quote is the only escape there is.
 * @throws RangeError for NUL, which would end the message early
 */
function quote(text: string): string {
  if (text.includes("\0")) throw new RangeError("PostgreSQL text cannot contain NUL");
  return `'${text.toWellFormed().replaceAll("'", "''")}'`;
}

/** JSON as `jsonb`, sent beside the statement because it may hold secrets. */
export function jsonb(value: unknown): SqlParameter {
  return new SqlParameter(JSON.stringify(value));
}

/** A list of texts as a `text[]` literal, null as SQL null. */
export function textArray(values: readonly string[] | null | undefined): SqlFragment {
  if (values === null || values === undefined) return new SqlFragment("null::text[]");
  if (values.length === 0) return new SqlFragment("'{}'::text[]");
  return new SqlFragment(`array[${values.map(quote).join(", ")}]::text[]`);
}

/** Bytes as a `bytea` literal. */
export function bytea(bytes: Uint8Array): SqlFragment {
  let hex = "";
  for (const byte of bytes) hex += byte.toString(16).padStart(2, "0");
  return new SqlFragment(`'\\x${hex}'::bytea`);
}

function literal(value: Exclude<SqlValue, SqlParameter>): string {
  if (value === null) return "null";
  if (value instanceof SqlFragment) {
    // Its parameters would have to be counted anew.
    if (value.parameters.length > 0) throw new RangeError("Only a statement has parameters");
    return value.text;
  }
  if (value instanceof Date) return `${quote(value.toISOString())}::timestamptz`;
  switch (typeof value) {
    case "string":
      return quote(value);
    case "boolean":
      return value ? "true" : "false";
    case "number":
      if (!Number.isFinite(value)) throw new RangeError("Only finite numbers have a literal");
      return String(value);
  }
}

/**
 * Tag for statements: `` sqlText`select public.agent_snapshot(${id}::uuid) as result` ``. Each value
 * becomes a literal or a parameter; only the template's own text is SQL.
 */
export function sqlText(strings: TemplateStringsArray, ...values: SqlValue[]): SqlFragment {
  let text = strings[0]!;
  const parameters: string[] = [];
  values.forEach((value, index) => {
    // As text first: the driver would write JSON of what it knows to be JSON.
    const written = value instanceof SqlParameter
      ? `$${parameters.push(value.value)}::text::jsonb`
      : literal(value);
    // A space before keeps a negative number from joining a minus sign into a comment.
    text += ` ${written}${strings[index + 1]}`;
  });
  return new SqlFragment(text, parameters);
}
