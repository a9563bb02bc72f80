import { describeError } from "./errors.ts";
import type { Log } from "./log.ts";

/** Headers that speak of one connection and not of the message. */
const HOP_BY_HOP = [
  "connection",
  "host",
  "keep-alive",
  "proxy-authenticate",
  "proxy-authorization",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
];

/** Bytes waiting for a client that reads more slowly than the function writes. */
const MOST_BUFFERED_BYTES = 16 * 1024 * 1024;

/**
 * Hands `request` on to `origin` and gives its answer, both bodies streaming. The headers that speak
 * of the connection are taken off `request` itself: each copy of them costs a tenth of the whole.
 *
 * @param origin `http://host:port`; path and query are the request's own
 * @throws TypeError when the other side cannot be reached or ends before it answered
 */
export async function proxyRequest(
  request: Request,
  origin: string,
  client: Deno.HttpClient,
  signal: AbortSignal,
): Promise<Response> {
  const { headers } = request;
  for (const name of HOP_BY_HOP) headers.delete(name);
  // Without this fetch would ask for gzip that the client did not ask for.
  if (!headers.has("accept-encoding")) headers.set("accept-encoding", "identity");
  const answer = await fetch(origin + pathAndQuery(request.url), {
    method: request.method,
    headers,
    body: request.body,
    redirect: "manual",
    client,
    signal,
  });
  // fetch has unpacked the body by now and leaves the headers as they were.
  if (!/gzip|br/.test(answer.headers.get("content-encoding") ?? "")) return answer;
  const unpacked = new Response(answer.body, answer);
  if (request.method !== "HEAD") unpacked.headers.delete("content-length");
  unpacked.headers.delete("content-encoding");
  return unpacked;
}

/** Whether the request wants to become a WebSocket. */
export function isWebSocketUpgrade(request: Request): boolean {
  return request.headers.get("upgrade")?.toLowerCase() === "websocket";
}

/**
 * Joins the client's WebSocket with one to `origin`. When the other side refuses, its answer
 * (401, 404 …) is the client's answer, and no WebSocket comes to be.
 *
 * @param request as `Deno.serve` gave it: only such a request can be upgraded
 */
export async function proxyWebSocket(
  request: Request,
  origin: string,
  client: Deno.HttpClient,
  log: Log,
): Promise<Response> {
  const url = origin + pathAndQuery(request.url);
  const upstream = await openWebSocket(url, request);
  if (upstream === null) return await refusal(url, request, client);
  const { socket, response } = Deno.upgradeWebSocket(request, {
    ...(upstream.protocol !== "" && { protocol: upstream.protocol }),
  });
  const early: MessageEvent[] = [];
  let ended: CloseEvent | null = null;
  upstream.onmessage = (event) => early.push(event);
  upstream.onclose = (event) => ended = event;
  socket.binaryType = upstream.binaryType = "arraybuffer";
  socket.onopen = () => {
    for (const event of early) socket.send(event.data);
    join(upstream, socket, log);
    join(socket, upstream, log);
    // A function that refuses at once has closed before the client's handshake was through.
    if (ended !== null) close(socket, ended.code, ended.reason);
  };
  // The client may go before the handshake is through.
  socket.onclose = () => close(upstream, 1001, "");
  socket.onerror = () => close(upstream, 1011, "");
  return response;
}

function join(from: WebSocket, to: WebSocket, log: Log): void {
  from.onmessage = (event) => {
    if (to.readyState !== WebSocket.OPEN) return;
    if (to.bufferedAmount > MOST_BUFFERED_BYTES) {
      close(to, 1013, "reads too slowly");
      close(from, 1013, "reads too slowly");
      return;
    }
    to.send(event.data);
  };
  from.onclose = (event) => close(to, event.code, event.reason);
  from.onerror = (event) => {
    log.debug("WebSocket failed", { error: describeError((event as ErrorEvent).message) });
    close(to, 1011, "");
  };
}

/** Closes with the code the other side gave, as far as this side may send it. */
function close(socket: WebSocket, code: number, reason: string): void {
  if (socket.readyState > WebSocket.OPEN) return;
  // 1005 and 1006 stand for "no code" and "no closing handshake" and never travel.
  if (code === 1005) return socket.close();
  try {
    socket.close(code === 1006 ? 1011 : code, reason);
  } catch {
    // The client's half of the API takes 1000 and 3000–4999 only.
    socket.close(1000, reason);
  }
}

function openWebSocket(url: string, request: Request): Promise<WebSocket | null> {
  const headers = new Headers(request.headers);
  for (const name of [...HOP_BY_HOP, ...WEBSOCKET_HEADERS]) headers.delete(name);
  const protocols = (request.headers.get("sec-websocket-protocol") ?? "")
    .split(",").map((protocol) => protocol.trim()).filter((protocol) => protocol !== "");
  const socket = new DenoWebSocket(url.replace(/^http/, "ws"), { headers, protocols });
  return new Promise((resolve) => {
    socket.onopen = () => resolve(socket);
    socket.onerror = socket.onclose = () => resolve(null);
  });
}

/** Deno's constructor takes headers, which the DOM's type does not know. */
const DenoWebSocket = WebSocket as unknown as {
  new (url: string, options: { headers: Headers; protocols: string[] }): WebSocket;
};

const WEBSOCKET_HEADERS = [
  "sec-websocket-key",
  "sec-websocket-version",
  "sec-websocket-extensions",
  "sec-websocket-protocol",
];

/** Asks once more, to learn with what words the other side refuses. */
async function refusal(url: string, request: Request, client: Deno.HttpClient): Promise<Response> {
  const headers = new Headers(request.headers);
  headers.delete("host");
  const answer = await fetch(url, { headers, client, redirect: "manual" });
  if (answer.status !== 101) return new Response(answer.body, answer);
  await answer.body?.cancel();
  throw new TypeError("the WebSocket was refused and then accepted");
}

function pathAndQuery(url: string): string {
  return url.slice(url.indexOf("/", url.indexOf("//") + 2));
}
