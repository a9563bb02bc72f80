/** Nothing is kept longer than its setting says: one old and one young row of each kind, and the job that cron runs. */
import { beforeAll, expect, test } from "vitest";
import { createRunningAgent, createWorld, type Person, type World } from "./support.ts";

let world: World;
let owner: Person;
let agentId: string;
beforeAll(async () => {
  world = await createWorld();
  owner = await world.person();
  agentId = await createRunningAgent(world, owner);
});

interface Kept {
  table: string;
  /** Makes a row of this age. */
  make(age: string): Promise<unknown>;
  /** The rows that `make` made. */
  where?: string;
  /** The job in cron. */
  job: string;
}

const expire = "remove-expired-records";
/** By key of the settings of category retention. */
const KEPT: Record<string, () => Kept> = {
  logs_days: () => ({
    table: "public.agent_logs",
    make: (age) => inPartition("agent_logs", age, "level, message", "'INFO', 'x'"),
    job: "drop-expired-partitions",
  }),
  metrics_days: () => ({
    table: "public.agent_metrics",
    make: (age) => inPartition("agent_metrics", age, "replicas", "1"),
    job: "drop-expired-partitions",
  }),
  container_events_days: () => ({
    table: "public.container_events",
    make: (age) =>
      inPartition(
        "container_events",
        age,
        "event, container_id, container_name",
        "'start', '1', 'x'",
      ),
    job: "drop-expired-partitions",
  }),
  conversations_days: () => ({
    table: "public.agent_conversations",
    make: (age) =>
      inPartition("agent_conversations", age, "conversation_id, role, content", "'c', 'user', 'x'"),
    job: "drop-expired-partitions",
  }),
  metric_minutes_days: () => ({
    table: "public.agent_metric_minutes",
    make: (age) => rolledUp("minute", age),
    job: "drop-expired-partitions",
  }),
  metric_hours_days: () => ({
    table: "public.agent_metric_hours",
    make: (age) => rolledUp("hour", age),
    job: "drop-expired-partitions",
  }),
  operations_days: () => ({
    table: "public.operations",
    where: "request @> '{\"made\": true}'",
    make: (age) =>
      world.sql.unsafe(`
        insert into public.operations (agent_id, user_id, kind, state, request, finished_at)
        values ('${agentId}', '${owner.id}', 'restart', 'succeeded', '{"made": true}', now() - interval '${age}')`),
    job: "remove-expired",
  }),
  security_events_days: () => ({
    table: "public.security_events",
    where: "message = 'made'",
    make: (age) =>
      world.sql.unsafe(`
        insert into public.security_events (event_type, severity, user_id, message, timestamp)
        values ('AUTH_FAILURE', 'LOW', '${owner.id}', 'made', now() - interval '${age}')`),
    job: "remove-security-events",
  }),
  security_scans_days: () => ({
    table: "public.security_scans",
    make: (age) =>
      world.sql.unsafe(`
        insert into public.security_scans (agent_id, user_id, state, generation, started_at, finished_at, created_at, error)
        values ('${agentId}', '${owner.id}', 'failed', 1, now() - interval '${age}', now() - interval '${age}',
          now() - interval '${age}', '{}')`),
    job: "remove-security-scans",
  }),
  audit_days: () => ({
    table: "public.audit_log",
    where: "action = 'made'",
    make: (age) =>
      world.sql.unsafe(`
        insert into public.audit_log (actor_kind, action, target_type, created_at)
        values ('system', 'made', 'test', now() - interval '${age}')`),
    job: expire,
  }),
  auth_audit_days: () => ({
    table: "auth.audit_log_entries",
    make: (age) =>
      world.sql.unsafe(`
        insert into auth.audit_log_entries (id, payload, created_at)
        values (gen_random_uuid(), '{}', now() - interval '${age}')`),
    job: expire,
  }),
  agent_events_days: () => ({
    table: "public.agent_events",
    where: "event_type = 'MADE'",
    make: (age) =>
      world.sql.unsafe(`
        insert into public.agent_events (agent_id, user_id, event_type, message, timestamp)
        values ('${agentId}', '${owner.id}', 'MADE', 'x', now() - interval '${age}')`),
    job: expire,
  }),
  api_keys_days: () => ({
    table: "public.api_keys",
    where: "label = 'test' and revoked_at is not null",
    make: async (age) => {
      const { keyId } = await world.withKey(owner, ["agents:read"]);
      await world.sql.unsafe(
        `update public.api_keys set revoked_at = now() - interval '${age}' where id = '${keyId}'`,
      );
    },
    job: expire,
  }),
  image_scans_days: () => ({
    table: "private.image_scans",
    make: (age) =>
      world.sql.unsafe(`
        insert into private.image_scans (image, vulnerabilities, scanned_at)
        values (gen_random_uuid()::text, '{}', now() - interval '${age}')`),
    job: expire,
  }),
  erasures_days: () => ({
    table: "public.erasures",
    make: (age) =>
      world.sql.unsafe(`
        insert into public.erasures (requested_by, state, requested_at, finished_at)
        values ('user', 'finished', now() - interval '${age}', now() - interval '${age}')`),
    job: expire,
  }),
};

async function inPartition(table: string, age: string, columns: string, values: string) {
  await world.sql.unsafe(`select private.ensure_partitions(now() - interval '${age}', '1 day')`);
  await world.sql.unsafe(`
    insert into public.${table} (agent_id, user_id, timestamp, ${columns})
    values ('${agentId}', '${owner.id}', now() - interval '${age}', ${values})`);
}

async function rolledUp(unit: string, age: string) {
  await world.sql.unsafe(`select private.ensure_partitions(now() - interval '${age}', '1 day')`);
  await world.sql.unsafe(`
    insert into public.agent_metric_${unit}s (agent_id, user_id, starts, samples, cpu_percent_samples,
      memory_usage_samples, requests_per_minute_samples, error_rate_samples, response_time_ms_samples)
    values ('${agentId}', '${owner.id}', date_trunc('${unit}', now() - interval '${age}'), 0, 0, 0, 0, 0, 0)`);
}

async function runJob(name: string): Promise<void> {
  const [job] = await world.sql`select command from cron.job where jobname = ${name}`;
  await world.sql.unsafe(job!.command);
}

test("every setting of the category is tried here", async () => {
  const rows = await world.sql<{ key: string }[]>`
    select key from public.settings where category = 'retention' order by key`;
  expect(rows.map(({ key }) => key)).toEqual(Object.keys(KEPT).sort());
});

test.each(Object.keys(KEPT))("%s holds", async (key) => {
  const { table, where = "true", make, job } = KEPT[key]!();
  await world.sql`
    update public.settings set value = '20' where category = 'retention' and key = ${key}`;
  const count = async () => {
    const [row] = await world.sql.unsafe(
      `select count(*)::integer as number from ${table} where ${where}`,
    );
    return row!.number as number;
  };
  const before = await count();
  // Older than the setting by the span of any partition, which goes as a whole.
  await make("90 days");
  await make("10 days");
  expect(await count()).toBe(before + 2);
  await runJob(job);
  expect(await count()).toBe(before + 1);
});

test("the audit log is kept for ever unless a setting says otherwise", async () => {
  const fresh = await createWorld();
  await fresh.sql`
    insert into public.audit_log (actor_kind, action, target_type, created_at)
    values ('system', 'ancient', 'test', now() - interval '20 years')`;
  await fresh.sql`select private.remove_expired_records()`;
  expect(await fresh.sql`select from public.audit_log where action = 'ancient'`).toHaveLength(1);
});

test("a deleted agent's row goes after agents.purge_after_days", async () => {
  await world.sql`update public.settings set value = '20' where key = 'purge_after_days'`;
  const ids = [];
  for (let n = 0; n < 2; n++) {
    const [made] = await world.sql`
      insert into public.agents (user_id, name) values (${owner.id}, ${`gone-${n}`}) returning id`;
    await owner.do((t) => t`select public.delete_agent(${made!.id})`);
    ids.push(made!.id);
  }
  const [row] = await world.sql`select purge_after - deleted_at = interval '20 days' as right
    from public.agents where id = ${ids[0]}`;
  expect(row!.right).toBe(true);
  await world.sql`update public.agents set purge_after = now() where id = ${ids[0]}`;
  await runJob("remove-expired");
  const left = await world.sql`select id from public.agents where id = any (${ids})`;
  expect(left.map(({ id }) => id)).toEqual([ids[1]]);
});
