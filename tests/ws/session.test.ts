import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import type { EventMessage } from "../../functions/ws/events.ts";
import type { Feed, FeedEvents } from "../../functions/ws/feed.ts";
import { createSession, type Session, type SessionLimits } from "../../functions/ws/session.ts";
import { ApiError } from "../../shared/contract/errors.ts";

const ALICE = "00000000-0000-4000-8000-00000000000a";
const BOB = "00000000-0000-4000-8000-00000000000b";

interface Bench {
  session: Session;
  sent: Record<string, unknown>[];
  closed: { code: number; reason: string }[];
  followed: string[];
  renewed: string[];
  slotsLeft: () => number;
  feedClosed: () => boolean;
  emit(message: EventMessage): void;
  end(reason: string): void;
  say(message: unknown): Promise<void>;
}

/** A session whose tokens are `alice`, `bob` and `short`, and whose Realtime is in the test's hands. */
function open({ token = null, limits = {}, refuse = false, slots = 100 }: {
  token?: string | null;
  limits?: Partial<SessionLimits>;
  refuse?: boolean;
  /** Connections left to the user; null when they cannot be counted. */
  slots?: number | null;
} = {}): Bench {
  const sent: Record<string, unknown>[] = [];
  const closed: { code: number; reason: string }[] = [];
  const followed: string[] = [];
  const renewed: string[] = [];
  let feedClosed = false;
  let slotsLeft = slots ?? 0;
  let events: FeedEvents | undefined;
  const session = createSession({
    send: (message) => sent.push(message),
    close: (code, reason) => closed.push({ code, reason }),
  }, {
    token,
    limits,
    log: () => {},
    slots: {
      take() {
        if (slots === null) return Promise.reject(new Error("secret words of Postgres"));
        if (slotsLeft === 0) return Promise.resolve(100);
        slotsLeft--;
        return Promise.resolve({ release: () => void slotsLeft++ });
      },
    },
    verifyToken(token) {
      const userId = { alice: ALICE, "alice again": ALICE, short: ALICE, bob: BOB }[token];
      if (!userId) {
        throw new ApiError("INVALID_JWT_TOKEN", "The bearer token is invalid or expired");
      }
      const life = token === "short" ? 5_000 : 3_600_000;
      return Promise.resolve({ userId, claims: {}, expiresAt: Date.now() + life });
    },
    openFeed(_token, given): Feed {
      events = given;
      return {
        follow(topic, agentId) {
          if (refuse) return Promise.reject(new Error("secret words of an upstream"));
          followed.push(`${topic} ${agentId ?? "all"}`);
          return Promise.resolve();
        },
        unfollow: () => Promise.resolve(true),
        followChannel({ agentId, channel }) {
          if (refuse) return Promise.reject(new Error("secret words of an upstream"));
          followed.push(`agent ${agentId} ${channel}`);
          return Promise.resolve();
        },
        unfollowChannel: ({ agentId, channel }) => {
          followed.splice(followed.indexOf(`agent ${agentId} ${channel}`), 1);
          return Promise.resolve();
        },
        renew: (token) => Promise.resolve(void renewed.push(token)),
        close: () => Promise.resolve(void (feedClosed = true)),
      };
    },
  });
  return {
    session,
    sent,
    closed,
    followed,
    renewed,
    slotsLeft: () => slotsLeft,
    feedClosed: () => feedClosed,
    emit: (message) => events!.onEvent(message),
    end: (reason) => events!.onEnd(reason),
    async say(message) {
      session.receive(typeof message === "string" ? message : JSON.stringify(message));
      await vi.advanceTimersByTimeAsync(1);
    },
  };
}

const types = (bench: Bench) => bench.sent.map(({ type }) => type);

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

describe("a token", () => {
  test("in the first message is enough to subscribe, as in seed 000", async () => {
    const bench = open();
    await bench.say({ type: "subscribe", channel: "agent_status", token: "alice" });
    expect(bench.sent).toEqual([
      { type: "authenticated", user_id: ALICE },
      { type: "subscribed", channel: "agent_status" },
    ]);
    expect(bench.followed).toEqual(["agent_status all"]);
  });

  test("in the query is enough to subscribe, as in seed 004", async () => {
    const bench = open({ token: "alice" });
    await bench.say({ type: "subscribe", event: "agent.status" });
    expect(types(bench)).toEqual(["authenticated", "subscribed"]);
  });

  test.each([
    ["in the query", { token: "garbage" }, { type: "ping" }],
    ["in a message", {}, { type: "subscribe", channel: "agent_status", token: "garbage" }],
  ])(
    "that is invalid %s ends the connection with the documented code",
    async (_, options, message) => {
      const bench = open(options);
      await bench.say(message);
      expect(bench.sent).toContainEqual(
        expect.objectContaining({ type: "error", code: "INVALID_JWT_TOKEN" }),
      );
      expect(bench.closed).toEqual([{ code: 4401, reason: "unauthenticated" }]);
    },
  );

  test("that is missing ends the connection at the first subscription", async () => {
    const bench = open();
    await bench.say({ type: "subscribe", channel: "agent_status" });
    expect(bench.sent).toMatchObject([{ type: "error", code: "AUTHENTICATION_FAILED" }]);
    expect(bench.closed).toMatchObject([{ code: 4401 }]);
    expect(bench.followed).toEqual([]);
  });

  test("must arrive in time", async () => {
    const bench = open();
    await vi.advanceTimersByTimeAsync(10_000);
    expect(bench.sent).toMatchObject([{ type: "error", code: "AUTHENTICATION_FAILED" }]);
    expect(bench.closed).toMatchObject([{ code: 4401 }]);
  });

  test("that expires ends the connection", async () => {
    const bench = open({ token: "short" });
    await vi.advanceTimersByTimeAsync(5_000);
    expect(bench.sent.at(-1)).toMatchObject({ type: "error", code: "INVALID_JWT_TOKEN" });
    expect(bench.closed).toMatchObject([{ code: 4401 }]);
    expect(bench.feedClosed()).toBe(true);
  });

  test("can be renewed before it expires", async () => {
    const bench = open({ token: "short" });
    await bench.say({ type: "auth", token: "alice again" });
    await vi.advanceTimersByTimeAsync(10_000);
    expect(bench.closed).toEqual([]);
    expect(bench.renewed).toEqual(["alice again"]);
  });

  test("of somebody else does not take a connection over", async () => {
    const bench = open({ token: "alice" });
    await bench.say({ type: "auth", token: "bob" });
    expect(bench.sent.at(-1)).toMatchObject({ type: "error", code: "INVALID_JWT_TOKEN" });
    expect(bench.renewed).toEqual([]);
  });
});

describe("messages", () => {
  test("a ping is answered with a pong, before a token too", async () => {
    const bench = open();
    await bench.say({ type: "ping" });
    expect(types(bench)).toEqual(["pong"]);
  });

  test.each([
    ["no JSON", "{", "The message is no JSON"],
    ["an unknown type", { type: "dance" }, expect.stringContaining("type")],
    [
      "neither channel nor event",
      { type: "subscribe" },
      expect.stringContaining("channel or event"),
    ],
    [
      "an agent that is no id",
      { type: "subscribe", channel: "agent_status", agent_id: "x" },
      expect.stringContaining("agent_id"),
    ],
  ])("%s is answered with what is wrong", async (_, message, expected) => {
    const bench = open({ token: "alice" });
    await bench.say(message);
    expect(bench.sent.at(-1)).toMatchObject({
      type: "error",
      code: "VALIDATION_ERROR",
      message: expected,
    });
    expect(bench.closed).toEqual([]);
  });

  test("an unknown event is answered with those there are", async () => {
    const bench = open({ token: "alice" });
    await bench.say({ type: "subscribe", event: "agent.dance" });
    expect(bench.sent.at(-1)).toMatchObject({
      type: "error",
      code: "VALIDATION_ERROR",
      details: { available: expect.arrayContaining(["agent_status", "agent.status"]) },
    });
  });

  test("a channel of an agent is followed by its name, and left", async () => {
    const bench = open({ token: "alice" });
    const channel = { channel: "trading_signals", agent_id: BOB };
    await bench.say({ type: "subscribe", ...channel });
    expect(bench.sent.at(-1)).toEqual({ type: "subscribed", ...channel });
    expect(bench.followed).toEqual([`agent ${BOB} trading_signals`]);
    await bench.say({ type: "unsubscribe", ...channel });
    expect(bench.followed).toEqual([]);
  });

  test("a channel of an agent without the agent is answered with what is missing", async () => {
    const bench = open({ token: "alice" });
    await bench.say({ type: "subscribe", channel: "trading_signals" });
    expect(bench.sent.at(-1)).toMatchObject({
      type: "error",
      code: "VALIDATION_ERROR",
      details: { hint: expect.stringContaining("agent_id") },
    });
  });

  test("a documented event without a source yet says so", async () => {
    const bench = open({ token: "alice" });
    await bench.say({ type: "subscribe", event: "task.completed" });
    expect(bench.sent.at(-1)).toMatchObject({
      type: "error",
      message: "Event task.completed has no source yet",
    });
  });

  test("what Realtime says when it refuses is not passed on", async () => {
    const bench = open({ token: "alice", refuse: true });
    await bench.say({ type: "subscribe", channel: "agent_status" });
    expect(bench.sent.at(-1)).toMatchObject({
      type: "error",
      code: "REAL_TIME_SUBSCRIPTION_FAILED",
    });
    expect(JSON.stringify(bench.sent)).not.toContain("secret words");
  });

  test("events reach the client as they come", async () => {
    const bench = open({ token: "alice" });
    await bench.say({ type: "subscribe", channel: "agent_status" });
    const event = {
      type: "container_event",
      payload: { event: "die" },
      timestamp: "2026-01-01T00:00:00Z",
    };
    bench.emit(event);
    expect(bench.sent.at(-1)).toEqual(event);
  });
});

describe("limits", () => {
  test("too many messages end the connection", async () => {
    const bench = open({ token: "alice", limits: { messagesPerMinute: 2 } });
    for (let count = 0; count < 3; count++) await bench.say({ type: "ping" });
    expect(bench.sent.at(-1)).toMatchObject({ type: "error", code: "RATE_LIMIT_EXCEEDED" });
    expect(bench.closed).toMatchObject([{ code: 4429 }]);
  });

  test("too many subscriptions are refused, and the connection stays", async () => {
    const bench = open({ token: "alice", limits: { subscriptions: 1 } });
    await bench.say({ type: "subscribe", channel: "agent_status" });
    await bench.say({ type: "subscribe", channel: "metric_update" });
    expect(bench.sent.at(-1)).toMatchObject({ type: "error", code: "RESOURCE_LIMIT_EXCEEDED" });
    expect(bench.closed).toEqual([]);
  });

  test("a message that is too large ends the connection", async () => {
    const bench = open({ token: "alice", limits: { messageBytes: 10 } });
    await bench.say({ type: "ping", filler: "x" });
    expect(bench.closed).toMatchObject([{ code: 1009 }]);
  });

  test("a silent client that follows something is kept, as the sample of seed 000 is silent", async () => {
    const bench = open({ limits: { idleMs: 1_000 } });
    await bench.say({ type: "subscribe", channel: "agent_status", token: "alice" });
    await vi.advanceTimersByTimeAsync(60_000);
    expect(bench.closed).toEqual([]);
  });

  test("a silent client that follows nothing any more is disconnected", async () => {
    const bench = open({ token: "alice", limits: { idleMs: 1_000 } });
    await bench.say({ type: "subscribe", channel: "agent_status" });
    await bench.say({ type: "unsubscribe", channel: "agent_status" });
    await vi.advanceTimersByTimeAsync(1_001);
    expect(bench.closed).toMatchObject([{ code: 4408 }]);
  });

  test("a silent client that follows nothing is disconnected, and its feed closed", async () => {
    const bench = open({ token: "alice", limits: { idleMs: 1_000 } });
    await vi.advanceTimersByTimeAsync(1_001);
    expect(bench.closed).toMatchObject([{ code: 4408 }]);
    expect(bench.feedClosed()).toBe(true);
  });

  test("a ping keeps the connection", async () => {
    const bench = open({ token: "alice", limits: { idleMs: 1_000 } });
    for (let count = 0; count < 5; count++) {
      await vi.advanceTimersByTimeAsync(900);
      await bench.say({ type: "ping" });
    }
    expect(bench.closed).toEqual([]);
  });
});

describe("the connections of a user", () => {
  test("are counted until they end, and once however many tokens they bring", async () => {
    const bench = open({ token: "alice", slots: 5 });
    await bench.say({ type: "auth", token: "alice again" });
    expect(bench.slotsLeft()).toBe(4);
    bench.session.end();
    bench.session.end();
    expect(bench.slotsLeft()).toBe(5);
  });

  test("are refused beyond the limit, and nothing is followed", async () => {
    const bench = open({ slots: 0 });
    await bench.say({ type: "subscribe", channel: "agent_status", token: "alice" });
    expect(bench.sent).toMatchObject([{
      type: "error",
      code: "RATE_LIMIT_EXCEEDED",
      details: { limit_type: "real_time_connections", limit: 100 },
    }]);
    expect(bench.closed).toEqual([{ code: 4429, reason: "too many connections" }]);
    expect(bench.followed).toEqual([]);
  });

  test("are refused while they cannot be counted, without the database's words", async () => {
    const bench = open({ token: "alice", slots: null });
    await bench.say({ type: "ping" });
    expect(bench.sent).toContainEqual(
      expect.objectContaining({ type: "error", code: "SUPABASE_CONNECTION_ERROR" }),
    );
    expect(JSON.stringify(bench.sent)).not.toContain("secret words");
    expect(bench.closed).toMatchObject([{ code: 1011 }]);
  });
});

test("a stream that Realtime ends is told and ends the connection", async () => {
  const bench = open({ token: "alice" });
  await bench.say({ type: "subscribe", channel: "agent_status" });
  bench.end("Token has expired 0 seconds ago");
  expect(bench.sent.at(-1)).toMatchObject({ type: "error", code: "REAL_TIME_SUBSCRIPTION_FAILED" });
  expect(bench.closed).toMatchObject([{ code: 1011 }]);
});
