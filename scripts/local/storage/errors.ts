/**
 * A refusal in Storage's terms. The body carries `status`; over HTTP nearly all refusals are 400, as
 * the platform has it. `cause` goes to the log and never to the client.
 */
export class StorageError extends Error {
  override readonly name = "StorageError";

  /**
   * @param status `statusCode` of the body
   * @param code machine-readable, `NoSuchKey`
   * @param options `error`: the older name of the code; `http`: status of the answer where it is
   *   neither 400 nor 500
   */
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly options: { error?: string; http?: number; cause?: unknown } = {},
  ) {
    super(message, { cause: options.cause });
  }

  /** Status of the answer. */
  get http(): number {
    return this.options.http ?? (this.status === 500 ? 500 : 400);
  }
}

export const noSuchBucket = () =>
  new StorageError(404, "NoSuchBucket", "Bucket not found", { error: "Bucket not found" });
export const noSuchKey = () =>
  new StorageError(404, "NoSuchKey", "Object not found", { error: "not_found" });
/** The row is there and its file is not. */
export const missingFile = () =>
  new StorageError(404, "NoSuchKey", "The resource was not found", { error: "Not found" });
export const accessDenied = (message = "Access denied", cause?: unknown) =>
  new StorageError(403, "AccessDenied", message, { error: "Unauthorized", cause });
export const alreadyExists = (code: string, cause?: unknown) =>
  new StorageError(409, code, "The resource already exists", { error: "Duplicate", cause });
export const invalidRequest = (message: string) => new StorageError(400, "InvalidRequest", message);
export const invalidKey = (key: string) =>
  new StorageError(400, "InvalidKey", `Invalid key: ${key}`);
export const invalidBucketName = () =>
  new StorageError(400, "InvalidBucketName", "Bucket name invalid", { error: "Invalid Input" });
export const invalidMimeType = (type: string) =>
  new StorageError(415, "InvalidMimeType", `mime type ${type} is not supported`, {
    error: "invalid_mime_type",
  });
/** No header of an answer could carry it. */
export const invalidHeader = (name: string) =>
  new StorageError(400, "InvalidRequest", `Invalid character in response header "${name}"`, {
    error: "invalid_header_char",
  });
export const tooLarge = (entity = "object") =>
  new StorageError(413, "EntityTooLarge", `The ${entity} exceeded the maximum allowed size`, {
    error: "Payload too large",
  });
export const invalidRange = () =>
  new StorageError(416, "InvalidRange", "invalid range provided", {
    error: "invalid_range",
    http: 416,
  });
export const diskFull = (cause: unknown) =>
  new StorageError(
    507,
    "InsufficientStorage",
    "The disk that holds the local stack is full: free some room and upload again.",
    { error: "Insufficient storage", http: 507, cause },
  );
/** What the platform has and the local stack has not. */
export const notImplemented = (what: string) =>
  new StorageError(501, "NotImplemented", `The local stack has no ${what}.`, {
    error: "Not implemented",
    http: 501,
  });

/** A request that a JSON schema of the platform's would refuse. */
export const invalidInput = (message: string) =>
  new StorageError(400, "InvalidRequest", message, { error: "Error" });

export const noRoute = (method: string, path: string) =>
  new StorageError(404, "InvalidRequest", `Route ${method}:${path} not found`, {
    error: "Not Found",
    http: 404,
  });

export function errorResponse(error: StorageError): Response {
  const body = {
    statusCode: String(error.status),
    error: error.options.error ?? error.code,
    message: error.message,
    code: error.code,
  };
  return Response.json(body, { status: error.http });
}

/** What the client may know of a failed statement; null when it was none of the database's. */
export function databaseRefusal(error: unknown): StorageError | null {
  const { code, message = "", detail = "" } = (error ?? {}) as {
    code?: string;
    message?: string;
    detail?: string;
  };
  const failed = (status: number, name: string, text: string, http?: number) =>
    new StorageError(status, name, text, { cause: error, ...(http !== undefined && { http }) });
  switch (code) {
    case "42501":
      return accessDenied(
        message.includes("row-level security")
          ? "new row violates row-level security policy"
          : message,
        error,
      );
    case "23505":
      return alreadyExists("ResourceAlreadyExists", error);
    case "23503":
      return detail.includes("is still referenced from table")
        ? failed(
          409,
          "ResourceReferenced",
          "The resource could not be updated or removed due to a foreign key constraint",
        )
        : failed(404, "InvalidRequest", "The related resource does not exist");
    case "55P03":
      return failed(423, "ResourceLocked", "The resource is locked");
    case "57014":
      return failed(544, "DatabaseTimeout", "The connection to the database timed out", 544);
    case "22P02":
      return failed(400, "InvalidParameter", message);
    case "22021": // a NUL, which Postgres stores in no text
    case "22P05":
      return failed(400, "InvalidParameter", "Unicode NUL characters are not supported");
    case "42P17":
      return failed(
        503,
        "DatabaseInvalidObjectDefinition",
        "The database schema is invalid or incompatible.",
      );
    case "42703":
    case "42P01":
      return failed(
        503,
        "DatabaseSchemaMismatch",
        "There is a database schema mismatch in a trigger or RLS policy",
      );
    default:
      return code === undefined || !/^[0-9A-Z]{5}$/.test(code)
        ? null
        : failed(500, "DatabaseError", `database error, code: ${code}`);
  }
}
