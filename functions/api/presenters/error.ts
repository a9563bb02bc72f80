import { type ApiError, ERROR_STATUS, type ErrorCode } from "../../../shared/contract/errors.ts";
import {
  type CredentialKind,
  type Edition,
  EDITIONS,
  editionsOfAnswer,
  type JsonObject,
  mergeAnswers,
} from "../../../shared/contract/editions.ts";

/**
 * What each edition calls a fault: its own document's code for the same thing. A code that stands
 * here for no edition is used by all, for want of a documented one.
 */
const CODE_OF_EDITION: Partial<Record<ErrorCode, Partial<Record<Edition, ErrorCode>>>> = {
  // Each edition documents one 401; a client of it knows no other.
  AUTHENTICATION_FAILED: { 1: "INVALID_API_KEY", 2: "INVALID_JWT_TOKEN" },
  INVALID_JWT_TOKEN: { 1: "INVALID_API_KEY", 3: "AUTHENTICATION_FAILED" },
  INVALID_API_KEY: { 2: "INVALID_JWT_TOKEN", 3: "AUTHENTICATION_FAILED" },
  PERMISSION_DENIED: {
    1: "INSUFFICIENT_PERMISSIONS",
    2: "INSUFFICIENT_PERMISSIONS",
    3: "AUTHORIZATION_FAILED",
  },
  AUTHORIZATION_FAILED: { 1: "INSUFFICIENT_PERMISSIONS", 2: "INSUFFICIENT_PERMISSIONS" },
  INSUFFICIENT_PERMISSIONS: { 3: "AUTHORIZATION_FAILED" },
  RLS_ACCESS_DENIED: { 1: "INSUFFICIENT_PERMISSIONS", 3: "AUTHORIZATION_FAILED" },
  // Editions 1 and 2 know one quota code, edition 1 no other 429.
  RATE_LIMIT_EXCEEDED: { 1: "RESOURCE_LIMIT_EXCEEDED" },
  AGENT_LIMIT_REACHED: { 1: "RESOURCE_LIMIT_EXCEEDED", 2: "RESOURCE_LIMIT_EXCEEDED" },
  INVALID_FRAMEWORK: { 1: "VALIDATION_ERROR", 2: "VALIDATION_ERROR", 3: "VALIDATION_ERROR" },
  INVALID_MODEL: { 1: "VALIDATION_ERROR", 2: "VALIDATION_ERROR", 3: "VALIDATION_ERROR" },
};

export interface ErrorContext {
  requestId: string;
  now: Date;
  /** Null when the caller did not prove who they are. */
  userId: string | null;
  /** Whether the database judged the request as the caller, so that RLS was in force. */
  ranAsCaller: boolean;
}

/** What an edition calls a fault. */
export function codeInEdition(edition: Edition, code: ErrorCode): ErrorCode {
  return CODE_OF_EDITION[code]?.[edition] ?? code;
}

/** Seed 002 says of an agent that is not found that access may be denied; seed 001 does not. */
function messageFor(edition: Edition, { code, message }: ApiError): string {
  return edition === 1 && code === "AGENT_NOT_FOUND"
    ? message.replace(/ or access denied$/, "")
    : message;
}

function renderError(edition: Edition, error: ApiError, context: ErrorContext): JsonObject {
  const details = error.details as JsonObject | null;
  const common = {
    code: codeInEdition(edition, error.code),
    message: messageFor(edition, error),
    timestamp: context.now.toISOString(),
  };
  switch (edition) {
    case 1:
      return {
        ...common,
        requestId: context.requestId,
        ...(details === null ? {} : { details }),
      };
    case 2:
      return {
        ...common,
        requestId: context.requestId,
        user_id: context.userId,
        supabase_details: {
          rls_applied: context.ranAsCaller,
          user_isolation: context.ranAsCaller ? "active" : null,
        },
        ...(details === null ? {} : { details }),
      };
    case 3:
      return {
        ...common,
        details: details ?? {},
        correlation_id: context.requestId,
      };
  }
}

export interface ErrorAnswer {
  status: number;
  code: ErrorCode;
  edition: Edition;
  body: JsonObject;
}

/**
 * The answer to a fault in the caller's editions: one when it was asked for by header, else all of
 * them merged, the caller's own first. The status is that of the code that is shown.
 */
export function presentError(
  error: ApiError,
  asked: Edition | null,
  credential: CredentialKind,
  context: ErrorContext,
): ErrorAnswer {
  const editions = editionsOfAnswer(asked, credential, EDITIONS);
  const edition = editions[0]!;
  const code = codeInEdition(edition, error.code);
  const merged = editions.map((each) => renderError(each, error, context))
    .reduce((strong, weak) => mergeAnswers(strong, weak) as JsonObject);
  const body: JsonObject = { ...merged, ...(error.hint === null ? {} : { hint: error.hint }) };
  return {
    status: code === error.code ? error.status : ERROR_STATUS[code],
    code,
    edition,
    body: { error: body },
  };
}
