import type { RealtimeChannel, SupabaseClient } from "@supabase/supabase-js";
import { expect } from "vitest";
import { PATIENCE } from "../../support/until.ts";

/** What a channel has received so far. */
export interface Heard {
  channel: RealtimeChannel;
  // deno-lint-ignore no-explicit-any -- payloads of many shapes, looked into by tests
  changes: any[];
  // deno-lint-ignore no-explicit-any
  broadcasts: any[];
  system: { extension: string; status: string; message: string; channel: string }[];
  statuses: { status: string; message: string | undefined }[];
}

interface ListenOptions {
  topic?: string;
  changes?: Record<string, unknown>[];
  config?: Record<string, unknown>;
  /** Wait until the server says that changes are followed. Default: when changes are asked for. */
  wait?: "subscribed" | "answered";
}

let topics = 0;

/** Joins a channel, listens to all that `options` names, and waits until it stands. */
export async function listen(client: SupabaseClient, options: ListenOptions = {}): Promise<Heard> {
  // As the documentation of private channels asks: else the join may go out before the token is there.
  await client.realtime.setAuth();
  const channel = client.channel(options.topic ?? `test-${++topics}`, {
    config: options.config ?? {},
  });
  const heard: Heard = { channel, changes: [], broadcasts: [], system: [], statuses: [] };
  for (const filter of options.changes ?? []) {
    channel.on(
      "postgres_changes" as never,
      filter as never,
      (payload: unknown) => heard.changes.push(payload),
    );
  }
  channel.on("broadcast", { event: "*" }, (payload) => heard.broadcasts.push(payload));
  channel.on("system" as never, {} as never, (payload: unknown) => {
    heard.system.push(payload as Heard["system"][number]);
  });
  channel.subscribe((status, error) => heard.statuses.push({ status, message: error?.message }));
  if (options.wait === "answered") {
    await expect.poll(() => heard.statuses.length, POLL).toBeGreaterThan(0);
  } else await expect.poll(() => heard.statuses.at(-1)?.status, POLL).toBe("SUBSCRIBED");
  if (options.changes && options.wait !== "answered") {
    await expect.poll(() => heard.system.at(-1)?.message, POLL).toBe("Subscribed to PostgreSQL");
  }
  return heard;
}

/** How long a condition may take on a busy machine. */
export const POLL = { ...PATIENCE, interval: 20 };
