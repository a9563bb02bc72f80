import { readBounded } from "../../../shared/http/read-bounded.ts";
import { askPermissions } from "./authorization.ts";
import type { Context } from "./context.ts";
import type { Broadcast } from "./protocol.ts";
import { type ChannelClaims, verifyChannelToken } from "./tokens.ts";

interface OutgoingMessage {
  topic: string;
  event: string;
  private: boolean;
  broadcast: Broadcast;
}

/** Messages of one request, field by field what is wrong with them. */
type FieldErrors = Record<string, string[]>;

const UNAUTHORIZED = () => Response.json({ message: "Unauthorized" }, { status: 401 });

/**
 * Realtime's REST side: `POST /api/broadcast` with a list of messages, and
 * `POST /api/broadcast/{topic}/events/{event}` with one payload, JSON or bytes.
 */
export async function serveHttp(
  context: Context,
  request: Request,
  path: string,
): Promise<Response> {
  const single = /^\/api\/broadcast\/([^/]+)\/events\/([^/]+)$/.exec(path);
  if (/^\/api\/tenants\/[^/]+\/health$/.test(path)) return await tellHealth(context, request);
  if (path !== "/api/broadcast" && single === null) {
    if (path === "/api/ping") return Response.json({ message: "Success" });
    return Response.json({ message: "not found" }, { status: 404 });
  }
  if (request.method !== "POST") {
    return Response.json({ message: "method not allowed" }, {
      status: 405,
      headers: { allow: "POST" },
    });
  }
  let claims: ChannelClaims;
  try {
    claims = await verifyChannelToken(context.verifyToken, tokenOf(request) ?? "");
  } catch {
    await request.body?.cancel();
    return UNAUTHORIZED();
  }
  if (single === null) return await broadcastBatch(context, request, claims);
  const [topic, event] = single.slice(1).map(decodeURIComponent) as [string, string];
  return await broadcastOne(context, request, claims, topic, event);
}

/** `GET /api/tenants/{name}/health`, for holders of the secret key. */
async function tellHealth(context: Context, request: Request): Promise<Response> {
  const claims = await verifyChannelToken(context.verifyToken, tokenOf(request) ?? "")
    .catch(() => null);
  if (claims?.role !== "service_role") return new Response("", { status: 403 });
  const connected = await context.sql`select 1`.then(() => true, () => false);
  return Response.json({
    data: {
      healthy: connected,
      db_connected: connected,
      replication_connected: context.following(),
      connected_cluster: context.connections.size,
      region: "local",
      node: "local",
    },
  });
}

/** The JWT the gateway put there, or the caller's own. */
export function tokenOf(request: Request): string | null {
  const bearer = /^Bearer\s+(.+)$/i.exec(request.headers.get("authorization") ?? "")?.[1];
  return bearer ?? request.headers.get("apikey");
}

async function broadcastBatch(
  context: Context,
  request: Request,
  claims: ChannelClaims,
): Promise<Response> {
  const body = await readJson(request, context.limits.frameBytes);
  const given = (body as { messages?: unknown } | null)?.messages;
  if (!Array.isArray(given) || given.length === 0) {
    return invalid({ messages: ["can't be blank"] });
  }
  const messages: OutgoingMessage[] = [];
  const errors: FieldErrors[] = [];
  for (const message of given) {
    const read = readMessage(message, context.limits.payloadBytes);
    if ("broadcast" in read) messages.push(read as OutgoingMessage);
    errors.push("broadcast" in read ? {} : read as FieldErrors);
  }
  if (errors.some((error) => Object.keys(error).length > 0)) return invalid({ messages: errors });
  const permitted = new Map<string, boolean>();
  for (const message of messages) {
    if (message.private) {
      let write = permitted.get(message.topic);
      if (write === undefined) {
        write = await mayWrite(context, request, claims, message.topic);
        permitted.set(message.topic, write);
      }
      // As on the platform: what may not be sent is left out, and the answer is the same.
      if (!write) continue;
    }
    context.hub.broadcast(message.topic, message.private, message.broadcast);
  }
  return new Response(null, { status: 202 });
}

async function broadcastOne(
  context: Context,
  request: Request,
  claims: ChannelClaims,
  topic: string,
  event: string,
): Promise<Response> {
  const isPrivate = new URL(request.url).searchParams.get("private") === "true";
  const type = request.headers.get("content-type")?.split(";")[0]?.trim();
  const { bytes, truncated } = await readBounded(request.body, context.limits.payloadBytes);
  if (truncated) return invalid({ payload: ["Payload size exceeds tenant limit"] });
  let broadcast: Broadcast;
  if (type === "application/octet-stream") {
    broadcast = { kind: "binary", event, body: bytes, meta: null };
  } else if (type === "application/json") {
    const body = new TextDecoder().decode(bytes);
    if (!isJson(body)) return Response.json({ message: "Bad Request" }, { status: 400 });
    broadcast = { kind: "json", event, body, meta: null };
  } else {
    return Response.json({ message: "Unsupported Media Type" }, { status: 415 });
  }
  if (isPrivate && !await mayWrite(context, request, claims, topic)) {
    return Response.json({ message: "Unauthorized" }, { status: 403 });
  }
  context.hub.broadcast(topic, isPrivate, broadcast);
  return new Response(null, { status: 202 });
}

async function mayWrite(
  { sql, log }: Context,
  request: Request,
  claims: ChannelClaims,
  topic: string,
): Promise<boolean> {
  const headers = customHeaders(request);
  const { permissions, failure } = await askPermissions(
    sql,
    { topic, claims, headers },
    { presence: false },
  );
  if (failure !== null) log.warn("A policy on realtime.messages failed", { failure });
  return permissions.broadcast.write;
}

/** The `x-` headers, which policies may read. */
export function customHeaders(request: Request): Record<string, string> {
  return Object.fromEntries([...request.headers].filter(([name]) => name.startsWith("x-")));
}

function readMessage(value: unknown, mostBytes: number): OutgoingMessage | FieldErrors {
  const message = value as Record<string, unknown> | null;
  const errors: FieldErrors = {};
  for (const field of ["topic", "event"]) {
    const text = message?.[field];
    if (typeof text !== "string" || text.trim() === "") errors[field] = ["can't be blank"];
  }
  const payload = message?.payload;
  if (payload === null || payload === undefined) errors.payload = ["can't be blank"];
  else if (typeof payload !== "object" || Array.isArray(payload)) errors.payload = ["is invalid"];
  if (Object.keys(errors).length > 0) return errors;
  const { topic, event } = message as { topic: string; event: string };
  const raw = JSON.stringify({ type: "broadcast", event, payload });
  if (raw.length > mostBytes) return { payload: ["Payload size exceeds tenant limit"] };
  return { topic, event, private: message!.private === true, broadcast: { kind: "raw", raw } };
}

function invalid(errors: unknown): Response {
  return Response.json({ errors }, { status: 422 });
}

async function readJson(request: Request, mostBytes: number): Promise<unknown> {
  const { bytes, truncated } = await readBounded(request.body, mostBytes);
  try {
    return truncated ? null : JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    return null;
  }
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}
