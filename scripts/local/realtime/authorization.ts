import type { Sql } from "postgres";
import type { TokenClaims } from "../keys.ts";

/** What the policies on realtime.messages let somebody do on one topic. */
export interface Permissions {
  broadcast: Access;
  /** Null when it was not asked: nobody there wants presence. */
  presence: Access | null;
}

export interface Access {
  read: boolean;
  write: boolean;
}

export interface TopicCaller {
  topic: string;
  claims: TokenClaims;
  /** For policies that read `request.headers`. */
  headers: Record<string, string>;
}

/**
 * Asks the policies on `realtime.messages` as the caller, `realtime.topic()` being the topic. Reading
 * means that a row of the topic could be selected, writing that one could be inserted.
 *
 * @returns the permissions, and why a policy failed when it did: it then permits nothing
 */
export async function askPermissions(
  sql: Sql,
  { topic, claims, headers }: TopicCaller,
  { presence }: { presence: boolean },
): Promise<{ permissions: Permissions; failure: string | null }> {
  const rows = await sql<
    { extension: "broadcast" | "presence"; read: boolean; write: boolean; failure: string | null }[]
  >`
    select extension, can_read as read, can_write as write, failure
    from _realtime.authorize(
      ${topic}, ${claims.role}, ${JSON.stringify(claims)}, ${JSON.stringify(headers)},
      ${presence ? ["broadcast", "presence"] : ["broadcast"]}::text[]
    )`;
  const of = (extension: string) => {
    const { read, write } = rows.find((row) => row.extension === extension)!;
    return { read, write };
  };
  return {
    permissions: {
      broadcast: of("broadcast"),
      presence: presence ? of("presence") : null,
    },
    failure: rows.find(({ failure }) => failure !== null)?.failure ?? null,
  };
}
