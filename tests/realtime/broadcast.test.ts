import { randomUUID } from "node:crypto";
import { beforeAll, describe, expect, test } from "vitest";
import { listen, POLL } from "./support/listen.ts";
import { startRealtime, type TestRealtime } from "./support/realtime.ts";

let realtime: TestRealtime;
beforeAll(async () => {
  realtime = await startRealtime({
    limits: { payloadBytes: 10_000 },
    schema: `
      create table public.rooms (id uuid primary key, owner uuid not null, name text);
      create function public.rooms_broadcast() returns trigger language plpgsql security definer
      set search_path = '' as $$
      begin
        perform realtime.broadcast_changes(
          'room:' || coalesce(new.id, old.id), tg_op, tg_op, tg_table_name, tg_table_schema, new, old);
        return null;
      end $$;
      create trigger rooms_broadcast after insert or update or delete on public.rooms
        for each row execute function public.rooms_broadcast();
      create policy "Anybody may join a room" on realtime.messages
        for select to authenticated using ((select realtime.topic()) like 'room:%');
    `,
  });
});
const user = () => realtime.client(randomUUID());
let rooms = 0;
const room = () => `lobby-${++rooms}`;

describe("between clients", () => {
  test("a message reaches the others and not its sender", async () => {
    const topic = room();
    const [from, to] = [await listen(user(), { topic }), await listen(user(), { topic })];
    expect(await from.channel.send({ type: "broadcast", event: "cursor", payload: { x: 1 } })).toBe(
      "ok",
    );
    await expect.poll(() => to.broadcasts, POLL).toEqual([
      { type: "broadcast", event: "cursor", payload: { x: 1 } },
    ]);
    expect(from.broadcasts).toEqual([]);
  });

  test("with self it reaches its sender too", async () => {
    const heard = await listen(user(), { topic: room(), config: { broadcast: { self: true } } });
    await heard.channel.send({ type: "broadcast", event: "cursor", payload: { x: 1 } });
    await expect.poll(() => heard.broadcasts.length, POLL).toBe(1);
  });

  test("with ack it is acknowledged", async () => {
    const heard = await listen(user(), { topic: room(), config: { broadcast: { ack: true } } });
    expect(await heard.channel.send({ type: "broadcast", event: "e", payload: {} })).toBe("ok");
  });

  test("one that is too large is refused, when acknowledgements are asked for", async () => {
    const heard = await listen(user(), { topic: room(), config: { broadcast: { ack: true } } });
    const payload = { text: "x".repeat(10_001) };
    expect(await heard.channel.send({ type: "broadcast", event: "e", payload })).toBe("error");
  });

  test.each([["1.0.0", "2.0.0"], ["2.0.0", "1.0.0"], ["1.0.0", "1.0.0"]] as const)(
    "a message of version %s reaches version %s",
    async (sends, receives) => {
      const topic = room();
      const from = await listen(realtime.client(randomUUID(), { vsn: sends }), { topic });
      const to = await listen(realtime.client(randomUUID(), { vsn: receives }), { topic });
      await from.channel.send({ type: "broadcast", event: "e", payload: { text: "grüße" } });
      await expect.poll(() => to.broadcasts, POLL).toMatchObject([
        { event: "e", payload: { text: "grüße" } },
      ]);
    },
  );

  test("bytes arrive as bytes", async () => {
    const topic = room();
    const [from, to] = [await listen(user(), { topic }), await listen(user(), { topic })];
    await from.channel.send({
      type: "broadcast",
      event: "bytes",
      payload: Uint8Array.of(0, 255, 7).buffer,
    });
    await expect.poll(() => to.broadcasts.length, POLL).toBe(1);
    expect([...new Uint8Array(to.broadcasts[0].payload)]).toEqual([0, 255, 7]);
  });
});

describe("over HTTP", () => {
  const post = (path: string, body: unknown, headers: Record<string, string> = {}) =>
    fetch(`${realtime.url}/realtime/v1${path}`, {
      method: "POST",
      headers: {
        apikey: realtime.anonKey,
        authorization: `Bearer ${realtime.anonKey}`,
        "content-type": "application/json",
        ...headers,
      },
      body: JSON.stringify(body),
    });

  test("a batch reaches the topics it names", async () => {
    const [first, second] = [room(), room()];
    const heard = [await listen(user(), { topic: first }), await listen(user(), { topic: second })];
    const answer = await post("/api/broadcast", {
      messages: [
        { topic: first, event: "a", payload: { n: 1 } },
        { topic: second, event: "b", payload: { n: 2 } },
      ],
    });
    expect(answer.status).toBe(202);
    await expect.poll(() => heard.map(({ broadcasts }) => broadcasts), POLL).toEqual([
      [{ type: "broadcast", event: "a", payload: { n: 1 } }],
      [{ type: "broadcast", event: "b", payload: { n: 2 } }],
    ]);
  });

  test("httpSend of supabase-js reaches the topic", async () => {
    const topic = room();
    const heard = await listen(user(), { topic });
    expect(await user().channel(topic).httpSend("e", { n: 1 })).toEqual({ success: true });
    await expect.poll(() => heard.broadcasts, POLL).toMatchObject([{
      event: "e",
      payload: { n: 1 },
    }]);
  });

  test("without a list of messages it is answered with 422", async () => {
    const answer = await post("/api/broadcast", { messages: [] });
    expect([answer.status, await answer.json()]).toEqual([
      422,
      { errors: { messages: ["can't be blank"] } },
    ]);
  });

  test("every bad field of a message is named", async () => {
    const answer = await post("/api/broadcast", { messages: [{ event: "a", payload: "text" }] });
    expect([answer.status, await answer.json()]).toEqual([
      422,
      { errors: { messages: [{ topic: ["can't be blank"], payload: ["is invalid"] }] } },
    ]);
  });

  test("a bad token is answered with 401", async () => {
    const answer = await post("/api/broadcast", { messages: [] }, { authorization: "Bearer x" });
    expect([answer.status, await answer.json()]).toEqual([401, { message: "Unauthorized" }]);
  });

  test("a private topic takes nothing from who may not write to it", async () => {
    const topic = `room:${randomUUID()}`;
    const heard = await listen(user(), { topic, config: { private: true } });
    const token = await realtime.userToken(randomUUID());
    const headers = { authorization: `Bearer ${token}` };
    const message = { topic, event: "e", payload: {}, private: true };
    expect((await post("/api/broadcast", { messages: [message] }, headers)).status).toBe(202);
    const single = await post(`/api/broadcast/${topic}/events/e?private=true`, {}, headers);
    expect(single.status).toBe(403);
    await realtime.database.sql`select realtime.send('{}'::jsonb, 'witness', ${topic}, true)`;
    await expect.poll(() => heard.broadcasts.map(({ event }) => event), POLL).toEqual(["witness"]);
  });
});

describe("from the database", () => {
  test("realtime.send reaches a public topic, with an id", async () => {
    const topic = room();
    const heard = await listen(user(), { topic });
    await realtime.database.sql`select realtime.send('{"n": 1}'::jsonb, 'news', ${topic}, false)`;
    await expect.poll(() => heard.broadcasts, POLL).toEqual([{
      type: "broadcast",
      event: "news",
      payload: { n: 1, id: expect.any(String) },
      meta: { id: expect.any(String) },
    }]);
    expect(heard.broadcasts[0].payload.id).toBe(heard.broadcasts[0].meta.id);
  });

  test("what is sent privately does not reach a public channel of the same name", async () => {
    const topic = `room:${randomUUID()}`;
    const open = await listen(user(), { topic });
    const closed = await listen(user(), { topic, config: { private: true } });
    await realtime.database.sql`select realtime.send('{}'::jsonb, 'private', ${topic})`;
    await realtime.database.sql`select realtime.send('{}'::jsonb, 'public', ${topic}, false)`;
    await expect.poll(
      () => [open, closed].map(({ broadcasts }) => broadcasts.map(({ event }) => event)),
      POLL,
    ).toEqual([["public"], ["private"]]);
  });

  test("nothing is sent when the transaction is rolled back", async () => {
    const topic = room();
    const heard = await listen(user(), { topic });
    await realtime.database.sql.begin(async (sql) => {
      await sql`select realtime.send('{}'::jsonb, 'undone', ${topic}, false)`;
      throw new Error("undo");
    }).catch(() => {});
    await realtime.database.sql`select realtime.send('{}'::jsonb, 'done', ${topic}, false)`;
    await expect.poll(() => heard.broadcasts.map(({ event }) => event), POLL).toEqual(["done"]);
  });

  test("broadcast_changes tells the row before and after", async () => {
    const id = randomUUID();
    const owner = randomUUID();
    const heard = await listen(user(), { topic: `room:${id}`, config: { private: true } });
    await realtime.database.sql`insert into public.rooms values (${id}, ${owner}, 'a')`;
    await realtime.database.sql`update public.rooms set name = 'b' where id = ${id}`;
    await realtime.database.sql`delete from public.rooms where id = ${id}`;
    const row = (name: string) => ({ id, owner, name });
    const head = { schema: "public", table: "rooms", id: expect.any(String) };
    await expect.poll(
      () => heard.broadcasts.map(({ event, payload }) => ({ event, payload })),
      POLL,
    )
      .toEqual([
        {
          event: "INSERT",
          payload: { ...head, operation: "INSERT", record: row("a"), old_record: null },
        },
        {
          event: "UPDATE",
          payload: { ...head, operation: "UPDATE", record: row("b"), old_record: row("a") },
        },
        {
          event: "DELETE",
          payload: { ...head, operation: "DELETE", record: null, old_record: row("b") },
        },
      ]);
  });

  test("bytes of send_binary arrive as bytes", async () => {
    const topic = room();
    const heard = await listen(user(), { topic });
    await realtime.database
      .sql`select realtime.send_binary('\\x00ff07'::bytea, 'b', ${topic}, false)`;
    await expect.poll(() => heard.broadcasts.length, POLL).toBe(1);
    expect([...new Uint8Array(heard.broadcasts[0].payload)]).toEqual([0, 255, 7]);
  });
});
