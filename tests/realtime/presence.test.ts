import { randomUUID } from "node:crypto";
import type { RealtimeChannel, SupabaseClient } from "@supabase/supabase-js";
import { beforeAll, describe, expect, test } from "vitest";
import { POLL } from "./support/listen.ts";
import { spawnClient } from "./support/present.ts";
import { startRealtime, type TestRealtime } from "./support/realtime.ts";
import { openWire } from "./support/wire.ts";

let realtime: TestRealtime;
beforeAll(async () => {
  realtime = await startRealtime({
    limits: { payloadBytes: 1_000 },
    schema: `
      create table public.members (topic text, user_id uuid, extension text, writes boolean);
      grant select on public.members to authenticated;
      create policy "Members receive" on realtime.messages for select to authenticated using (exists (
        select from public.members m where m.topic = (select realtime.topic()) and m.user_id = (select auth.uid())
          and m.extension = messages.extension));
      create policy "Writers send" on realtime.messages for insert to authenticated with check (exists (
        select from public.members m where m.topic = (select realtime.topic()) and m.user_id = (select auth.uid())
          and m.extension = messages.extension and m.writes));
    `,
  });
});

interface Seen {
  channel: RealtimeChannel;
  events: string[];
  /** Who is there and what they say, without the references of the protocol. */
  state(): Record<string, unknown[]>;
}

/** Joins with unmodified supabase-js and follows who comes and goes. */
async function join(
  client: SupabaseClient,
  topic: string,
  { key = "", isPrivate = false }: { key?: string; isPrivate?: boolean } = {},
): Promise<Seen> {
  await client.realtime.setAuth();
  const channel = client.channel(topic, { config: { private: isPrivate, presence: { key } } });
  const events: string[] = [];
  let status = "";
  channel
    .on("presence", { event: "sync" }, () => events.push("sync"))
    .on("presence", { event: "join" }, ({ key, newPresences }) => {
      events.push(`join ${key} ${newPresences.map(({ name }) => name)}`);
    })
    .on("presence", { event: "leave" }, ({ key, leftPresences }) => {
      events.push(`leave ${key} ${leftPresences.map(({ name }) => name)}`);
    })
    .subscribe((next) => status = next);
  await expect.poll(() => status, POLL).toBe("SUBSCRIBED");
  return {
    channel,
    events,
    state: () =>
      Object.fromEntries(
        Object.entries(channel.presenceState()).map(([key, metas]) => [
          key,
          metas.map(({ presence_ref: _, ...rest }) => rest),
        ]),
      ),
  };
}

const user = () => realtime.client(randomUUID());

describe("two clients of a topic", () => {
  test("see each other come, change and go", async () => {
    const topic = randomUUID();
    const alice = await join(user(), topic, { key: "alice" });
    await alice.channel.track({ name: "Alice" });
    const bob = await join(user(), topic, { key: "bob" });
    await expect.poll(() => bob.state(), POLL).toEqual({ alice: [{ name: "Alice" }] });
    await bob.channel.track({ name: "Bob" });
    const both = { alice: [{ name: "Alice" }], bob: [{ name: "Bob" }] };
    await expect.poll(() => alice.state(), POLL).toEqual(both);
    await expect.poll(() => bob.state(), POLL).toEqual(both);
    await bob.channel.untrack();
    await expect.poll(() => alice.state(), POLL).toEqual({ alice: [{ name: "Alice" }] });
    expect(alice.events.filter((event) => event !== "sync")).toEqual([
      "join alice Alice",
      "join bob Bob",
      "leave bob Bob",
    ]);
  });

  test("see what one changes of itself", async () => {
    const topic = randomUUID();
    const [alice, bob] = [await join(user(), topic), await join(user(), topic, { key: "bob" })];
    await bob.channel.track({ name: "Bob" });
    await bob.channel.track({ name: "Robert" });
    await expect.poll(() => alice.events.filter((event) => event !== "sync"), POLL).toEqual([
      "join bob Bob",
      "join bob Robert",
      "leave bob Bob",
    ]);
    const late = await join(user(), topic);
    await expect.poll(() => late.state(), POLL).toEqual({ bob: [{ name: "Robert" }] });
  });

  test("that share a key are two presences under it", async () => {
    const topic = randomUUID();
    const first = await join(user(), topic, { key: "same" });
    const second = await join(user(), topic, { key: "same" });
    await first.channel.track({ name: "laptop" });
    await second.channel.track({ name: "phone" });
    await expect.poll(() => first.state(), POLL).toEqual({
      same: [{ name: "laptop" }, { name: "phone" }],
    });
    await second.channel.unsubscribe();
    await expect.poll(() => first.state(), POLL).toEqual({ same: [{ name: "laptop" }] });
  });

  test("see that one closed its connection", async () => {
    const topic = randomUUID();
    const alice = await join(user(), topic, { key: "alice" });
    const client = user();
    const bob = await join(client, topic, { key: "bob" });
    await bob.channel.track({ name: "Bob" });
    await expect.poll(() => alice.state(), POLL).toEqual({ bob: [{ name: "Bob" }] });
    await client.realtime.disconnect();
    await expect.poll(() => alice.events.at(-2), POLL).toBe("leave bob Bob");
  });

  test("see that the process of one was killed", async () => {
    const topic = randomUUID();
    const alice = await join(user(), topic, { key: "alice" });
    const token = await realtime.userToken(randomUUID());
    const bob = spawnClient(realtime, token, topic, "bob");
    await expect.poll(() => alice.state(), POLL).toEqual({
      bob: [{ name: "bob" }],
    });
    bob.kill();
    await expect.poll(() => alice.state(), POLL).toEqual({});
  });

  test("see that one has fallen silent", async () => {
    const topic = randomUUID();
    // supabase-js sends a heartbeat every 25 s only.
    const realtime = await startRealtime({ limits: { idleMs: 5_000 } });
    const silent = await openWire(realtime.url, realtime.anonKey);
    await silent.join(`realtime:${topic}`, { presence: { key: "silent" } });
    silent.send("join-1", "1", `realtime:${topic}`, "presence", {
      type: "presence",
      event: "track",
      payload: { name: "Silent" },
    });
    expect(await silent.reply("1")).toEqual({ status: "ok", response: {} });
    const witness = await openWire(realtime.url, realtime.anonKey);
    const alive = setInterval(() => witness.send(null, "h", "phoenix", "heartbeat", {}), 300);
    await witness.join(`realtime:${topic}`, { presence: { enabled: true } });
    const { leaves } = await witness.event("presence_diff");
    clearInterval(alive);
    expect(leaves).toEqual({
      silent: { metas: [{ name: "Silent", phx_ref: expect.any(String) }] },
    });
  });
});

describe("the protocol", () => {
  const track = (payload: unknown) => ({ type: "presence", event: "track", payload });

  test("a change names the reference it replaces", async () => {
    const wire = await openWire(realtime.url, realtime.anonKey);
    const topic = `realtime:${randomUUID()}`;
    await wire.join(topic, { presence: { enabled: true, key: "me" } });
    expect(await wire.event("presence_state")).toEqual({});
    wire.send("join-1", "1", topic, "presence", track({ n: 1 }));
    wire.send("join-1", "2", topic, "presence", track({ n: 2 }));
    await wire.reply("2");
    const diffs = wire.frames.filter((frame) =>
      Array.isArray(frame) && frame[3] === "presence_diff"
    ).map((frame) => (frame as unknown[])[4]);
    const first = { n: 1, phx_ref: expect.any(String) };
    expect(diffs).toEqual([
      { joins: { me: { metas: [first] } }, leaves: {} },
      {
        joins: {
          me: { metas: [{ n: 2, phx_ref: expect.any(String), phx_ref_prev: expect.any(String) }] },
        },
        leaves: { me: { metas: [first] } },
      },
    ]);
  });

  test("what does not change is not told again", async () => {
    const wire = await openWire(realtime.url, realtime.anonKey);
    const topic = `realtime:${randomUUID()}`;
    await wire.join(topic, { presence: { key: "me" } });
    for (const ref of ["1", "2"]) {
      wire.send("join-1", ref, topic, "presence", track({ n: 1 }));
      expect(await wire.reply(ref)).toEqual({ status: "ok", response: {} });
    }
    expect(wire.frames.filter((frame) => Array.isArray(frame) && frame[3] === "presence_diff"))
      .toHaveLength(1);
  });

  test.each([
    ["no object", track(["x"]), { reason: "Presence track payload must be a map" }],
    ["an unknown event", { type: "presence", event: "dance" }, {}],
  ])("%s is answered with an error", async (_, payload, response) => {
    const wire = await openWire(realtime.url, realtime.anonKey);
    const topic = `realtime:${randomUUID()}`;
    await wire.join(topic, { presence: { enabled: true } });
    wire.send("join-1", "1", topic, "presence", payload);
    expect(await wire.reply("1")).toEqual({ status: "error", response });
  });

  test.each([
    ["a presence that is too large", ["x".repeat(1_001)], "Track message size exceeded"],
    [
      "a sixth change at once",
      ["1", "2", "3", "4", "5", "6"],
      "Client presence rate limit exceeded",
    ],
  ])("%s ends the channel", async (_, names, words) => {
    const wire = await openWire(realtime.url, realtime.anonKey);
    const topic = `realtime:${randomUUID()}`;
    await wire.join(topic, { presence: { enabled: true } });
    names.forEach((name, index) =>
      wire.send("join-1", `${index}`, topic, "presence", track({ name }))
    );
    expect(await wire.event("system")).toMatchObject({ status: "error", message: words });
    await wire.event("phx_close");
  });
});

describe("a private topic", () => {
  async function member(topic: string, extension: string, writes: boolean): Promise<string> {
    const id = randomUUID();
    await realtime.database.sql`
      insert into public.members values (${topic}, ${id}, ${extension}, ${writes})`;
    return id;
  }
  const enter = async (topic: string, extension: string, writes: boolean) =>
    await join(realtime.client(await member(topic, extension, writes)), topic, {
      isPrivate: true,
      key: `${extension} ${writes}`,
    });

  test("lets those track themselves whom a policy lets write presence", async () => {
    const topic = randomUUID();
    const writer = await enter(topic, "presence", true);
    const reader = await enter(topic, "presence", false);
    expect(await writer.channel.track({ name: "writer" })).toBe("ok");
    expect(await reader.channel.track({ name: "reader" })).toBe("error");
    await expect.poll(() => reader.state(), POLL).toEqual({
      "presence true": [{ name: "writer" }],
    });
  });

  test("shows nobody to those who may receive broadcasts only", async () => {
    const topic = randomUUID();
    const listener = await enter(topic, "broadcast", false);
    const writer = await enter(topic, "presence", true);
    await writer.channel.track({ name: "writer" });
    await realtime.database.sql`select realtime.send('{}'::jsonb, 'witness', ${topic}, true)`;
    await expect.poll(() => Object.keys(writer.state()), POLL).toEqual(["presence true"]);
    expect(listener.events).toEqual([]);
  });

  test("does not show who is in the public topic of the same name", async () => {
    const topic = randomUUID();
    const open = await join(user(), topic, { key: "public" });
    await open.channel.track({ name: "public" });
    const closed = await enter(topic, "presence", true);
    await closed.channel.track({ name: "closed" });
    await expect.poll(() => closed.state(), POLL).toEqual({
      "presence true": [{ name: "closed" }],
    });
    expect(Object.keys(open.state())).toEqual(["public"]);
  });
});
