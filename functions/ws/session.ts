import { ApiError, type ErrorCode } from "../../shared/contract/errors.ts";
import type { TokenVerifier } from "../../shared/http/tokens.ts";
import type { Feed, OpenFeed } from "./feed.ts";
import type { Slot, Slots } from "./slots.ts";
import { type ClientMessage, LATER_TOPICS, readMessage, TOPICS } from "./messages.ts";

/** What a session needs of a WebSocket. */
export interface Client {
  send(message: Record<string, unknown>): void;
  close(code: number, reason: string): void;
}

export interface SessionOptions {
  verifyToken: TokenVerifier;
  openFeed: OpenFeed;
  /** The connections a user may have at a time. */
  slots: Pick<Slots, "take">;
  /** Of the query string, or null. */
  token: string | null;
  limits?: Partial<SessionLimits>;
  /** Milliseconds since 1970. */
  now?: () => number;
  log(entry: Record<string, unknown>): void;
}

export interface SessionLimits {
  /** From the connection to the first valid token. */
  authenticateMs: number;
  /** Without a word of a client that follows nothing; of others the protocol's own pings tell whether they live. */
  idleMs: number;
  messageBytes: number;
  messagesPerMinute: number;
  subscriptions: number;
}

export const DEFAULT_LIMITS: SessionLimits = {
  authenticateMs: 10_000,
  idleMs: 120_000,
  messageBytes: 16_384,
  messagesPerMinute: 120,
  subscriptions: 20,
};

/** Close codes 4000 and up are the application's. */
const CLOSE = { unauthenticated: 4401, tooMany: 4429, idle: 4408, tooLarge: 1009, failed: 1011 };

export interface Session {
  receive(data: unknown): void;
  /** The WebSocket is gone. */
  end(): void;
}

/**
 * One client of the event stream of seeds 000 and 004: knows who it is, follows what it asks for, and
 * answers every message. Messages are handled one after the other.
 */
export function createSession(client: Client, options: SessionOptions): Session {
  const limits = { ...DEFAULT_LIMITS, ...options.limits };
  const now = options.now ?? Date.now;
  let feed: Feed | null = null;
  let slot: Slot | null = null;
  let userId: string | null = null;
  let ended = false;
  let work: Promise<void> = Promise.resolve();
  const followed = new Set<string>();
  const recent: number[] = [];
  let expiry: ReturnType<typeof setTimeout> | undefined;
  let idle: ReturnType<typeof setTimeout> | undefined;

  const fail = (code: ErrorCode, message: string, details?: Record<string, unknown>) =>
    client.send({
      type: "error",
      code,
      message,
      ...(details && { details }),
      timestamp: new Date(now()).toISOString(),
    });
  const leave = (code: number, reason: string) => {
    if (ended) return;
    end();
    client.close(code, reason);
  };
  const waitForWords = () => {
    clearTimeout(idle);
    if (followed.size > 0) return;
    idle = setTimeout(() => leave(CLOSE.idle, "idle"), limits.idleMs);
  };
  const authenticateInTime = setTimeout(() => {
    if (userId !== null) return;
    fail("AUTHENTICATION_FAILED", "No valid token arrived in time");
    leave(CLOSE.unauthenticated, "unauthenticated");
  }, limits.authenticateMs);

  async function authenticate(token: string): Promise<void> {
    const verified = await options.verifyToken(token);
    if (ended) return;
    if (userId !== null && verified.userId !== userId) {
      throw new ApiError("INVALID_JWT_TOKEN", "The token belongs to another user");
    }
    const first = userId === null;
    if (first && !await takeSlot(verified.userId)) return;
    userId = verified.userId;
    clearTimeout(authenticateInTime);
    clearTimeout(expiry);
    expiry = setTimeout(() => {
      fail("INVALID_JWT_TOKEN", "The token has expired");
      leave(CLOSE.unauthenticated, "token expired");
    }, Math.min(verified.expiresAt - now(), 2 ** 31 - 1));
    if (feed !== null) return await feed.renew(token);
    feed = options.openFeed(token, {
      onEvent: (message) => client.send({ ...message }),
      onEnd(reason) {
        fail("REAL_TIME_SUBSCRIPTION_FAILED", reason);
        leave(CLOSE.failed, "the event stream ended");
      },
    });
    if (first) client.send({ type: "authenticated", user_id: userId });
  }

  /** Whether the user may have this connection, too. */
  async function takeSlot(user: string): Promise<boolean> {
    let taken: Slot | number;
    try {
      taken = await options.slots.take(user);
    } catch (error) {
      throw new ApiError("SUPABASE_CONNECTION_ERROR", "The connection could not be counted", {
        cause: error,
      });
    }
    if (typeof taken === "number") {
      fail("RATE_LIMIT_EXCEEDED", "Too many connections", {
        limit_type: "real_time_connections",
        limit: taken,
      });
      leave(CLOSE.tooMany, "too many connections");
      return false;
    }
    slot = taken;
    if (ended) slot.release();
    return !ended;
  }

  async function subscribe(
    message: Extract<ClientMessage, { type: "subscribe" | "unsubscribe" }>,
  ): Promise<void> {
    const asked = (message.channel ?? message.event)!;
    const topic = TOPICS.find((name) => name === asked);
    // A name that is none of ours may be one of an agent's.
    const own =
      topic === undefined && message.channel !== undefined && message.agent_id !== undefined
        ? { agentId: message.agent_id, channel: message.channel }
        : null;
    if (topic === undefined && own === null) return unknownTopic(asked);
    const name = message.channel === undefined ? { event: asked } : { channel: asked };
    const scope = message.agent_id === undefined ? {} : { agent_id: message.agent_id };
    const key = `${asked} ${message.agent_id ?? ""}`;
    if (message.type === "unsubscribe") {
      followed.delete(key);
      waitForWords();
      await (own === null ? feed!.unfollow(topic!, message.agent_id) : feed!.unfollowChannel(own));
      return client.send({ type: "unsubscribed", ...name, ...scope });
    }
    if (!followed.has(key) && followed.size >= limits.subscriptions) {
      return fail("RESOURCE_LIMIT_EXCEEDED", "Too many subscriptions", {
        limit: limits.subscriptions,
      });
    }
    await follow(
      asked,
      () => own === null ? feed!.follow(topic!, message.agent_id) : feed!.followChannel(own),
    );
    followed.add(key);
    waitForWords();
    client.send({ type: "subscribed", ...name, ...scope });
  }

  async function follow(topic: string, work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      options.log({
        level: "warn",
        message: "A subscription failed",
        topic,
        reason: error instanceof Error ? error.message : String(error),
      });
      throw new ApiError("REAL_TIME_SUBSCRIPTION_FAILED", "The subscription failed", {
        details: { topic },
        cause: error,
      });
    }
  }

  function unknownTopic(asked: string): void {
    const message = LATER_TOPICS.includes(asked)
      ? `Event ${asked} has no source yet`
      : `Unknown channel or event ${JSON.stringify(asked)}`;
    fail("VALIDATION_ERROR", message, {
      available: [...TOPICS],
      hint: "A channel of an agent needs agent_id beside its name.",
    });
  }

  async function handle(text: string): Promise<void> {
    if (ended) return;
    const message = readMessage(text);
    if (typeof message === "string") return fail("VALIDATION_ERROR", message);
    if (message.type === "ping") {
      return client.send({ type: "pong", timestamp: new Date(now()).toISOString() });
    }
    try {
      if (message.token !== undefined) await authenticate(message.token);
      if (ended) return;
      if (feed === null) {
        fail("AUTHENTICATION_FAILED", "Send a token first");
        return leave(CLOSE.unauthenticated, "unauthenticated");
      }
      if (message.type === "auth") return;
      await subscribe(message);
    } catch (error) {
      refuse(error);
    }
  }

  function refuse(error: unknown): void {
    if (ended) return;
    if (!(error instanceof ApiError)) {
      options.log({ level: "error", message: "A message failed", reason: String(error) });
      fail("INTERNAL_ERROR", "The message could not be handled");
      return;
    }
    fail(error.code, error.message, error.details as Record<string, unknown> | undefined);
    if (error.code === "INVALID_JWT_TOKEN") leave(CLOSE.unauthenticated, "unauthenticated");
    if (error.code === "SUPABASE_CONNECTION_ERROR") leave(CLOSE.failed, "try again later");
  }

  function end(): void {
    if (ended) return;
    ended = true;
    for (const timer of [authenticateInTime, expiry, idle]) clearTimeout(timer);
    slot?.release();
    feed?.close().catch((error) => {
      options.log({ level: "warn", message: "A feed did not close", reason: String(error) });
    });
  }

  waitForWords();
  if (options.token !== null) work = authenticate(options.token).catch(refuse);

  return {
    receive(data) {
      if (ended) return;
      waitForWords();
      if (typeof data !== "string") return fail("VALIDATION_ERROR", "Messages are JSON text");
      if (data.length > limits.messageBytes) {
        fail("PAYLOAD_TOO_LARGE", "The message is too large");
        return leave(CLOSE.tooLarge, "message too large");
      }
      const minuteAgo = now() - 60_000;
      while (recent.length > 0 && recent[0]! < minuteAgo) recent.shift();
      if (recent.push(now()) > limits.messagesPerMinute) {
        fail("RATE_LIMIT_EXCEEDED", "Too many messages");
        return leave(CLOSE.tooMany, "too many messages");
      }
      work = work.then(() => handle(data));
    },
    end,
  };
}
