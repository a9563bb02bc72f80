import { askRealtime, type PhoenixMessage, realtimeUrl } from "../../shared/realtime/ask.ts";

/** What a client sends as JSON to join a channel. */
export interface JoinMessage extends PhoenixMessage {
  event: "phx_join";
  payload: { config: Record<string, unknown>; access_token: string };
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
  const { projectUrl, publicUrl, apiKey, publicKey, timeoutMs = TIMEOUT_MS } = options;
  return {
    url: realtimeUrl(publicUrl, publicKey),
    async tryJoin(message) {
      const signal = AbortSignal.timeout(timeoutMs);
      const reply = await askRealtime(realtimeUrl(projectUrl, apiKey), message, signal);
      if (reply === null) return "unreachable";
      if (reply.isOk) return "joined";
      return reply.reason?.startsWith("ConnectionRateLimitReached")
        ? "too_many_connections"
        : "refused";
    },
  };
}
