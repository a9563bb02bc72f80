/** Rules that hold for every object of the schema, also for those that come later. */
import { beforeAll, expect, test } from "vitest";
import { createWorld, type World } from "./support.ts";

let world: World;
beforeAll(async () => {
  world = await createWorld();
});

const names = async (query: string) =>
  (await world.sql.unsafe(query)).map((row) => row.name as string);

const functions =
  `from pg_proc p join pg_namespace n on n.oid = p.pronamespace where n.nspname in ('public', 'private')`;

test("every function pins its search path", async () => {
  expect(
    await names(`select p.oid::regprocedure::text as name ${functions}
    and not coalesce('search_path=""' = any (p.proconfig), false)`),
  ).toEqual([]);
});

test("every function says what it is for", async () => {
  expect(
    await names(
      `select p.oid::regprocedure::text as name ${functions} and obj_description(p.oid) is null`,
    ),
  ).toEqual([]);
});

test("definer rights are in private only, and argued", async () => {
  expect(
    await names(`select p.oid::regprocedure::text as name ${functions} and p.prosecdef
    and (n.nspname = 'public' or obj_description(p.oid) not like '%Definer:%')`),
  ).toEqual([]);
});

test("no function is executable by everybody or by anonymous callers but the guard of PostgREST and what policies ask", async () => {
  expect(
    await names(`select p.oid::regprocedure::text as name ${functions}
    and has_function_privilege('anon', p.oid, 'execute') and p.prorettype <> 'trigger'::regtype order by 1`),
  ).toEqual([
    "private.guard_request()",
    "private.may_use_agent_file(text,text,text)",
    "private.open_buckets()",
  ]);
});

test("every exposed table has row level security and a comment", async () => {
  expect(
    await names(
      `select c.relname as name from pg_class c where c.relnamespace = 'public'::regnamespace
    and c.relkind in ('r', 'p') and (not c.relrowsecurity or obj_description(c.oid) is null)`,
    ),
  ).toEqual([]);
});

test("every foreign key says what happens on deletion", async () => {
  expect(
    await names(`select conname || ' on ' || conrelid::regclass as name from pg_constraint
    where contype = 'f' and connamespace in ('public'::regnamespace, 'private'::regnamespace) and confdeltype = 'a'
      and conparentid = 0`),
  ).toEqual([]);
});

test("anonymous callers are granted no table", async () => {
  expect(
    await names(
      `select c.oid::regclass::text as name from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where n.nspname in ('public', 'private') and c.relkind in ('r', 'p', 'v')
      and has_table_privilege('anon', c.oid, 'select, insert, update, delete')`,
    ),
  ).toEqual([]);
});

test("there are partitions for today and the week ahead", async () => {
  const [made] = await world.sql`select private.ensure_partitions() as number`;
  expect(made?.number).toBe(0);
  const missing = await names(
    `select day::date::text as name from generate_series(now(), now() + interval '7 days', '1 day') day
    where to_regclass('private.agent_logs_' || to_char(day at time zone 'UTC', 'YYYYMMDD')) is null`,
  );
  expect(missing).toEqual([]);
});

test("partitions older than their retention are dropped, others are not", async () => {
  await world.sql`select private.ensure_partitions(now() - interval '20 days', interval '1 day')`;
  const before = await names(
    `select relname as name from pg_class where relkind = 'r' and relname like 'agent_logs_2%'`,
  );
  await world.sql`select private.drop_expired_partitions()`;
  const after = await names(
    `select relname as name from pg_class where relkind = 'r' and relname like 'agent_logs_2%'`,
  );
  expect(before.length - after.length).toBe(2);
});
