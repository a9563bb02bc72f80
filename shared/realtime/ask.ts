/** A message of Phoenix's protocol, version 1.0.0. */
export interface PhoenixMessage {
  topic: string;
  event: string;
  payload: Record<string, unknown>;
  ref: string;
  join_ref?: string;
}

/** What Realtime answers to a message. */
export interface Reply {
  isOk: boolean;
  /** Why not; null when it does not say. */
  reason: string | null;
}

/** Where clients of a project connect to Realtime; without a key they have to add their own. */
export function realtimeUrl(projectUrl: string, apikey: string | null): string {
  const url = new URL(`${projectUrl.replace(/^http/, "ws")}/realtime/v1/websocket`);
  url.search = new URLSearchParams({ ...(apikey !== null && { apikey }), vsn: "1.0.0" }).toString();
  return url.toString();
}

/** Connects, sends one message and leaves with the reply to it; null when none came before `signal`. */
export function askRealtime(
  url: string,
  message: PhoenixMessage,
  signal: AbortSignal,
): Promise<Reply | null> {
  return new Promise((resolve) => {
    const socket = new WebSocket(url);
    const end = (reply: Reply | null) => {
      signal.removeEventListener("abort", giveUp);
      // Closing a connection that was never open is an error of its own.
      socket.onopen =
        socket.onmessage =
        socket.onerror =
        socket.onclose =
          null;
      socket.close();
      resolve(reply);
    };
    const giveUp = () => end(null);
    signal.addEventListener("abort", giveUp);
    if (signal.aborted) return giveUp();
    socket.onopen = () => socket.send(JSON.stringify(message));
    socket.onmessage = ({ data }) => {
      const reply = readReply(data);
      if (reply !== null) end(reply);
    };
    socket.onerror = giveUp;
    socket.onclose = giveUp;
  });
}

function readReply(data: unknown): Reply | null {
  try {
    const { event, payload } = JSON.parse(String(data));
    if (event !== "phx_reply") return null;
    const reason: unknown = payload.response?.reason;
    return { isOk: payload.status === "ok", reason: typeof reason === "string" ? reason : null };
  } catch {
    return null;
  }
}
