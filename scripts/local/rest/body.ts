/** What @supabase/lite takes differently from PostgREST in a request's body, put right beforehand. */
import { errorResponse } from "./errors.ts";

/** The part of lite's schema cache that is looked at here. */
export interface SchemaCache {
  columns: { schema: string; table: string; name: string; type: string; pg_type?: string }[];
  functions?: { schema: string; name: string; arg_names: string[]; arg_types: string[] }[];
}

const isJson = (type: string | undefined) => type === "json" || type === "jsonb";

/**
 * The request with a body that lite reads as PostgREST would:
 * - values of json columns and arguments arrive as JSON text, lite would take a string for JSON and a
 *   boolean for something else;
 * - booleans in an array arrive as an array;
 * - rows of a bulk insert get the same keys where `columns` names them.
 *
 * @returns a Response when PostgREST would refuse the body
 */
export async function prepareBody(
  request: Request,
  cache: SchemaCache,
): Promise<Request | Response> {
  if (!["POST", "PUT", "PATCH"].includes(request.method) || !request.body) return request;
  const type = request.headers.get("content-type") ?? "application/json";
  if (!/^application\/(json|vnd\.pgrst)/.test(type)) return request;
  const text = await request.text();
  const again = (body: string) =>
    new Request(request.url, { method: request.method, headers: request.headers, body });
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    // lite has the answer for what is no JSON.
    return again(text);
  }
  const url = new URL(request.url);
  const schema = request.headers.get("content-profile") ?? "public";
  const [, name, functionName] = /^\/([^/]+)(?:\/([^/]+))?$/.exec(url.pathname) ?? [];
  if (name === "rpc" && functionName) {
    return again(JSON.stringify(prepareArguments(parsed, schema, functionName, cache)));
  }
  if (!name || parsed === null || typeof parsed !== "object") return again(text);
  const types = new Map(
    cache.columns
      .filter((column) => column.table === name && column.schema === schema)
      .map((column) => [column.name, column.pg_type ?? column.type]),
  );
  const wanted = url.searchParams.get("columns");
  const rows = Array.isArray(parsed) ? parsed : [parsed];
  if (!rows.every((row) => row !== null && typeof row === "object")) return again(text);
  const uneven = rows.some((row) => !sameKeys(row, rows[0]));
  if (uneven && wanted === null) {
    return errorResponse({ status: 400, code: "PGRST102", message: "All object keys must match" });
  }
  const keys = wanted?.split(",").map((key) => key.trim().replace(/^"(.*)"$/, "$1"));
  const fill = uneven && !/missing=default/.test(request.headers.get("prefer") ?? "");
  const prepared = rows.map((row: Record<string, unknown>) => {
    const result: Record<string, unknown> = {};
    for (const key of fill ? keys! : Object.keys(row)) {
      result[key] = prepareValue(row[key] ?? null, types.get(key));
    }
    return result;
  });
  return again(JSON.stringify(Array.isArray(parsed) ? prepared : prepared[0]));
}

function prepareValue(value: unknown, type: string | undefined): unknown {
  if (value === null) return null;
  // Twice: lite decodes a json column's string once, and what is left goes to the server as it is.
  if (isJson(type)) return JSON.stringify(JSON.stringify(value));
  if (type === "_bool" && Array.isArray(value)) {
    return `{${value.map((item) => item === null ? "null" : String(item)).join(",")}}`;
  }
  return value;
}

function prepareArguments(
  parsed: unknown,
  schema: string,
  name: string,
  cache: SchemaCache,
): unknown {
  if (parsed === null || typeof parsed !== "object" || Array.isArray(parsed)) return parsed;
  const given = Object.keys(parsed);
  const candidates = (cache.functions ?? []).filter((candidate) =>
    candidate.schema === schema && candidate.name === name &&
    given.every((key) => candidate.arg_names.includes(key))
  );
  const jsonArgument = (key: string) =>
    candidates.length > 0 &&
    candidates.every((it) => isJson(it.arg_types[it.arg_names.indexOf(key)]));
  return Object.fromEntries(
    Object.entries(parsed).map(([key, value]) => [
      key,
      value !== null && jsonArgument(key) ? JSON.stringify(value) : value,
    ]),
  );
}

function sameKeys(a: object, b: object): boolean {
  const keys = Object.keys(a);
  return keys.length === Object.keys(b).length && keys.every((key) => key in b);
}
