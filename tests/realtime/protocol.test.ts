import { randomUUID } from "node:crypto";
import { beforeAll, describe, expect, test } from "vitest";
import { POLL } from "./support/listen.ts";
import { startRealtime, type TestRealtime } from "./support/realtime.ts";
import { openWire, type Wire } from "./support/wire.ts";

let realtime: TestRealtime;
beforeAll(async () => {
  realtime = await startRealtime({
    schema: `
      create table public.things (id bigint primary key);
      grant select on public.things to anon;
      alter publication supabase_realtime add table public.things;
    `,
    limits: { frameBytes: 100_000, payloadBytes: 10_000, channelsPerClient: 3 },
  });
});

describe.each(["1.0.0", "2.0.0"] as const)("version %s", (vsn) => {
  const open = () => openWire(realtime.url, realtime.anonKey, vsn);

  test("answers a heartbeat", async () => {
    const wire = await open();
    wire.send(null, "7", "phoenix", "heartbeat", {});
    expect(await wire.reply("7")).toEqual({ status: "ok", response: {} });
  });

  test("answers a join with the bindings and their ids, then says that changes are followed", async () => {
    const wire = await open();
    const binding = { event: "*", schema: "public", table: "things" };
    expect(await wire.join("realtime:room", { postgres_changes: [binding] })).toEqual({
      status: "ok",
      response: { postgres_changes: [{ ...binding, id: expect.any(Number) }] },
    });
    expect(await wire.event("system")).toEqual({
      extension: "postgres_changes",
      status: "ok",
      message: "Subscribed to PostgreSQL",
      channel: "room",
    });
  });

  test("tells a change with the ids of the bindings it is for", async () => {
    const wire = await open();
    const binding = { event: "*", schema: "public", table: "things" };
    const answer = await wire.join("realtime:room", { postgres_changes: [binding] });
    const [row] = await realtime.database.sql`
      insert into public.things select coalesce(max(id), 0) + 1 from public.things returning id`;
    expect(await wire.event("postgres_changes")).toEqual({
      ids: [answer.response.postgres_changes[0].id],
      data: {
        schema: "public",
        table: "things",
        commit_timestamp: expect.any(String),
        type: "INSERT",
        columns: [{ name: "id", type: "int8" }],
        record: { id: Number(row!.id) },
        errors: null,
      },
    });
  });

  test("answers a leave and closes the channel", async () => {
    const wire = await open();
    await wire.join("realtime:room");
    wire.send("join-1", "9", "realtime:room", "phx_leave", {});
    expect(await wire.reply("9")).toEqual({ status: "ok", response: {} });
    await wire.event("phx_close");
  });

  test("a second join of a topic closes the first", async () => {
    const wire = await open();
    await wire.join("realtime:room");
    await wire.join("realtime:room");
    expect(wire.frames).toContainEqual(["join-1", "join-1", "realtime:room", "phx_close", {}]);
  });

  test("sends an empty presence state to who asks for presence", async () => {
    const wire = await open();
    await wire.join("realtime:room", { presence: { enabled: true, key: "" } });
    expect(await wire.event("presence_state")).toEqual({});
  });

  test("answers a message to a topic that was not joined with an error", async () => {
    const wire = await open();
    wire.send(null, "3", "realtime:nowhere", "broadcast", { type: "broadcast", event: "x" });
    expect(await wire.reply("3")).toEqual({
      status: "error",
      response: { reason: "unmatched topic" },
    });
  });

  test("refuses a topic without a name", async () => {
    const wire = await open();
    expect(await wire.join("realtime:")).toEqual({
      status: "error",
      response: { reason: "TopicNameRequired: You must provide a topic name" },
    });
  });
});

describe("an old client without config", () => {
  test("hears of the table that its topic names, by the kind of change", async () => {
    const wire = await openWire(realtime.url, realtime.anonKey, "1.0.0");
    wire.send("1", "1", "realtime:public:things", "phx_join", {});
    expect(await wire.reply("1")).toMatchObject({ status: "ok" });
    await wire.event("system");
    await realtime.database.sql`insert into public.things values (1000)`;
    expect(await wire.event("INSERT")).toMatchObject({ type: "INSERT", record: { id: 1000 } });
  });
});

/** Joins with a token that ends soon, but well after the answer: how long that takes is up to the machine. */
async function joinForAMoment(user: string): Promise<{ wire: Wire; life: number }> {
  for (let life = 6;; life *= 2) {
    const wire = await openWire(realtime.url, realtime.anonKey);
    const began = Date.now();
    const token = await realtime.userToken(user, { life });
    const { status } = await wire.join("realtime:room", {}, token);
    if (status === "ok" && Date.now() - began < life * 500) return { wire, life };
    wire.socket.close();
  }
}

describe("a token", () => {
  test("that is none refuses the join", async () => {
    const wire = await openWire(realtime.url, realtime.anonKey);
    expect(await wire.join("realtime:room", {}, "garbage")).toEqual({
      status: "error",
      response: { reason: "MalformedJWT: The token provided is not a valid JWT" },
    });
  });

  test("that expired refuses the join and says since when", async () => {
    const wire = await openWire(realtime.url, realtime.anonKey);
    const token = await realtime.userToken(randomUUID(), { life: -60 });
    const { status, response } = await wire.join("realtime:room", {}, token);
    expect(status).toBe("error");
    const [, seconds] = /^InvalidJWTToken: Token has expired (\d+) seconds ago$/
      .exec(response.reason)!;
    expect(Number(seconds)).toBeGreaterThanOrEqual(60);
  });

  test("signed by somebody else refuses the join", async () => {
    const wire = await openWire(realtime.url, realtime.anonKey);
    const token = await realtime.userToken(randomUUID());
    const forged = token.slice(0, -6) + (token.endsWith("AAAAAA") ? "BBBBBB" : "AAAAAA");
    expect(await wire.join("realtime:room", {}, forged)).toEqual({
      status: "error",
      response: { reason: "JwtSignatureError: Failed to validate JWT signature" },
    });
  });

  test("with alg none refuses the join", async () => {
    const wire = await openWire(realtime.url, realtime.anonKey);
    const part = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");
    const token = `${part({ alg: "none" })}.${part({ role: "service_role", exp: 9e9 })}.`;
    const { status } = await wire.join("realtime:room", {}, token);
    expect(status).toBe("error");
  });

  test("with a role that no client may have refuses the join", async () => {
    const wire = await openWire(realtime.url, realtime.anonKey);
    const token = await realtime.userToken(randomUUID(), { role: "supabase_admin" });
    const { status } = await wire.join("realtime:room", {}, token);
    expect(status).toBe("error");
  });

  test("closes the channel when it expires, with an explanation", async () => {
    const { wire } = await joinForAMoment(randomUUID());
    expect(await wire.event("system")).toMatchObject({
      extension: "system",
      status: "error",
      message: expect.stringMatching(/^Token has expired \d+ seconds ago$/),
    });
    await wire.event("phx_close");
  });

  test("that replaces another keeps the channel beyond the first one's end", async () => {
    const user = randomUUID();
    const { wire, life } = await joinForAMoment(user);
    const token = await realtime.userToken(user);
    wire.send("join-1", "2", "realtime:room", "access_token", { access_token: token });
    await new Promise((resolve) => setTimeout(resolve, (life + 1) * 1000));
    wire.send(null, "3", "phoenix", "heartbeat", {});
    await wire.reply("3");
    expect(wire.frames.filter((frame) => Array.isArray(frame) && frame[3] === "phx_close")).toEqual(
      [],
    );
  });

  test("that is garbage closes the channel that gets it", async () => {
    const wire = await openWire(realtime.url, realtime.anonKey);
    await wire.join("realtime:room");
    wire.send("join-1", "2", "realtime:room", "access_token", { access_token: "garbage" });
    expect(await wire.event("system")).toMatchObject({
      status: "error",
      message: "The token provided is not a valid JWT",
    });
    await wire.event("phx_close");
  });

  test.each([
    ["nothing", "", "API key is missing"],
    ["garbage", "garbage", "The token provided is not a valid JWT"],
  ])("of a connection that is %s is answered with 401", async (_, key, error) => {
    const answer = await fetch(`${realtime.url}/realtime/v1/websocket?apikey=${key}&vsn=1.0.0`, {
      headers: { upgrade: "websocket", connection: "Upgrade" },
    }).catch(() => null);
    // fetch of Node may not send an upgrade; the WebSocket then tells at least that it was refused.
    if (answer !== null && answer.status !== 400) {
      expect([answer.status, await answer.json()]).toEqual([401, { error }]);
    }
    await expect(openWire(realtime.url, key)).rejects.toThrow("refused");
  });
});

describe("limits", () => {
  test("a client gets so many channels and no more", async () => {
    const wire = await openWire(realtime.url, realtime.anonKey);
    for (const name of ["a", "b", "c"]) {
      expect(await wire.join(`realtime:${name}`)).toMatchObject({ status: "ok" });
    }
    expect(await wire.join("realtime:d")).toEqual({
      status: "error",
      response: { reason: "ChannelRateLimitReached: Too many channels" },
    });
  });

  test("a frame that is too large ends the connection", async () => {
    const wire = await openWire(realtime.url, realtime.anonKey);
    wire.send(null, "1", "realtime:room", "phx_join", { config: {}, filler: "x".repeat(100_001) });
    await expect.poll(() => wire.closed?.code, POLL).toBe(1009);
  });

  test("a frame that is no message ends the connection", async () => {
    const wire = await openWire(realtime.url, realtime.anonKey);
    wire.socket.send("{");
    await expect.poll(() => wire.closed, POLL).not.toBeNull();
  });

  test("a client that is silent is disconnected", async () => {
    const strict = await startRealtime({ limits: { idleMs: 1_000 } });
    const wire = await openWire(strict.url, strict.anonKey);
    await expect.poll(() => wire.closed?.code, POLL).toBe(1000);
  });
});
