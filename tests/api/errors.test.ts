import { describe, expect, it } from "vitest";
import { presentError } from "../../functions/api/presenters/error.ts";
import { ApiError, ERROR_STATUS, type ErrorCode } from "../../shared/contract/errors.ts";
import { toApiError } from "../../shared/database/errors.ts";
import { error1 } from "../../shared/contract/responses/edition-1.ts";
import { error2 } from "../../shared/contract/responses/edition-2.ts";
import { error3 } from "../../shared/contract/responses/edition-3.ts";

const context = {
  requestId: "req-1",
  now: new Date("2024-01-15T15:45:00Z"),
  userId: "22222222-2222-4222-8222-222222222222",
  ranAsCaller: true,
};

describe("codes", () => {
  it.each(
    [
      ["AUTHENTICATION_FAILED", 401],
      ["AUTHORIZATION_FAILED", 403],
      ["AGENT_NOT_FOUND", 404],
      ["DEPLOYMENT_FAILED", 500],
      ["RESOURCE_EXHAUSTED", 503],
      ["VALIDATION_ERROR", 400],
      ["RATE_LIMIT_EXCEEDED", 429],
      ["CONTAINER_UNHEALTHY", 503],
      ["INVALID_API_KEY", 401],
      ["INSUFFICIENT_PERMISSIONS", 403],
      ["RESOURCE_LIMIT_EXCEEDED", 429],
      ["SECURITY_SCAN_FAILED", 422],
      ["INVALID_JWT_TOKEN", 401],
      ["RLS_ACCESS_DENIED", 403],
      ["SUPABASE_CONNECTION_ERROR", 503],
      ["REAL_TIME_SUBSCRIPTION_FAILED", 422],
      ["AGENT_LIMIT_REACHED", 403],
      ["INVALID_FRAMEWORK", 400],
      ["INVALID_MODEL", 400],
      ["PERMISSION_DENIED", 403],
    ] as const,
  )("%s is %s, as documented", (code, status) => {
    expect(ERROR_STATUS[code]).toBe(status);
  });
});

describe("an error", () => {
  const notFound = new ApiError("AGENT_NOT_FOUND", "Agent with ID 'x' not found", {
    details: { agent_id: "x" },
  });

  it("is edition 1's", () => {
    const { status, body } = presentError(notFound, 1, "api_key", context);
    expect(status).toBe(404);
    expect(error1.parse(body)).toEqual({
      error: {
        code: "AGENT_NOT_FOUND",
        message: "Agent with ID 'x' not found",
        timestamp: "2024-01-15T15:45:00.000Z",
        requestId: "req-1",
      },
    });
  });

  it("is edition 2's", () => {
    const { body } = presentError(notFound, 2, "jwt", context);
    expect(error2.parse(body).error).toMatchObject({
      user_id: context.userId,
      supabase_details: { rls_applied: true, user_isolation: "active" },
    });
  });

  it("is edition 3's", () => {
    const { body } = presentError(notFound, 3, "jwt", context);
    expect(error3.parse(body)).toEqual({
      error: {
        code: "AGENT_NOT_FOUND",
        message: "Agent with ID 'x' not found",
        details: { agent_id: "x" },
        timestamp: "2024-01-15T15:45:00.000Z",
        correlation_id: "req-1",
      },
    });
  });

  it("is all editions' without a header", () => {
    const { body, edition } = presentError(notFound, null, "jwt", context);
    expect(edition).toBe(3);
    for (const schema of [error1, error2, error3]) schema.parse(body);
  });

  it.each(
    [
      ["INVALID_JWT_TOKEN", "INVALID_API_KEY", "INVALID_JWT_TOKEN", "AUTHENTICATION_FAILED"],
      ["INVALID_API_KEY", "INVALID_API_KEY", "INVALID_JWT_TOKEN", "AUTHENTICATION_FAILED"],
      ["AUTHENTICATION_FAILED", "INVALID_API_KEY", "INVALID_JWT_TOKEN", "AUTHENTICATION_FAILED"],
      [
        "PERMISSION_DENIED",
        "INSUFFICIENT_PERMISSIONS",
        "INSUFFICIENT_PERMISSIONS",
        "AUTHORIZATION_FAILED",
      ],
      [
        "RLS_ACCESS_DENIED",
        "INSUFFICIENT_PERMISSIONS",
        "RLS_ACCESS_DENIED",
        "AUTHORIZATION_FAILED",
      ],
      [
        "RATE_LIMIT_EXCEEDED",
        "RESOURCE_LIMIT_EXCEEDED",
        "RATE_LIMIT_EXCEEDED",
        "RATE_LIMIT_EXCEEDED",
      ],
      ["INVALID_MODEL", "VALIDATION_ERROR", "VALIDATION_ERROR", "VALIDATION_ERROR"],
    ] as [ErrorCode, ErrorCode, ErrorCode, ErrorCode][],
  )("%s has each edition's own code", (code, ...expected) => {
    const error = new ApiError(code, "no");
    expect(([1, 2, 3] as const).map((edition) => presentError(error, edition, "jwt", context).code))
      .toEqual(expected);
  });

  it("has the status of the code that is shown", () => {
    const error = new ApiError("AGENT_LIMIT_REACHED", "no");
    expect(presentError(error, 1, "api_key", context).status).toBe(429);
    expect(presentError(error, 3, "jwt", context).status).toBe(403);
  });
});

describe("database errors", () => {
  function postgresError(fields: Record<string, unknown>): Error {
    return Object.assign(
      new Error(String(fields.message ?? "")),
      { name: "PostgresError" },
      fields,
    );
  }

  it("become what SQL raised", () => {
    const error = toApiError(postgresError({
      code: "PGRST",
      message: JSON.stringify({
        code: "OPERATION_IN_PROGRESS",
        message: "busy",
        details: '{"operation_id": "1"}',
        hint: "wait",
      }),
      detail: '{"status": 409, "headers": {"Retry-After": "3"}}',
    }));
    expect(error).toMatchObject({
      code: "OPERATION_IN_PROGRESS",
      status: 409,
      message: "busy",
      details: { operation_id: "1" },
      headers: { "Retry-After": "3" },
      hint: "wait",
    });
  });

  it("show none of the database's words", () => {
    const error = toApiError(postgresError({
      code: "23505",
      message: "duplicate key value violates unique constraint",
      detail: "Key (secret)=(hunter2) already exists.",
    }));
    expect(error).toMatchObject({ code: "INTERNAL_ERROR", status: 500 });
    expect(error.message).not.toContain("duplicate");
    expect(JSON.stringify(error.details)).not.toContain("hunter2");
  });

  it("never take a code from outside the list", () => {
    const error = toApiError(postgresError({
      code: "PGRST",
      message: '{"code": "MADE_UP", "message": "x"}',
    }));
    expect(error.code).toBe("INTERNAL_ERROR");
  });

  it.each([
    ["a refused connection", Object.assign(new Error("x"), { code: "ECONNREFUSED" })],
    ["too many connections", postgresError({ code: "53300" })],
    ["a shutdown", postgresError({ code: "57P01" })],
  ])("call %s a connection error", (_name, cause) => {
    expect(toApiError(cause)).toMatchObject({ code: "SUPABASE_CONNECTION_ERROR", status: 503 });
  });
});
