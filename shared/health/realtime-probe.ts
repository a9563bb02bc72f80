import type { Finding } from "./services.ts";

const HEARTBEAT = JSON.stringify({ topic: "phoenix", event: "heartbeat", payload: {}, ref: "1" });

/**
 * Opens a WebSocket and waits for the answer to a heartbeat: what a client does first, so a Realtime
 * that accepts connections and then says nothing is found out too.
 */
export function probeRealtime(
  projectUrl: string,
  apiKey: string,
  signal: AbortSignal,
): Promise<Finding> {
  const url = new URL(`${projectUrl.replace(/^http/, "ws")}/realtime/v1/websocket`);
  url.search = new URLSearchParams({ apikey: apiKey, vsn: "1.0.0" }).toString();
  return new Promise((resolve) => {
    const socket = new WebSocket(url);
    const end = (finding: Finding) => {
      signal.removeEventListener("abort", giveUp);
      // Closing a connection that was never open is an error of its own.
      socket.onopen =
        socket.onmessage =
        socket.onerror =
        socket.onclose =
          null;
      socket.close();
      resolve(finding);
    };
    const giveUp = () => end({ is: "failing" });
    signal.addEventListener("abort", giveUp);
    socket.onopen = () => socket.send(HEARTBEAT);
    socket.onmessage = ({ data }) => {
      const answered = typeof data === "string" && data.includes('"phx_reply"') &&
        data.includes('"ok"');
      end({ is: answered ? "working" : "failing" });
    };
    socket.onerror = giveUp;
    socket.onclose = giveUp;
  });
}

const COUNT_TIMEOUT_MS = 500;

/**
 * How many clients have joined a channel, as Realtime says of its tenant. The hosted platform keeps
 * this route to itself: then it is null, as it is when the answer is none.
 */
export async function countRealtimeConnections(
  projectUrl: string,
  secretKey: string,
  send: typeof fetch,
): Promise<number | null> {
  const tenant = /^https:\/\/([a-z]{20})\.supabase\.co$/.exec(projectUrl)?.[1] ?? "realtime-dev";
  try {
    const response = await send(`${projectUrl}/realtime/v1/api/tenants/${tenant}/health`, {
      headers: { apikey: secretKey },
      signal: AbortSignal.timeout(COUNT_TIMEOUT_MS),
    });
    const body = response.ok ? await response.json() : await response.body?.cancel();
    const connected = body?.data?.connected_cluster;
    return Number.isInteger(connected) && connected >= 0 ? connected : null;
  } catch {
    return null;
  }
}
