import { z } from "zod";
import type { RequestBody } from "./body.ts";
import { accessDenied, invalidInput, StorageError } from "./errors.ts";
import type { StorageContext } from "./context.ts";
import type { Caller, RequestDatabase, Scope } from "./database.ts";

/** A request as the endpoints see it. */
export interface StorageRequest {
  method: string;
  url: URL;
  headers: Headers;
  body: RequestBody;
  /** Parts of the path that the route names, decoded. */
  params: string[];
  scope: Scope;
  db: RequestDatabase;
}

/** Who must stand behind a request. `maybe`: public buckets answer everybody. `nobody`: no token is looked at. */
export type Access = "token" | "maybe" | "service" | "nobody";

const ANONYMOUS: Caller = { claims: { role: "anon" }, token: "", authenticated: false };
const MOST_JSON_BYTES = 1 << 20;

/** @throws {StorageError} for a token that does not hold, where one is needed */
export async function callerOf(
  { verifyToken }: StorageContext,
  headers: Headers,
  access: Access,
): Promise<Caller> {
  if (access === "nobody") return ANONYMOUS;
  const authorization = headers.get("authorization");
  if (authorization === null && access !== "maybe") {
    throw invalidInput("headers must have required property 'authorization'");
  }
  const token = (authorization ?? "").replace(/^Bearer\s+/i, "");
  let caller: Caller;
  try {
    caller = { claims: await verifyToken(token), token, authenticated: true };
  } catch (error) {
    if (access === "maybe") return ANONYMOUS;
    throw accessDenied((error as Error).message, error);
  }
  if (access === "service" && caller.claims.role !== "service_role") {
    throw new StorageError(403, "AccessDenied", "Access denied: Invalid role", {
      error: "Unauthorized",
      http: 403,
    });
  }
  return caller;
}

/** @throws {StorageError} in the words of the platform's JSON schemas, as far as clients know them */
export async function readJson<Shape extends z.ZodType>(
  request: StorageRequest,
  shape: Shape,
): Promise<z.infer<Shape>> {
  const text = await readText(request.body);
  const isJson = /^application\/json\b/i.test(request.headers.get("content-type") ?? "");
  if (text === "" || !isJson) throw invalidInput("body must be object");
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw invalidInput("Body is not valid JSON but content-type is set to 'application/json'");
  }
  return check(value, shape, "body");
}

export function readQuery<Shape extends z.ZodType>(
  request: StorageRequest,
  shape: Shape,
): z.infer<Shape> {
  return check(Object.fromEntries(request.url.searchParams), shape, "querystring");
}

/** `x-metadata` as clients send it: JSON in base64. What is none is passed over. */
export function userMetadataOf(header: string | null): Record<string, unknown> | null {
  if (header === null) return null;
  try {
    const bytes = Uint8Array.from(atob(header), (character) => character.charCodeAt(0));
    return parseObject(new TextDecoder().decode(bytes));
  } catch {
    return null;
  }
}

export function parseObject(text: string): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null && !Array.isArray(value)
      ? value as Record<string, unknown>
      : null;
  } catch {
    return null;
  }
}

function check<Shape extends z.ZodType>(
  value: unknown,
  shape: Shape,
  where: string,
): z.infer<Shape> {
  const checked = shape.safeParse(value);
  if (checked.success) return checked.data;
  const [issue] = checked.error.issues;
  const missing = issue!.code === "invalid_type" && /received undefined/.test(issue!.message);
  const path = missing ? issue!.path.slice(0, -1) : issue!.path;
  const place = [where, ...path].join("/");
  throw invalidInput(
    missing
      ? `${place} must have required property '${String(issue!.path.at(-1))}'`
      : `${place} ${issue!.message}`,
  );
}

async function readText(body: RequestBody): Promise<string> {
  const decoder = new TextDecoder();
  let text = "";
  let bytes = 0;
  for await (const chunk of body) {
    bytes += chunk.byteLength;
    if (bytes > MOST_JSON_BYTES) {
      throw new StorageError(413, "EntityTooLarge", "Request body is too large", {
        error: "Error",
        http: 413,
      });
    }
    text += decoder.decode(chunk, { stream: true });
  }
  return text + decoder.decode();
}
