import { randomUUID } from "node:crypto";
import { beforeAll, describe, expect, test } from "vitest";
import { listen, POLL } from "./support/listen.ts";
import { startRealtime, type TestRealtime } from "./support/realtime.ts";

const schema = `
  create table public.notes (
    id bigint generated always as identity primary key,
    user_id uuid not null,
    body text,
    score integer,
    secret text
  );
  alter table public.notes enable row level security;
  create policy "Owners can read their notes" on public.notes
    for select to authenticated using (user_id = (select auth.uid()));
  grant select (id, user_id, body, score) on public.notes to authenticated;
  grant select on public.notes to service_role;

  create table public.open_notes (id bigint primary key, body text, extra text);
  alter table public.open_notes replica identity full;
  grant select on public.open_notes to anon, authenticated;

  create table public.unpublished (id bigint primary key);
  grant select on public.unpublished to authenticated;

  create table public.keyless (body text);
  alter table public.keyless replica identity full;
  grant select on public.keyless to authenticated;

  create table public.unreadable (id bigint primary key, body text);
  grant select (body) on public.unreadable to authenticated;

  create table public.readings (
    id bigint not null, user_id uuid not null, at timestamptz not null, value integer,
    primary key (id, at)
  ) partition by range (at);
  create table private.readings_all partition of public.readings default;
  alter table public.readings enable row level security;
  create policy "Owners can read their readings" on public.readings
    for select to authenticated using (user_id = (select auth.uid()));
  grant select on public.readings to authenticated;

  alter publication supabase_realtime
    add table public.notes, public.open_notes, public.keyless, public.unreadable, public.readings;
`;

let realtime: TestRealtime;
beforeAll(async () => {
  realtime = await startRealtime({ schema });
});
const all = (table: string, filter?: string) => ({
  event: "*",
  schema: "public",
  table,
  ...(filter && { filter }),
});

async function insertNote(
  user: string,
  values: { body?: string; score?: number } = {},
): Promise<number> {
  const [row] = await realtime.database.sql`
    insert into public.notes (user_id, body, score, secret)
    values (${user}, ${values.body ?? "hello"}, ${values.score ?? 1}, 'hidden') returning id`;
  return Number(row!.id);
}

describe("a subscriber to its own rows", () => {
  test("hears of an insert, without the columns it may not read", async () => {
    const user = randomUUID();
    const heard = await listen(realtime.client(user), { changes: [all("notes")] });
    const id = await insertNote(user, { body: "first", score: 7 });
    await expect.poll(() => heard.changes, POLL).toEqual([{
      schema: "public",
      table: "notes",
      commit_timestamp: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/),
      eventType: "INSERT",
      new: { id, user_id: user, body: "first", score: 7 },
      old: {},
      errors: null,
    }]);
  });

  test("hears of an update with the key as the old record", async () => {
    const user = randomUUID();
    const id = await insertNote(user);
    const heard = await listen(realtime.client(user), {
      changes: [{ event: "UPDATE", schema: "public", table: "notes" }],
    });
    await realtime.database.sql`update public.notes set body = 'changed' where id = ${id}`;
    await expect.poll(() => heard.changes, POLL).toMatchObject([{
      eventType: "UPDATE",
      new: { id, body: "changed" },
      old: { id },
    }]);
    expect(Object.keys(heard.changes[0].old)).toEqual(["id"]);
  });

  test("hears of a delete with the primary key only", async () => {
    const user = randomUUID();
    const id = await insertNote(user);
    const heard = await listen(realtime.client(user), {
      changes: [{ event: "DELETE", schema: "public", table: "notes" }],
    });
    await realtime.database.sql`delete from public.notes where id = ${id}`;
    await expect.poll(() => heard.changes, POLL).toMatchObject([{
      eventType: "DELETE",
      new: {},
      old: { id },
    }]);
  });

  test("hears only of the kind of change it asked for", async () => {
    const user = randomUUID();
    const heard = await listen(realtime.client(user), {
      changes: [{ event: "INSERT", schema: "public", table: "notes" }],
    });
    const first = await insertNote(user);
    await realtime.database.sql`update public.notes set body = 'x' where id = ${first}`;
    const second = await insertNote(user);
    await expect.poll(() => heard.changes.map((change) => change.new.id), POLL).toEqual([
      first,
      second,
    ]);
  });

  test("hears changes in the order they were committed", async () => {
    const user = randomUUID();
    const heard = await listen(realtime.client(user), { changes: [all("notes")] });
    const ids: number[] = [];
    for (let index = 0; index < 50; index++) ids.push(await insertNote(user, { score: index }));
    await expect.poll(() => heard.changes.map((change) => change.new.id), POLL).toEqual(ids);
  });

  test("hears of what was committed as soon as the join was answered", async () => {
    const user = randomUUID();
    const client = realtime.client(user);
    await client.realtime.setAuth();
    const channel = client.channel("at-once");
    const heard: number[] = [];
    const id = await new Promise<number>((resolve, reject) => {
      channel
        .on("postgres_changes", { event: "*", schema: "public", table: "notes" }, (change) => {
          heard.push((change.new as { id: number }).id);
        })
        .subscribe((status) => {
          if (status === "SUBSCRIBED") insertNote(user).then(resolve, reject);
        });
    });
    await expect.poll(() => heard, POLL).toEqual([id]);
  });
});

describe("somebody else's rows", () => {
  test("are not told to a stranger", async () => {
    const [owner, stranger] = [randomUUID(), randomUUID()];
    const heard = await listen(realtime.client(stranger), { changes: [all("notes")] });
    await insertNote(owner);
    const own = await insertNote(stranger);
    await expect.poll(() => heard.changes.map((change) => change.new.id), POLL).toEqual([own]);
  });

  test("are not told to anon, who has no policy", async () => {
    const user = randomUUID();
    const witness = await listen(realtime.client(user), { changes: [all("notes")] });
    const heard = await listen(realtime.client(), { changes: [all("notes")] });
    await insertNote(user);
    await expect.poll(() => witness.changes.length, POLL).toBe(1);
    // Anon may read no column of the key: the platform says so and tells nothing of the row.
    await expect.poll(() => heard.changes.length, POLL).toBe(1);
    expect(heard.changes[0]).toMatchObject({ new: {}, errors: ["Error 401: Unauthorized"] });
  });

  test("are told to service_role, who bypasses the policies", async () => {
    const token = () => realtime.userToken(randomUUID(), { role: "service_role" });
    const user = randomUUID();
    const heard = await listen(realtime.client(undefined, { token }), {
      changes: [all("notes", `user_id=eq.${user}`)],
    });
    const id = await insertNote(user);
    await expect.poll(() => heard.changes, POLL).toMatchObject([{ new: { id, secret: "hidden" } }]);
  });
});

describe("a filter", () => {
  test.each([
    ["eq", "score=eq.5", [5]],
    ["neq", "score=neq.5", [3, 10]],
    ["lt", "score=lt.5", [3]],
    ["lte", "score=lte.5", [3, 5]],
    ["gt", "score=gt.5", [10]],
    ["gte", "score=gte.5", [5, 10]],
    ["in", "score=in.(3,10)", [3, 10]],
    ["not", "score=not.in.(3,10)", [5]],
    ["like", "body=like.score 1%", [10]],
    ["two conditions", "score=gt.3,score=lt.10", [5]],
    ["a quoted value", 'body=eq."score 5"', [5]],
  ])("%s lets matching rows through only", async (_, filter, expected) => {
    const user = randomUUID();
    const heard = await listen(realtime.client(user), { changes: [all("notes", filter)] });
    const witness = await listen(realtime.client(user), { changes: [all("notes")] });
    for (const score of [3, 5, 10]) await insertNote(user, { score, body: `score ${score}` });
    await expect.poll(() => witness.changes.length, POLL).toBe(3);
    await expect.poll(() => heard.changes.map((change) => change.new.score), POLL).toEqual(
      expected,
    );
  });

  test("with a column that the caller may not read is refused", async () => {
    const heard = await listen(realtime.client(randomUUID()), {
      changes: [all("notes", "secret=eq.hidden")],
      wait: "answered",
    });
    await expect.poll(() => heard.system[0], POLL).toMatchObject({
      extension: "postgres_changes",
      status: "error",
      message: expect.stringContaining("invalid column for filter secret"),
    });
  });

  test("with a value of another type is refused", async () => {
    const heard = await listen(realtime.client(randomUUID()), {
      changes: [all("notes", "user_id=eq.nobody")],
      wait: "answered",
    });
    await expect.poll(() => heard.system[0]?.message, POLL).toContain(
      "ERROR 22P02 (invalid_text_representation) invalid input syntax for type uuid",
    );
  });

  test("with an unknown operator is refused in Realtime's words", async () => {
    const heard = await listen(realtime.client(randomUUID()), {
      changes: [all("notes", "body=foo.hey")],
      wait: "answered",
    });
    await expect.poll(() => heard.system[0]?.message, POLL)
      .toBe('Error parsing `filter` params: ["foo", "hey"]');
  });

  test("does not match a deleted row by a column that its identity lacks", async () => {
    const user = randomUUID();
    const id = await insertNote(user, { score: 4 });
    const heard = await listen(realtime.client(user), { changes: [all("notes", "score=eq.4")] });
    await realtime.database.sql`delete from public.notes where id = ${id}`;
    const later = await insertNote(user, { score: 4 });
    await expect.poll(() => heard.changes.map((change) => change.new.id), POLL).toEqual([later]);
  });
});

describe("a table", () => {
  test("outside the publication is refused in Realtime's words", async () => {
    const heard = await listen(realtime.client(randomUUID()), {
      changes: [all("unpublished")],
      wait: "answered",
    });
    await expect.poll(() => heard.system[0], POLL).toMatchObject({
      status: "error",
      message: "Unable to subscribe to changes with given parameters. Please check Realtime is " +
        "enabled for the given connect parameters: [event: *, schema: public, " +
        "table: unpublished, filters: [], select: nil]",
    });
  });

  test("without a primary key is told as an error", async () => {
    const heard = await listen(realtime.client(randomUUID()), { changes: [all("keyless")] });
    await realtime.database.sql`insert into public.keyless values ('x')`;
    await expect.poll(() => heard.changes, POLL).toMatchObject([
      { new: {}, errors: ["Error 400: Bad Request, no primary key"] },
    ]);
  });

  test("whose key the caller may not read is told as an error", async () => {
    const heard = await listen(realtime.client(randomUUID()), { changes: [all("unreadable")] });
    await realtime.database.sql`insert into public.unreadable values (1, 'x')`;
    await expect.poll(() => heard.changes, POLL).toMatchObject([
      { new: {}, errors: ["Error 401: Unauthorized"] },
    ]);
  });

  test("without row level security and with a full identity tells the whole old row", async () => {
    const heard = await listen(realtime.client(), { changes: [all("open_notes")] });
    await realtime.database.sql`insert into public.open_notes values (1, 'a', 'b')`;
    await realtime.database.sql`update public.open_notes set body = 'c' where id = 1`;
    await realtime.database.sql`delete from public.open_notes where id = 1`;
    await expect.poll(() => heard.changes.map(({ eventType, old }) => [eventType, old]), POLL)
      .toEqual([
        ["INSERT", {}],
        ["UPDATE", { id: 1, body: "a", extra: "b" }],
        ["DELETE", { id: 1, body: "c", extra: "b" }],
      ]);
  });

  test("in partitions of another schema appears as the table", async () => {
    const user = randomUUID();
    const heard = await listen(realtime.client(user), {
      changes: [all("readings", `user_id=eq.${user}`)],
    });
    await realtime.database.sql`
      insert into public.readings values (1, ${user}, now(), 5), (2, ${randomUUID()}, now(), 6)`;
    await expect.poll(() => heard.changes, POLL).toMatchObject([
      { schema: "public", table: "readings", new: { id: 1, value: 5 } },
    ]);
  });

  test("that gets another column tells it from then on", async () => {
    const heard = await listen(realtime.client(), { changes: [all("open_notes")] });
    await realtime.database.sql`insert into public.open_notes values (20, 'a', 'b')`;
    await realtime.database.sql`alter table public.open_notes add column added integer default 9`;
    await realtime.database.sql`insert into public.open_notes values (21, 'a', 'b')`;
    await expect.poll(() => heard.changes.map((change) => change.new.added), POLL)
      .toEqual([undefined, 9]);
  });
});

describe("subscriptions", () => {
  test("to a whole schema hear of each of its tables", async () => {
    const user = randomUUID();
    const heard = await listen(realtime.client(user), {
      changes: [{ event: "*", schema: "public" }],
    });
    await insertNote(user);
    await realtime.database.sql`insert into public.open_notes (id) values (30)`;
    await expect.poll(() => heard.changes.map(({ table }) => table), POLL)
      .toEqual(["notes", "open_notes"]);
  });

  test("with a selection get these columns and the key", async () => {
    const user = randomUUID();
    const heard = await listen(realtime.client(user), {
      changes: [{ ...all("notes"), select: ["body"] }],
    });
    const id = await insertNote(user, { body: "short" });
    await expect.poll(() => heard.changes[0]?.new, POLL).toEqual({ id, body: "short" });
  });

  test("of one channel each get what they asked for", async () => {
    const user = randomUUID();
    const high: number[] = [];
    const every: number[] = [];
    const client = realtime.client(user);
    await client.realtime.setAuth();
    const channel = client.channel("two-bindings");
    const score = (list: number[]) => (change: { new: { score?: number } }) =>
      list.push(change.new.score!);
    channel
      .on("postgres_changes", { event: "INSERT", schema: "public", table: "notes" }, score(every))
      .on(
        "postgres_changes",
        { event: "INSERT", schema: "public", table: "notes", filter: "score=gt.5" },
        score(high),
      );
    await new Promise<void>((resolve) =>
      channel.subscribe((status) => status === "SUBSCRIBED" && resolve())
    );
    for (const value of [1, 9]) await insertNote(user, { score: value });
    await expect.poll(() => [every, high], POLL).toEqual([[1, 9], [9]]);
  });

  test("end with the channel", async () => {
    const user = randomUUID();
    const client = realtime.client(user);
    const gone = await listen(client, { changes: [all("notes")] });
    const stays = await listen(client, { changes: [all("notes")] });
    await client.removeChannel(gone.channel);
    await insertNote(user);
    await expect.poll(() => stays.changes.length, POLL).toBe(1);
    expect(gone.changes).toEqual([]);
  });

  test("follow a changed grant at once", async () => {
    const user = randomUUID();
    const heard = await listen(realtime.client(user), { changes: [all("notes")] });
    await realtime.database.sql`revoke select (score) on public.notes from authenticated`;
    try {
      await insertNote(user);
      await expect.poll(() => heard.changes.length, POLL).toBe(1);
      expect(heard.changes[0].new).not.toHaveProperty("score");
    } finally {
      await realtime.database.sql`grant select (score) on public.notes to authenticated`;
    }
  });
});

test("a row above 1 MiB comes without its large values and says so", async () => {
  const heard = await listen(realtime.client(), { changes: [all("open_notes")] });
  await realtime.database.sql`
    insert into public.open_notes (id, body, extra) values (40, 'small', repeat('x', 1200000))`;
  await expect.poll(() => heard.changes, POLL).toMatchObject([{
    new: { id: 40, body: "small" },
    errors: ["Error 413: Payload Too Large"],
  }]);
  expect(heard.changes[0].new).not.toHaveProperty("extra");
});

test("a large value that did not change is in the record all the same when the identity is full", async () => {
  await realtime.database.sql`
    insert into public.open_notes (id, body, extra)
    select 50, 'a', string_agg(md5(n::text), '') from generate_series(1, 2000) n`;
  const heard = await listen(realtime.client(), { changes: [all("open_notes", "id=eq.50")] });
  await realtime.database.sql`update public.open_notes set body = 'b' where id = 50`;
  await expect.poll(() => heard.changes[0]?.new.extra?.length, POLL).toBe(64_000);
});
