/** Who acts in the demo: somebody who signed up, with supabase-js and with plain requests to /api. */
import { createClient, type SupabaseClient } from "@supabase/supabase-js";
import { DemoError, progress, say } from "./stage.ts";

export interface Stack {
  apiUrl: string;
  publishableKey: string;
  portainerUrl?: string;
  portainerApiKey?: string;
}

export interface Actor {
  client: SupabaseClient;
  email: string;
  token: string;
  /** Sends a request to /api and gives the body of its answer; any status but 2xx ends the demo. */
  api(method: string, path: string, options?: ApiOptions): Promise<unknown>;
  open(path: string, headers?: Record<string, string>): Promise<Response>;
}

export interface ApiOptions {
  body?: unknown;
  edition?: 1 | 2 | 3;
  /** Used in place of the token. */
  apiKey?: string;
}

export async function signUp(stack: Stack, name: string): Promise<Actor> {
  const client = createClient(stack.apiUrl, stack.publishableKey, {
    auth: { persistSession: false, autoRefreshToken: false },
  });
  const email = `${name}-${crypto.randomUUID().slice(0, 8)}@example.com`;
  const { data, error } = await client.auth.signUp({ email, password: crypto.randomUUID() });
  if (error || !data.session) {
    throw new DemoError(`Signing up failed: ${error?.message ?? "there is no session"}`);
  }
  const token = data.session.access_token;
  await client.realtime.setAuth(token);
  say(`signed up as ${email}`);

  const headers = (options: ApiOptions): Record<string, string> => ({
    "Content-Type": "application/json",
    ...(options.edition ? { "API-Version": String(options.edition) } : {}),
    ...(options.apiKey
      ? { "X-API-Key": options.apiKey }
      : { Authorization: `Bearer ${token}`, apikey: stack.publishableKey }),
  });
  return {
    client,
    email,
    token,
    async api(method, path, options = {}) {
      say(`${method} ${path}`);
      const response = await fetch(stack.apiUrl + path, {
        method,
        headers: headers(options),
        body: options.body === undefined ? undefined : JSON.stringify(options.body),
      });
      const answer = await response.json();
      if (!response.ok) {
        throw new DemoError(`${method} ${path} → ${response.status} ${JSON.stringify(answer)}`);
      }
      return answer;
    },
    open: (path, more = {}) => fetch(stack.apiUrl + path, { headers: { ...headers({}), ...more } }),
  };
}

interface OperationRow {
  id: string;
  kind: string;
  state: string;
  progress: number;
  error: { code: string; message: string } | null;
  steps: { name: string; status: string }[];
}

/**
 * Follows the operations of an agent over Realtime, with a progress bar, until the last one has
 * succeeded.
 */
export async function followOperation(actor: Actor, agentId: string, label: string): Promise<void> {
  const bar = progress(label);
  let settle: (outcome: Error | null) => void;
  const settled = new Promise<Error | null>((resolve) => settle = resolve);
  const see = (row: OperationRow) => {
    const step = row.steps.find((one) => one.status === "in_progress")?.name ?? row.state;
    bar(row.progress, row.state === "succeeded" ? "" : step);
    if (row.state === "succeeded") settle(null);
    if (row.state === "failed" || row.state === "cancelled") {
      settle(new DemoError(`${row.kind} ${row.state}: ${row.error?.code} ${row.error?.message}`));
    }
  };
  const channel = actor.client.channel(`demo-${agentId}-${crypto.randomUUID()}`).on(
    "postgres_changes",
    { event: "*", schema: "public", table: "operations", filter: `agent_id=eq.${agentId}` },
    (change) => see(change.new as OperationRow),
  );
  const timer = setTimeout(
    () => settle(new DemoError(`${label} took over five minutes.`)),
    300_000,
  );
  channel.subscribe(async (status) => {
    if (status === "CHANNEL_ERROR") settle(new DemoError("The Realtime channel was refused."));
    if (status !== "SUBSCRIBED") return;
    // What happened before the subscription stood.
    const { data } = await actor.client.from("operations").select().eq("agent_id", agentId)
      .order("created_at", { ascending: false }).limit(1);
    if (data?.[0]) see(data[0] as OperationRow);
  });
  const outcome = await settled;
  clearTimeout(timer);
  await actor.client.removeChannel(channel);
  if (outcome) throw outcome;
}
