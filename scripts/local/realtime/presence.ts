/** Who is there in a topic and what they say of themselves: Phoenix Presence, as clients know it. */

/** What a channel tracks itself with. */
export interface Presence {
  key: string;
  /** As the client gave it. */
  payload: Record<string, unknown>;
}

interface Meta extends Record<string, unknown> {
  phx_ref: string;
}

/** Payload of `presence_state`, and each half of a `presence_diff`. */
type Group = Record<string, { metas: Meta[] }>;

export interface Presences {
  /** Everybody in a topic as JSON text: payload of `presence_state`. */
  state(room: string): string;
  /**
   * @param tracker the channel; it has at most one presence
   * @returns payload of the `presence_diff` as JSON text; null when nothing changed
   */
  track(room: string, tracker: object, presence: Presence): string | null;
  untrack(room: string, tracker: object): string | null;
}

export function createPresences(): Presences {
  const rooms = new Map<string, Map<object, { key: string; meta: Meta; payload: string }>>();
  let refs = 0;
  const epoch = Math.floor(Math.random() * 2 ** 32).toString(36);
  const group = (entries: Iterable<{ key: string; meta: Meta }>): Group => {
    // A key such as __proto__ is a client's to choose.
    const grouped: Group = Object.create(null);
    for (const { key, meta } of entries) (grouped[key] ??= { metas: [] }).metas.push(meta);
    return grouped;
  };
  const diff = (joins: { key: string; meta: Meta }[], leaves: { key: string; meta: Meta }[]) =>
    JSON.stringify({ joins: group(joins), leaves: group(leaves) });

  return {
    state: (room) => JSON.stringify(group(rooms.get(room)?.values() ?? [])),
    track(room, tracker, { key, payload }) {
      const present = rooms.get(room) ?? new Map();
      const before = present.get(tracker);
      const text = JSON.stringify(payload);
      if (before?.payload === text) return null;
      const meta: Meta = {
        ...payload,
        phx_ref: `${epoch}${(++refs).toString(36)}`,
        ...(before && { phx_ref_prev: before.meta.phx_ref }),
      };
      const entry = { key, meta, payload: text };
      rooms.set(room, present.set(tracker, entry));
      return diff([entry], before === undefined ? [] : [before]);
    },
    untrack(room, tracker) {
      const present = rooms.get(room);
      const entry = present?.get(tracker);
      if (present === undefined || entry === undefined) return null;
      present.delete(tracker);
      if (present.size === 0) rooms.delete(room);
      return diff([], [entry]);
    },
  };
}
