import { randomUUID } from "node:crypto";
import { beforeAll, describe, expect, test } from "vitest";
import { listen, POLL } from "./support/listen.ts";
import { startRealtime, type TestRealtime } from "./support/realtime.ts";

let realtime: TestRealtime;
beforeAll(async () => {
  realtime = await startRealtime({
    schema: `
      create table public.notes (id int primary key, owner uuid, text text);
      grant select on public.notes to authenticated;
      alter publication supabase_realtime add table public.notes;
    `,
  });
});

const NOTES = { event: "*", schema: "public", table: "notes" };
/** What realtime.subscription says of a user. */
const written = (user: string) =>
  realtime.admin`
    select entity::text, action_filter, filters::text, selected_columns, claims_role::text
    from realtime.subscription where claims ->> 'sub' = ${user} order by id`;
const open = async (user: string) => {
  const [row] = await realtime.admin`select private.realtime_subscriptions(${user}) as open`;
  return row!.open;
};

describe("what a client follows is written down", () => {
  test("with its table, its filter and who it is", async () => {
    const user = randomUUID();
    await listen(realtime.client(user), {
      changes: [{ ...NOTES, event: "INSERT", filter: "id=eq.7" }, NOTES],
    });
    expect(await written(user)).toEqual([
      {
        entity: "notes",
        action_filter: "INSERT",
        filters: '{"(id,eq,7,f)"}',
        selected_columns: null,
        claims_role: "authenticated",
      },
      expect.objectContaining({ action_filter: "*", filters: "{}" }),
    ]);
    expect(await open(user)).toBe(2);
  });

  test("until it leaves", async () => {
    const user = randomUUID();
    const client = realtime.client(user);
    const heard = await listen(client, { changes: [NOTES] });
    expect(await open(user)).toBe(1);
    await client.removeChannel(heard.channel);
    await expect.poll(() => open(user), POLL).toBe(0);
  });

  test("until its connection is gone", async () => {
    const user = randomUUID();
    const client = realtime.client(user);
    await listen(client, { changes: [NOTES] });
    await client.realtime.disconnect();
    await expect.poll(() => open(user), POLL).toBe(0);
  });

  test("once, after its token was renewed", async () => {
    const user = randomUUID();
    const client = realtime.client(user);
    await listen(client, { changes: [NOTES] });
    await client.realtime.setAuth(await realtime.userToken(user, { claims: { fresh: true } }));
    await expect.poll(async () => {
      const rows = await realtime.admin`
        select claims ->> 'fresh' as fresh from realtime.subscription where claims ->> 'sub' = ${user}`;
      return rows.map(({ fresh }) => fresh);
    }, POLL).toEqual(["true"]);
  });
});

test("what is not followed here is removed when the database is back", async () => {
  const user = randomUUID();
  await listen(realtime.client(user), { changes: [NOTES] });
  const stranger = randomUUID();
  await realtime.admin`
    insert into realtime.subscription (subscription_id, entity, claims)
    values (gen_random_uuid(), 'public.notes', ${
    realtime.admin.json({
      sub: stranger,
      role: "authenticated",
    })
  })`;
  await realtime.admin`
    select pg_terminate_backend(pid) from pg_stat_activity
    where application_name = 'realtime_replication_connection' and datname = current_database()`;
  await expect.poll(() => open(stranger), POLL).toBe(0);
  expect(await open(user)).toBe(1);
});
