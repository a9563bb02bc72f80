import { askRealtime, realtimeUrl } from "../realtime/ask.ts";
import type { Finding } from "./services.ts";

const HEARTBEAT = { topic: "phoenix", event: "heartbeat", payload: {}, ref: "1" };

/**
 * Opens a WebSocket and waits for the answer to a heartbeat: what a client does first, so a Realtime
 * that accepts connections and then says nothing is found out too.
 */
export async function probeRealtime(
  projectUrl: string,
  apiKey: string,
  signal: AbortSignal,
): Promise<Finding> {
  const reply = await askRealtime(realtimeUrl(projectUrl, apiKey), HEARTBEAT, signal);
  return { is: reply?.isOk ? "working" : "failing" };
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
