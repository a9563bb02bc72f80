import type { Sql } from "postgres";
import type { Replay } from "./join.ts";

export interface ReplayedMessage {
  id: string;
  /** Payload of a `broadcast` event as JSON text. */
  payload: string;
}

/** The last broadcasts of a private topic since a moment, oldest first. */
export async function loadReplay(
  sql: Sql,
  topic: string,
  { since, limit }: Replay,
): Promise<ReplayedMessage[]> {
  const rows = await sql<ReplayedMessage[]>`
    select id, jsonb_build_object(
      'type', 'broadcast', 'event', event, 'payload', payload,
      'meta', jsonb_build_object('id', id, 'replayed', true)
    )::text as payload
    from realtime.messages
    where topic = ${topic} and private is true and extension = 'broadcast'
      and payload is not null
      and inserted_at >= to_timestamp(${since / 1000}::float8) at time zone 'utc'
      and inserted_at < (now() at time zone 'utc') + interval '1 minute'
    order by inserted_at desc
    limit ${limit}`;
  return rows.reverse();
}
