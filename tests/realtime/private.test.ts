import { randomUUID } from "node:crypto";
import { beforeAll, describe, expect, test } from "vitest";
import { listen, POLL } from "./support/listen.ts";
import { startRealtime, type TestRealtime } from "./support/realtime.ts";

let realtime: TestRealtime;
beforeAll(async () => {
  realtime = await startRealtime({
    schema: `
      create table public.members (topic text, user_id uuid, writes boolean, primary key (topic, user_id));
      grant select on public.members to authenticated;
      create policy "Members receive" on realtime.messages for select to authenticated
        using (extension = 'broadcast' and exists (
          select from public.members where topic = (select realtime.topic()) and user_id = (select auth.uid())));
      create policy "Writers send" on realtime.messages for insert to authenticated
        with check (extension = 'broadcast' and exists (
          select from public.members where topic = (select realtime.topic()) and user_id = (select auth.uid()) and writes));
      create policy "A broken policy" on realtime.messages for select to authenticated
        using (case when (select realtime.topic()) = 'broken' then realtime.topic()::int = 1 else false end);
    `,
  });
});

async function member(topic: string, writes = false): Promise<string> {
  const user = randomUUID();
  await realtime.database.sql`insert into public.members values (${topic}, ${user}, ${writes})`;
  return user;
}
const config = { private: true, broadcast: { ack: true } };

describe("a private topic", () => {
  test("lets those in whom a policy lets read", async () => {
    const topic = randomUUID();
    const heard = await listen(realtime.client(await member(topic)), { topic, config });
    expect(heard.statuses).toMatchObject([{ status: "SUBSCRIBED" }]);
  });

  test.each(["a stranger", "anon"])("refuses %s in Realtime's words", async (who) => {
    const topic = randomUUID();
    const client = realtime.client(who === "anon" ? undefined : randomUUID());
    const heard = await listen(client, { topic, config, wait: "answered" });
    expect(heard.statuses[0]).toEqual({
      status: "CHANNEL_ERROR",
      message:
        `Unauthorized: You do not have permissions to read from this Channel topic: ${topic}`,
    });
  });

  test("refuses when a policy fails", async () => {
    const heard = await listen(realtime.client(randomUUID()), {
      topic: "broken",
      config,
      wait: "answered",
    });
    expect(heard.statuses[0]?.message).toContain("You do not have permissions to read");
  });

  test("takes messages of those whom a policy lets write", async () => {
    const topic = randomUUID();
    const writer = await listen(realtime.client(await member(topic, true)), { topic, config });
    const reader = await listen(realtime.client(await member(topic)), { topic, config });
    expect(await writer.channel.send({ type: "broadcast", event: "e", payload: {} })).toBe("ok");
    await expect.poll(() => reader.broadcasts.length, POLL).toBe(1);
  });

  test("takes none of a reader who may not write", async () => {
    const topic = randomUUID();
    const writer = await listen(realtime.client(await member(topic, true)), { topic, config });
    const reader = await listen(realtime.client(await member(topic)), { topic, config });
    const message = { type: "broadcast" as const, event: "e", payload: {} };
    expect(await reader.channel.send(message, { timeout: 500 })).toBe("timed out");
    expect(writer.broadcasts).toEqual([]);
  });

  test("leaves no trace of asking the policies", async () => {
    const topic = randomUUID();
    await listen(realtime.client(await member(topic, true)), { topic, config });
    expect(await realtime.admin`select from realtime.messages where topic = ${topic}`).toHaveLength(
      0,
    );
  });
});

describe("permissions", () => {
  test("that were taken away end the channel with the next token", async () => {
    const topic = randomUUID();
    const user = await member(topic);
    const client = realtime.client(user);
    const heard = await listen(client, { topic, config });
    await realtime.database.sql`delete from public.members where user_id = ${user}`;
    await client.realtime.setAuth(await realtime.userToken(user, { claims: { fresh: true } }));
    await expect.poll(() => heard.system.at(-1)?.message, POLL)
      .toContain(`You do not have permissions to read from this Channel topic: ${topic}`);
    await expect.poll(() => heard.statuses.at(-1)?.status, POLL).toBe("CLOSED");
  });

  test("are kept until then", async () => {
    const topic = randomUUID();
    const user = await member(topic);
    const heard = await listen(realtime.client(user), { topic, config });
    await realtime.database.sql`delete from public.members where user_id = ${user}`;
    await realtime.database.sql`select realtime.send('{}'::jsonb, 'e', ${topic}, true)`;
    await expect.poll(() => heard.broadcasts.length, POLL).toBe(1);
  });
});

describe("replay", () => {
  test("sends what was sent before, marked as replayed", async () => {
    const topic = randomUUID();
    const since = Date.now() - 60_000;
    for (const n of [1, 2, 3]) {
      await realtime.database.sql`
        select realtime.send(jsonb_build_object('n', ${n}::int), 'e', ${topic}, true)`;
    }
    const heard = await listen(realtime.client(await member(topic)), {
      topic,
      config: { private: true, broadcast: { replay: { since, limit: 2 } } },
    });
    await expect.poll(() => heard.broadcasts, POLL).toMatchObject([
      { event: "e", payload: { n: 2 }, meta: { replayed: true } },
      { event: "e", payload: { n: 3 }, meta: { replayed: true } },
    ]);
  });
});
