import { randomUUID } from "node:crypto";
import { connect, type Socket } from "node:net";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { listen, POLL } from "./support/listen.ts";
import { slots, startRealtime, type TestRealtime } from "./support/realtime.ts";

const schema = `
  create table public.things (id bigint generated always as identity primary key, body text);
  grant select on public.things to anon, authenticated;
  alter publication supabase_realtime add table public.things;
`;
const things = { event: "*", schema: "public", table: "things" };

let realtime: TestRealtime;
beforeEach(async () => {
  realtime = await startRealtime({ schema, limits: { bufferedBytes: 200_000 } });
});
afterEach(() => realtime.stop());
const insert = () => realtime.database.sql`insert into public.things (body) values ('x')`;

/** Bytes of log that the slot makes the server keep. */
async function retained(): Promise<number> {
  const [row] = await realtime.admin`
    select pg_wal_lsn_diff(pg_current_wal_lsn(), confirmed_flush_lsn)::float8 as bytes
    from pg_replication_slots where database = current_database()`;
  return Number(row!.bytes);
}

describe("the replication connection", () => {
  test("comes back after a break, and channels hear changes again without joining", async () => {
    const heard = await listen(realtime.client(randomUUID()), { changes: [things] });
    await realtime.admin`
      select pg_terminate_backend(active_pid) from pg_replication_slots
      where database = current_database()`;
    await expect.poll(() => heard.system.length, POLL).toBe(2);
    await insert();
    await expect.poll(() => heard.changes.length, POLL).toBe(1);
    expect(heard.statuses).toMatchObject([{ status: "SUBSCRIBED" }]);
  });

  test("comes back after a break while nobody listens", async () => {
    const before = await slots(realtime.admin);
    await realtime.admin`
      select pg_terminate_backend(active_pid) from pg_replication_slots
      where database = current_database()`;
    await expect.poll(async () => {
      const now = await slots(realtime.admin);
      return now.length === 1 && now[0] !== before[0];
    }, POLL).toBe(true);
  });

  test("leaves no slot behind after kill -9", async () => {
    expect(await slots(realtime.admin)).toHaveLength(1);
    process.kill(realtime.pid, "SIGKILL");
    await expect.poll(() => slots(realtime.admin), POLL).toEqual([]);
  });

  test("lets the server forget its log although nobody listens", async () => {
    await realtime.database.sql`
      insert into public.things (body) select repeat('x', 1000) from generate_series(1, 5000)`;
    await expect.poll(retained, POLL).toBeLessThan(100_000);
  });

  test("lets the server forget its log when only other tables change", async () => {
    await realtime.database.sql`create table public.other (body text)`;
    await realtime.database.sql`
      insert into public.other (body) select repeat('x', 1000) from generate_series(1, 5000)`;
    await expect.poll(retained, POLL).toBeLessThan(100_000);
  });

  test("takes up a publication that was dropped and made anew", async () => {
    await realtime.database.sql`drop publication supabase_realtime`;
    await realtime.database.sql`create publication supabase_realtime for table public.things`;
    await insert();
    const heard = await listen(realtime.client(randomUUID()), { changes: [things] });
    await insert();
    await expect.poll(() => heard.changes.length, POLL).toBeGreaterThan(0);
  });

  test("takes up a table that joins the publication later", async () => {
    await realtime.database.sql`create table public.later (id bigint primary key)`;
    await realtime.database.sql`grant select on public.later to authenticated`;
    await realtime.database.sql`alter publication supabase_realtime add table public.later`;
    const heard = await listen(realtime.client(randomUUID()), {
      changes: [{ ...things, table: "later" }],
    });
    await realtime.database.sql`insert into public.later values (1)`;
    await expect.poll(() => heard.changes.length, POLL).toBe(1);
  });
});

test("a change is told although the connections that ask about it break", async () => {
  const heard = await listen(realtime.client(randomUUID()), { changes: [things] });
  for (let round = 0; round < 5; round++) {
    await realtime.admin`
      select pg_terminate_backend(pid) from pg_stat_activity
      where datname = current_database() and application_name = 'realtime'`;
    await insert();
  }
  await expect.poll(() => heard.changes.length, POLL).toBe(5);
});

describe("a commit", () => {
  test("is told although the log has it before its rows can be seen", async () => {
    await realtime.database.sql.unsafe(`alter table public.things enable row level security;
      create policy "Everybody reads" on public.things for select using (true)`);
    const heard = await listen(realtime.client(randomUUID()), { changes: [things] });
    // A standby that never answers holds a commit in just that state until somebody cancels the wait.
    await realtime.admin`alter system set synchronous_standby_names = 'nobody'`;
    await realtime.admin`select pg_reload_conf()`;
    try {
      const held = realtime.database.sql.begin(async (sql) => {
        // The session learns of the new setting a moment after the server.
        await expect.poll(
          async () => (await sql`show synchronous_standby_names`)[0]!.synchronous_standby_names,
          POLL,
        ).toBe("nobody");
        await sql`set local synchronous_commit = on`;
        await sql`insert into public.things (body) values ('held')`;
      }).catch(() => {});
      const waiting = () =>
        realtime.admin`select pid from pg_stat_activity
          where datname = current_database() and wait_event = 'SyncRep'`;
      await expect.poll(async () => (await waiting()).length, POLL).toBe(1);
      await realtime.admin`select pg_sleep(0.3)`;
      expect(heard.changes).toEqual([]);
      for (const { pid } of await waiting()) await realtime.admin`select pg_cancel_backend(${pid})`;
      await held;
      await expect.poll(() => heard.changes.length, POLL).toBe(1);
    } finally {
      await realtime.admin`alter system reset synchronous_standby_names`;
      await realtime.admin`select pg_reload_conf()`;
    }
  });
});

describe("a policy", () => {
  test("that fails for one subscriber keeps nothing from the others", async () => {
    await realtime.database.sql.unsafe(`
      alter table public.things enable row level security;
      create policy "Fails for some" on public.things for select to authenticated
        using (case when auth.jwt() ->> 'broken' = 'yes' then (1 / (id - id)) = 1 else true end)`);
    const user = randomUUID();
    const broken = await listen(
      realtime.client(undefined, {
        token: () => realtime.userToken(user, { claims: { broken: "yes" } }),
      }),
      { changes: [things] },
    );
    const sound = await listen(realtime.client(user), { changes: [things] });
    await insert();
    await expect.poll(() => sound.changes.length, POLL).toBe(1);
    expect(broken.changes).toEqual([]);
  });

  test("that hangs keeps nothing from the others", async () => {
    await realtime.database.sql.unsafe(`
      alter table public.things enable row level security;
      create policy "Hangs for some" on public.things for select to authenticated
        using (case when auth.jwt() ->> 'slow' = 'yes' then pg_sleep(60) is null else true end)`);
    const user = randomUUID();
    const token = () => realtime.userToken(user, { claims: { slow: "yes" } });
    const slow = await listen(realtime.client(undefined, { token }), { changes: [things] });
    const sound = await listen(realtime.client(user), { changes: [things] });
    await insert();
    await expect.poll(() => sound.changes.length, POLL).toBe(1);
    expect(slow.changes).toEqual([]);
  });
});

describe("a client that does not read", () => {
  test("is disconnected before much waits for it, and the others go on", async () => {
    const topic = "flood";
    const slow = await joinWithoutReading(topic);
    const fast = await listen(realtime.client(randomUUID()), { topic });
    const body = JSON.stringify({ text: "x".repeat(2_000_000) });
    for (let index = 0; index < 20; index++) {
      await fetch(`${realtime.url}/realtime/v1/api/broadcast/${topic}/events/e`, {
        method: "POST",
        headers: {
          authorization: `Bearer ${realtime.anonKey}`,
          "content-type": "application/json",
        },
        body,
      });
    }
    await expect.poll(() => fast.broadcasts.length, POLL).toBe(20);
    await expect.poll(() => realtime.output(), POLL).toContain("reads too slowly");
    slow.destroy();
  });
});

/** A WebSocket by hand, because a real one always reads. */
async function joinWithoutReading(topic: string): Promise<Socket> {
  const { hostname, port } = new URL(realtime.url);
  const socket = connect(Number(port), hostname);
  socket.write(
    `GET /realtime/v1/websocket?apikey=${realtime.anonKey}&vsn=2.0.0 HTTP/1.1\r\nHost: ${hostname}\r\n` +
      "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n" +
      "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
  );
  const heard: Buffer[] = [];
  const until = async (text: string) => {
    await expect.poll(() => Buffer.concat(heard).toString("latin1"), POLL).toContain(text);
  };
  socket.on("data", (data) => heard.push(data));
  await until("101 Switching Protocols");
  const join = Buffer.from(
    JSON.stringify(["1", "1", `realtime:${topic}`, "phx_join", { config: {} }]),
  );
  // A text frame, masked with zeros, whose length fits the two bytes of the header.
  socket.write(Buffer.concat([Buffer.from([0x81, 0x80 | join.length, 0, 0, 0, 0]), join]));
  await until('"status":"ok"');
  socket.pause();
  return socket;
}

test("payloads and tokens do not reach the log", async () => {
  const user = randomUUID();
  const token = await realtime.userToken(user);
  const heard = await listen(realtime.client(undefined, { token: () => Promise.resolve(token) }), {
    changes: [things],
    config: { broadcast: { self: true } },
  });
  await heard.channel.send({ type: "broadcast", event: "e", payload: { password: "hunter2" } });
  await realtime.database.sql`insert into public.things (body) values ('s3cret')`;
  await expect.poll(() => [heard.changes.length, heard.broadcasts.length], POLL).toEqual([1, 1]);
  expect(realtime.output()).not.toMatch(/hunter2|s3cret/);
  expect(realtime.output()).not.toContain(token);
  expect(realtime.output()).not.toContain(realtime.anonKey);
});
