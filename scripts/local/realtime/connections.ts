/** Counts the open connections of each user. */
export interface Connections {
  /**
   * Whether one more is allowed; the connection counts until it is released.
   * @param user null for one that belongs to nobody, which is always allowed
   */
  admit(connection: object, user: string | null): Promise<boolean>;
  /** Whether the user has room for one more. */
  hasRoom(user: string): Promise<boolean>;
  release(connection: object): void;
  /** Connections that joined a channel, as Realtime counts clients. */
  readonly size: number;
}

/** How long a changed limit may take to hold. */
const BELIEVED_MS = 2_000;

/**
 * The platform has one such limit for a whole project, this application one for each user: refused in
 * the platform's words.
 *
 * @param readLimit the limit as it is now; asked at most every two seconds
 */
export function createConnections(readLimit: () => Promise<number>): Connections {
  const users = new Map<string, Set<object>>();
  const names = new Map<object, Set<string>>();
  let limit: Promise<number> | undefined;
  let until = 0;

  function currentLimit(): Promise<number> {
    if (limit === undefined || Date.now() > until) {
      until = Date.now() + BELIEVED_MS;
      limit = readLimit();
      limit.catch(() => until = 0);
    }
    return limit;
  }

  return {
    async admit(connection, user) {
      const most = await currentLimit();
      const open: Set<object> = user === null ? new Set() : users.get(user) ?? new Set();
      if (!open.has(connection) && open.size >= most) return false;
      const mine = names.get(connection) ?? new Set();
      names.set(connection, mine);
      if (user === null) return true;
      users.set(user, open.add(connection));
      mine.add(user);
      return true;
    },
    async hasRoom(user) {
      return (users.get(user)?.size ?? 0) < await currentLimit();
    },
    release(connection) {
      for (const user of names.get(connection) ?? []) {
        const open = users.get(user);
        open?.delete(connection);
        if (open?.size === 0) users.delete(user);
      }
      names.delete(connection);
    },
    get size() {
      return names.size;
    },
  };
}
