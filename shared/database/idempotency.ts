import { ApiError } from "../contract/errors.ts";
import type { JsonObject } from "../contract/editions.ts";
import { runStatements } from "./caller.ts";
import type { Database } from "./connect.ts";
import { bytea, jsonb, type SqlFragment, sqlText } from "./literal.ts";

/** An answer as it is kept for replay. */
export interface KeptAnswer {
  status: number;
  headers: Record<string, string>;
  body: JsonObject;
}

export interface IdempotentRequest {
  userId: string;
  key: string;
  method: string;
  path: string;
  bodyHash: Uint8Array;
}

interface Begun {
  state: "new" | "replay" | "in_flight" | "mismatch";
  status?: number;
  headers?: Record<string, string> | null;
  body?: JsonObject;
  retry_after?: number;
}

/**
 * Reads an `Idempotency-Key` header: up to 255 visible ASCII characters.
 * @throws ApiError VALIDATION_ERROR for any other value
 */
export function parseIdempotencyKey(header: string | null): string | null {
  if (header === null) return null;
  if (!/^[\x21-\x7e]{1,255}$/.test(header)) {
    throw new ApiError("VALIDATION_ERROR", "Invalid request: Idempotency-Key", {
      details: { "Idempotency-Key": "must be 1 to 255 visible ASCII characters" },
    });
  }
  return header;
}

/**
 * Claims the key of a request.
 * @returns the first answer when there is one, null when the request is to be carried out
 * @throws ApiError IDEMPOTENCY_KEY_IN_FLIGHT 409, IDEMPOTENCY_KEY_REUSED 422
 */
export async function beginIdempotent(
  sql: Database,
  request: IdempotentRequest,
): Promise<KeptAnswer | null> {
  const [rows] = await runStatements(sql, [
    sqlText`select private.begin_idempotent(${request.userId}::uuid,${request.key},${request.method},${request.path},${
      bytea(request.bodyHash)
    }) as result`,
  ]);
  const begun = rows![0]!.result as Begun;
  switch (begun.state) {
    case "new":
      return null;
    case "replay":
      return { status: begun.status!, headers: begun.headers ?? {}, body: begun.body! };
    case "in_flight":
      throw new ApiError(
        "IDEMPOTENCY_KEY_IN_FLIGHT",
        "The first request with this Idempotency-Key is still under way",
        { headers: { "Retry-After": String(begun.retry_after ?? 1) } },
      );
    case "mismatch":
      throw new ApiError(
        "IDEMPOTENCY_KEY_REUSED",
        "This Idempotency-Key was used for another request",
      );
  }
}

/** Statement that keeps the answer; it belongs into the transaction that did the work. */
export function keepAnswer(request: IdempotentRequest, answer: KeptAnswer): SqlFragment {
  return sqlText`select private.finish_idempotent(${request.userId}::uuid,${request.key},${answer.status},${
    jsonb(answer.headers)
  },${jsonb(answer.body)})`;
}

/** Frees the key of a request that did nothing, so that a corrected one may use it. */
export async function abandonIdempotent(sql: Database, request: IdempotentRequest): Promise<void> {
  await runStatements(sql, [
    sqlText`select private.abandon_idempotent(${request.userId}::uuid,${request.key})`,
  ]);
}
