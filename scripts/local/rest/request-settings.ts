/** The settings by which PostgREST and SQL tell each other of a request and its answer. */
import type { TransactionSql } from "postgres";
import { dress, type RestError } from "./errors.ts";

/** `response.status` and `response.headers`, as SQL left them. */
export interface ResponseSettings {
  status: number | null;
  headers: [name: string, value: string][];
}

/** Cookies by name, for `request.cookies`. */
export function readCookies(header = ""): Record<string, string> {
  const pairs = header.split(";").map((pair) => /^\s*([^=\s]+)\s*=(.*)$/.exec(pair));
  return Object.fromEntries(pairs.flatMap((pair) => pair ? [[pair[1]!, pair[2]!.trim()]] : []));
}

/** `headers` with what SQL gave: in place of what was there, and each time it was given. */
export function applyHeaders(headers: Headers, given: ResponseSettings["headers"]): void {
  for (const [name] of given) headers.delete(name);
  for (const [name, value] of given) headers.append(name, value);
}

/** Throws PostgREST's error for settings that it could not follow; the transaction is undone then. */
export async function readResponseSettings(sql: TransactionSql): Promise<ResponseSettings> {
  const [row] = await sql`
    select current_setting('response.status', true) as status,
      current_setting('response.headers', true) as headers`;
  const status = row!.status ? Number(row!.status) : null;
  if (status !== null && !(Number.isInteger(status) && status >= 200 && status <= 599)) {
    throw dress(invalidStatus);
  }
  return { status, headers: row!.headers ? parseHeaders(row!.headers) : [] };
}

function parseHeaders(text: string): ResponseSettings["headers"] {
  let given: unknown;
  try {
    given = JSON.parse(text);
  } catch {
    throw dress(invalidHeaders);
  }
  if (!Array.isArray(given)) throw dress(invalidHeaders);
  return given.map((each) => {
    const entries = each !== null && typeof each === "object" ? Object.entries(each) : [];
    const [name, value] = entries[0] ?? [];
    if (entries.length !== 1 || typeof value !== "string") throw dress(invalidHeaders);
    return [name!, value];
  });
}

const invalidStatus: RestError = {
  status: 500,
  code: "PGRST112",
  message: "response.status guc must be a valid status code",
};
const invalidHeaders: RestError = {
  status: 500,
  code: "PGRST111",
  message:
    "response.headers guc must be a JSON array composed of objects with a single key and a string value",
};
