import type { TransactionSql } from "postgres";
import type { ApiError } from "../contract/errors.ts";
import type { Database } from "./connect.ts";
import { toApiError } from "./errors.ts";
import { type SqlFragment, sqlText } from "./literal.ts";

/** Whom a request runs as. Rights are never taken from here: SQL looks them up by these ids. */
export interface Caller {
  userId: string;
  /** Set when the request came with an API key; SQL narrows the rights to the key's. */
  apiKeyId: string | null;
  /** Set when that key belongs to an agent: the request runs as a role that may report, nothing else. */
  agentId: string | null;
  /** Claims of the verified token, for `auth.jwt()`; null for an API key. */
  claims: Record<string, unknown> | null;
}

/** What SQL may want to know of the request it works for. */
export interface RequestFacts {
  requestId: string;
}

type Row = Record<string, unknown>;

function claimsOf(caller: Caller): Record<string, unknown> {
  return {
    ...caller.claims,
    sub: caller.userId,
    role: "authenticated",
    // Assigned last: a token must not be able to bring its own.
    api_key_id: caller.apiKeyId,
  };
}

/** Longest that one statement of a request may take; a client gives up not much later. */
const STATEMENT_TIMEOUT_MS = 15_000;
/** Then the server should have ended the statement itself: it hangs, or is cut off from us. */
const ANSWER_TIMEOUT_MS = STATEMENT_TIMEOUT_MS + 5_000;

/**
 * Statements that set claims and role for the transaction, as PostgREST does. The time-out stands
 * here and not in the start-up parameters, which some poolers refuse. The role has a statement of its
 * own: pg_stat_statements keeps the very text of one that ends as another role than it began.
 */
export function become(caller: Caller, request: RequestFacts): SqlFragment[] {
  const role = caller.agentId === null ? "authenticated" : "agent_reporter";
  return [
    sqlText`select set_config('request.jwt.claims',${
      JSON.stringify(claimsOf(caller))
    }, true), set_config('launchpad.request_id',${request.requestId}, true), set_config('statement_timeout',${
      String(STATEMENT_TIMEOUT_MS)
    }, true)`,
    sqlText`select set_config('role',${role}, true)`,
  ];
}

export interface RunOptions {
  /**
   * Whether running twice does no harm: then a broken connection is tried once more. After a restart
   * of the database the driver reports a connection's last error once again to the first statement
   * of its successor, so that each slot of the pool would fail one request.
   */
  repeatable?: boolean;
  /** How long an answer is waited for, in milliseconds; only tests are in more of a hurry. */
  answerMs?: number;
}

/**
 * What the database answers, or an error after a while. Without it a request would hang for as long
 * as a server does that neither answers nor closes its connections. Whether what was sent is carried
 * out after all is not known then, as with a connection that breaks.
 */
async function answered<Result>(work: Promise<Result>, answerMs: number): Promise<Result> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const silence = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new NoAnswer("The database does not answer")), answerMs);
  });
  try {
    return await Promise.race([work, silence]);
  } finally {
    clearTimeout(timer);
  }
}

class NoAnswer extends Error {
  readonly code = "ETIMEDOUT";
}

/**
 * Sends statements as one message: one transaction, one round trip. One with parameters makes it a
 * transaction of several messages. An error in any of them undoes all of them.
 * @returns the rows of each statement
 * @throws ApiError what SQL raised, or what went wrong with the connection
 */
export async function runStatements(
  sql: Database,
  statements: readonly SqlFragment[],
  options: RunOptions = {},
): Promise<Row[][]> {
  try {
    const work = statements.every((each) => each.parameters.length === 0)
      ? sendTogether(sql, statements)
      : sql.begin((transaction) => runWithin(transaction, statements)) as Promise<Row[][]>;
    return await answered(work, options.answerMs ?? ANSWER_TIMEOUT_MS);
  } catch (error) {
    const fault = toApiError(error);
    if (options.repeatable && connectionBroke(fault)) {
      return await runStatements(sql, statements);
    }
    throw fault;
  }
}

async function sendTogether(
  sql: Database | TransactionSql,
  statements: readonly SqlFragment[],
): Promise<Row[][]> {
  const results = await sql.unsafe(statements.map((each) => each.text).join(";\n")).simple();
  return (statements.length === 1 ? [results] : results) as unknown as Row[][];
}

/** Those without parameters go together up to the next one with some. */
async function runWithin(
  transaction: TransactionSql,
  statements: readonly SqlFragment[],
): Promise<Row[][]> {
  const next = statements.findIndex((each) => each.parameters.length > 0);
  if (next < 0) return statements.length === 0 ? [] : await sendTogether(transaction, statements);
  const before = next === 0 ? [] : await sendTogether(transaction, statements.slice(0, next));
  const { text, parameters } = statements[next]!;
  const rows = await transaction.unsafe(text, [...parameters]) as unknown as Row[];
  return [...before, rows, ...await runWithin(transaction, statements.slice(next + 1))];
}

/** Not one that took too long, or never answered: a second one would take as long. */
function connectionBroke(fault: ApiError): boolean {
  if (fault.cause instanceof NoAnswer) return false;
  const state = (fault.cause as { code?: string } | undefined)?.code;
  return fault.code === "SUPABASE_CONNECTION_ERROR" && state !== "57014";
}

/**
 * Runs one statement as the caller, under RLS. The statement names its single value `result`.
 * @throws ApiError what SQL raised for the caller, SUPABASE_CONNECTION_ERROR, INTERNAL_ERROR
 */
export async function runAsCaller<Result>(
  sql: Database,
  caller: Caller,
  request: RequestFacts,
  statement: SqlFragment,
  options: RunOptions = {},
): Promise<Result> {
  const rows = await runStatements(sql, [...become(caller, request), statement], options);
  return rows.at(-1)?.[0]?.result as Result;
}

const RESET_ROLE = sqlText`reset role`;

/**
 * As `runAsCaller`, but the answer is made and kept before the transaction ends: `finish` gets the
 * result and gives a statement that runs as the pool's own role in the same transaction. Work and
 * kept answer hold together or not at all.
 */
export async function runAsCallerAndKeep<Result>(
  sql: Database,
  caller: Caller,
  request: RequestFacts,
  statement: SqlFragment,
  finish: (result: Result) => Promise<SqlFragment>,
): Promise<Result> {
  try {
    const work = sql.begin(async (transaction) => {
      const rows = await runWithin(transaction, [...become(caller, request), statement]);
      const result = rows.at(-1)?.[0]?.result as Result;
      await runWithin(transaction, [RESET_ROLE, await finish(result)]);
      return { result };
    });
    return (await answered(work, ANSWER_TIMEOUT_MS)).result as Result;
  } catch (error) {
    throw toApiError(error);
  }
}
