import { isIP } from "node:net";
import { z } from "zod";
import { readBounded } from "../../../shared/http/read-bounded.ts";
import { AuthError, badRequest } from "./errors.ts";

const MAX_BODY_BYTES = 1 << 20;

/** A request as the endpoints see it. */
export interface AuthRequest {
  method: string;
  url: URL;
  headers: Headers;
  /** Of the client, as the gateway forwards it; null when nobody says. */
  ip: string | null;
  userAgent: string | null;
  /** Of the answer; endpoints add to them. */
  responseHeaders: Headers;
  /**
   * The body, read as JSON and checked.
   *
   * @throws {AuthError} `bad_json` (400), `request_entity_too_large` (413)
   */
  json<Shape extends z.ZodType>(shape: Shape): Promise<z.infer<Shape>>;
  /**
   * The body, read as a form.
   *
   * @throws {AuthError} `request_entity_too_large` (413)
   */
  form(): Promise<URLSearchParams>;
  /** True when there is no body at all. */
  isEmpty(): Promise<boolean>;
}

/** A field that may be absent or null, as Go's zero value: `""`. */
export const text = z.string().nullish().transform((value) => value ?? "");
export const flag = z.boolean().nullish().transform((value) => value ?? false);
/** A field that tells "absent" from "empty". */
export const optionalText = z.string().nullish().transform((value) => value ?? null);
export const jsonObject = z.record(z.string(), z.unknown()).nullish().transform((value) =>
  value ?? null
);

export function readRequest(request: Request): AuthRequest {
  let body: Promise<string> | undefined;
  const read = () => body ??= readBody(request);
  return {
    method: request.method,
    url: new URL(request.url),
    headers: request.headers,
    ip: clientAddress(request.headers),
    userAgent: request.headers.get("user-agent"),
    responseHeaders: new Headers(),
    isEmpty: async () => (await read()) === "",
    form: async () => new URLSearchParams(await read()),
    json: async (shape) => parse(await read(), shape),
  };
}

/** A JSON answer. */
export function json(value: unknown, status = 200): Response {
  return Response.json(value, { status });
}

function parse<Shape extends z.ZodType>(body: string, shape: Shape): z.infer<Shape> {
  let value: unknown;
  try {
    value = JSON.parse(body);
  } catch {
    const reason = body === "" ? "unexpected end of JSON input" : "invalid character or value";
    throw badRequest("bad_json", `Could not parse request body as JSON: ${reason}`);
  }
  // Postgres stores no NUL in text or jsonb; refused here, it cannot fail half-way through.
  if (body.includes("\\u0000") && containsNul(value)) {
    throw badRequest("validation_failed", "Unicode NUL characters are not supported");
  }
  const checked = shape.safeParse(value);
  if (checked.success) return checked.data;
  const issue = checked.error.issues[0]!;
  const field = issue.path.length === 0 ? "the body" : `field ${issue.path.join(".")}`;
  throw badRequest("bad_json", `Could not parse request body as JSON: wrong type of ${field}`);
}

function containsNul(value: unknown): boolean {
  if (typeof value === "string") return value.includes("\0");
  if (typeof value !== "object" || value === null) return false;
  return Object.entries(value).some(([key, item]) => key.includes("\0") || containsNul(item));
}

async function readBody(request: Request): Promise<string> {
  const { bytes, truncated } = await readBounded(request.body, MAX_BODY_BYTES);
  if (!truncated) return new TextDecoder().decode(bytes);
  throw new AuthError(
    413,
    "request_entity_too_large",
    `Request body too large (max ${MAX_BODY_BYTES} bytes)`,
  );
}

/** The first valid address of X-Forwarded-For, which the gateway sets. */
function clientAddress(headers: Headers): string | null {
  for (const part of (headers.get("x-forwarded-for") ?? "").split(",")) {
    // Postgres knows no zones (`fe80::1%eth0`).
    const address = part.trim().split("%")[0]!;
    if (isIP(address) !== 0) return address;
  }
  return null;
}
