/** What a client asks for when it joins a channel. */
export interface JoinConfig {
  isPrivate: boolean;
  broadcast: { self: boolean; ack: boolean; replicationReady: boolean; replay: Replay | null };
  presence: { enabled: boolean; key: string };
  /** Null for an old client without `config`, whose topic is `schema:table:filter`. */
  changes: Record<string, unknown>[] | null;
  accessToken: string | null;
}

export interface Replay {
  /** Milliseconds since 1970. */
  since: number;
  limit: number;
}

const MOST_REPLAYED = 25;

/** Reads the payload of `phx_join`. What cannot be read counts as not given, as in Realtime. */
export function readJoin(payload: unknown): JoinConfig {
  const join = object(payload);
  const config = object(join.config);
  const broadcast = object(config.broadcast);
  const presence = object(config.presence);
  const changes = Array.isArray(config.postgres_changes) ? config.postgres_changes : [];
  return {
    isPrivate: flag(config.private),
    broadcast: {
      self: flag(broadcast.self),
      ack: flag(broadcast.ack),
      replicationReady: flag(broadcast.replication_ready),
      replay: broadcast.replay === undefined ? null : readReplay(object(broadcast.replay)),
    },
    presence: {
      enabled: flag(presence.enabled),
      key: string(presence.key) ??
        (typeof presence.key === "number" ? String(presence.key) : crypto.randomUUID()),
    },
    changes: join.config === undefined
      ? null
      : changes.filter((change) => change !== null && typeof change === "object"),
    accessToken: string(join.access_token) ?? string(join.user_token),
  };
}

/** The binding that an old client's topic stands for. */
export function bindingOfTopic(topic: string): Record<string, unknown> {
  const [schema, table, ...filter] = topic.split(":");
  return {
    schema,
    ...(table !== undefined && { table }),
    ...(filter.length > 0 && { filter: filter.join(":") }),
  };
}

function readReplay(replay: Record<string, unknown>): Replay {
  const limit = Number.isInteger(replay.limit) ? replay.limit as number : MOST_REPLAYED;
  return {
    since: Number.isInteger(replay.since) ? replay.since as number : NaN,
    limit: Math.max(1, Math.min(limit, MOST_REPLAYED)),
  };
}

function object(value: unknown): Record<string, unknown> {
  return value !== null && typeof value === "object" && !Array.isArray(value)
    ? value as Record<string, unknown>
    : {};
}

function string(value: unknown): string | null {
  return typeof value === "string" && value !== "" ? value : null;
}

/** Clients send booleans, and some send them as words. */
function flag(value: unknown): boolean {
  return value === true || (typeof value === "string" && value.toLowerCase() === "true");
}
