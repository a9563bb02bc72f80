/** A message of Phoenix's protocol, version 1.0.0: what a client sends as JSON to join a channel. */
export interface JoinMessage {
  topic: string;
  event: "phx_join";
  payload: { config: Record<string, unknown>; access_token: string };
  ref: string;
  join_ref: string;
}

/** How an attempt to join ended. */
export type JoinResult = "joined" | "refused" | "too_many_connections" | "unreachable";

/** Realtime of the project, as far as the api uses it. */
export interface RealtimeService {
  /** Where a client connects; the key of the project in it is public. */
  url: string;
  /** Joins and leaves at once, to see that it can be done. */
  tryJoin(message: JoinMessage): Promise<JoinResult>;
}

export interface RealtimeServiceOptions {
  projectUrl: string;
  /** Where clients see the project. */
  publicUrl: string;
  /** A key of the project, for the gateway; rights come from the user's token. */
  apiKey: string;
  /** The key that clients are shown; null when `apiKey` is a secret. */
  publicKey: string | null;
  timeoutMs?: number;
}

const TIMEOUT_MS = 5_000;

/** Realtime of the project, over its WebSocket. */
export function createRealtimeService(options: RealtimeServiceOptions): RealtimeService {
  const address = (projectUrl: string, apikey: string | null): string => {
    const url = new URL(`${projectUrl.replace(/^http/, "ws")}/realtime/v1/websocket`);
    url.search = new URLSearchParams({ ...(apikey !== null && { apikey }), vsn: "1.0.0" })
      .toString();
    return url.toString();
  };

  return {
    url: address(options.publicUrl, options.publicKey),
    tryJoin(message) {
      return new Promise((resolve) => {
        const socket = new WebSocket(address(options.projectUrl, options.apiKey));
        const end = (result: JoinResult) => {
          clearTimeout(timer);
          socket.onopen =
            socket.onmessage =
            socket.onerror =
            socket.onclose =
              null;
          socket.close();
          resolve(result);
        };
        const timer = setTimeout(() => end("unreachable"), options.timeoutMs ?? TIMEOUT_MS);
        socket.onopen = () => socket.send(JSON.stringify(message));
        socket.onmessage = ({ data }) => {
          const reply = readReply(data);
          if (reply !== null) end(reply);
        };
        socket.onerror = socket.onclose = () => end("unreachable");
      });
    },
  };
}

/** What the answer to the join says; null for any other message. */
function readReply(data: unknown): JoinResult | null {
  try {
    const { event, payload } = JSON.parse(String(data));
    if (event !== "phx_reply") return null;
    if (payload.status === "ok") return "joined";
    return String(payload.response?.reason).startsWith("ConnectionRateLimitReached")
      ? "too_many_connections"
      : "refused";
  } catch {
    return null;
  }
}
