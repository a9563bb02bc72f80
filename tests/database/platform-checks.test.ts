/** health_check and check_rls_policies: what a client can find out over PostgREST. */
import { afterEach, beforeAll, expect, test } from "vitest";
import { createWorld, type Person, refusal, type World } from "./support.ts";

interface Rls {
  tables: Record<string, { rls_enabled: boolean; policies_count: number }>;
  user_isolation: string;
  compliance_status: string;
  findings: { object: string; problem: string }[];
}

let world: World;
let user: Person;
beforeAll(async () => {
  world = await createWorld();
  user = await world.person();
});
afterEach(async () => {
  await world.sql.unsafe("drop view if exists loud; drop table if exists diary, notes cascade");
});

const rls = async () => (await user.do((t) => t`select check_rls_policies() as r`))[0]?.r as Rls;
const health = async () =>
  (await user.do((t) => t`select health_check() as h`))[0]?.h as Record<
    "supabase_health" | "user_specific",
    Record<string, unknown>
  >;

test("every table is listed with its policies, partitions are not", async () => {
  const { tables, user_isolation, compliance_status, findings } = await rls();
  expect(findings).toEqual([]);
  expect([user_isolation, compliance_status]).toEqual(["ACTIVE", "GDPR_COMPLIANT"]);
  for (const name of ["agents", "agent_metrics", "agent_logs"]) {
    expect(tables[name]).toMatchObject({ rls_enabled: true });
    expect(tables[name]?.policies_count).toBeGreaterThan(0);
  }
  const counted = await world.sql`
    select tablename as name, count(*)::int as number from pg_policies where schemaname = 'public' group by 1`;
  for (const { name, number } of counted) expect(tables[name]?.policies_count).toBe(number);
  expect(Object.keys(tables).filter((name) => /_\d{8}$/.test(name))).toEqual([]);
});

test("a table that somebody adds is found, open or closed", async () => {
  await world.sql`create table diary (id int primary key, user_id uuid)`;
  expect((await rls()).tables.diary).toEqual({ rls_enabled: false, policies_count: 0 });
  // Nobody is granted it: nobody reaches it.
  expect((await rls()).user_isolation).toBe("ACTIVE");
  await world.sql`grant select (id) on diary to authenticated`;
  expect(await rls()).toMatchObject({
    user_isolation: "INACTIVE",
    compliance_status: "NOT_COMPLIANT",
    findings: [{ object: "diary", problem: "row level security is off" }],
  });
  await world.sql`alter table diary enable row level security`;
  await world.sql`create policy "Own" on diary using (user_id = (select auth.uid()))`;
  expect((await rls()).tables.diary).toEqual({ rls_enabled: true, policies_count: 1 });
  expect((await rls()).user_isolation).toBe("ACTIVE");
});

test("a policy that hides nothing is found where rows have owners, and only there", async () => {
  await world.sql`create table diary (id int primary key, user_id uuid)`;
  await world.sql`create table notes (id int primary key)`;
  for (const table of ["diary", "notes"]) {
    await world.sql.unsafe(`alter table ${table} enable row level security;
      create policy "All" on ${table} for select to authenticated using (true);
      grant select on ${table} to authenticated`);
  }
  expect((await rls()).findings.map((finding) => finding.object)).toEqual(["diary"]);
});

test("a view that runs as its owner is found", async () => {
  await world.sql`create view loud as select id from agents`;
  await world.sql`grant select on loud to authenticated`;
  expect((await rls()).findings).toEqual([
    { object: "loud", problem: "runs with the rights of its owner" },
  ]);
  await world.sql`alter view loud set (security_invoker = true)`;
  expect((await rls()).user_isolation).toBe("ACTIVE");
});

test("who stops the retention is compliant no more", async () => {
  const [job] = await world.sql`select jobid from cron.job where jobname = 'remove-expired'`;
  await world.sql`select cron.alter_job(${job?.jobid}, active := false)`;
  expect(await rls()).toMatchObject({
    user_isolation: "ACTIVE",
    compliance_status: "NOT_COMPLIANT",
  });
  await world.sql`select cron.alter_job(${job?.jobid}, active := true)`;
});

test("health is what was measured, and unknown after a minute", async () => {
  const nothing = {
    database: "HEALTHY",
    auth: "UNAVAILABLE",
    realtime: "UNAVAILABLE",
    storage: "UNAVAILABLE",
    edge_functions: "UNAVAILABLE",
  };
  expect((await health()).supabase_health).toEqual(nothing);
  const record = (ago: string) =>
    world.sql`select private.record_service_health(jsonb_build_object(
      'auth', jsonb_build_object('status', 'healthy', 'checked_at', now() - ${ago}::interval),
      'realtime', jsonb_build_object('status', 'unhealthy', 'checked_at', now() - ${ago}::interval)))`;
  await record("2 minutes");
  expect((await health()).supabase_health).toEqual(nothing);
  await record("5 seconds");
  expect((await health()).supabase_health).toEqual({
    ...nothing,
    auth: "HEALTHY",
    realtime: "UNHEALTHY",
  });
});

test("health tells the caller's own access", async () => {
  expect((await health()).user_specific).toEqual({
    rls_policies: "ACTIVE",
    user_data_accessible: true,
    real_time_subscriptions: 0,
  });
  await world.sql`create table diary (id int primary key)`;
  await world.sql`grant select on diary to anon`;
  expect((await health()).user_specific.rls_policies).toBe("INACTIVE");
});

test("an older measurement never replaces a newer", async () => {
  const record = (status: string, ago: string) =>
    world.sql`select private.record_service_health(jsonb_build_object(
      'storage', jsonb_build_object('status', ${status}::text, 'checked_at', now() - ${ago}::interval)))`;
  await record("healthy", "5 seconds");
  await record("unhealthy", "9 seconds");
  expect((await health()).supabase_health.storage).toBe("HEALTHY");
});

test.each(["health_check", "check_rls_policies", "platform_health", "system_metrics"])(
  "%s is for those who signed in",
  async (name) => {
    const refused = await refusal(world.anonymous((t) => t.unsafe(`select public.${name}()`)));
    expect(refused.code).toBe("42501");
  },
);

test("the health of clusters is for operators", async () => {
  await world.sql`
    select private.record_cluster_health(${world.clusterId}, '{"status": "healthy", "response_time_ms": 3}')`;
  expect(await user.do((t) => t`select * from cluster_health`)).toHaveLength(0);
  const operator = await world.person("operator");
  expect(await operator.do((t) => t`select * from cluster_health`)).toHaveLength(1);
  const refused = await refusal(
    operator.do((t) => t`update cluster_health set status = 'unhealthy'`),
  );
  expect(refused.code).toBe("42501");
});
