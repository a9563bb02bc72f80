import type { PlatformFacts } from "../contract/facts.ts";
import { runStatements } from "./caller.ts";
import type { Database } from "./connect.ts";
import { sqlText } from "./literal.ts";

/** How long what the catalog says is believed: it changes with migrations. */
const BELIEVED_MS = 15_000;

const QUESTION = sqlText`
  with wanted (name) as (
    values ('agents'), ('deployments'), ('operations'), ('agent_events'), ('agent_logs'), ('agent_metrics')
  ), tables as (
    select w.name, c.oid, c.relrowsecurity
      and exists (select from pg_catalog.pg_policy p where p.polrelid = c.oid) as guarded
    from wanted w
    left join pg_catalog.pg_class c on c.oid = to_regclass('public.' || w.name)
  ), followed as (
    -- Not pg_publication_tables: that lists the partitions of a table instead of the table.
    select array_agg(c.relname::text) as names
    from pg_catalog.pg_publication p
    join pg_catalog.pg_class c on c.relnamespace = 'public'::regnamespace
      and (p.puballtables or exists (
        select from pg_catalog.pg_publication_rel r where r.prpubid = p.oid and r.prrelid = c.oid
      ))
    where p.pubname = 'supabase_realtime'
  )
  select jsonb_build_object(
    'tablesExist', (select bool_and(t.oid is not null) from tables t),
    'rlsActive', (select coalesce(bool_and(t.guarded), false) from tables t),
    'realTimeActive', (select coalesce(f.names @> array['agents', 'agent_events', 'agent_metrics', 'agent_logs'], false) from followed f),
    'logsRealTime', (select coalesce('agent_logs' = any (f.names), false) from followed f),
    'conversationsTable', (select c.relname from pg_catalog.pg_class c where c.oid = to_regclass('public.agent_conversations')),
    'metricsTable', (select c.relname from pg_catalog.pg_class c where c.oid = to_regclass('public.agent_metrics')),
    'logsTable', (select c.relname from pg_catalog.pg_class c where c.oid = to_regclass('public.agent_logs'))
  ) as result`;

/**
 * Makes the reader of what edition 2 says of the Supabase side: tables, policies and publication,
 * from the catalog, asked at most every 15 seconds. Gives null when it cannot be read:
 * an answer is not withheld for want of these.
 */
export function createPlatformFacts(sql: Database, now: () => Date) {
  let known: PlatformFacts | null = null;
  let until = 0;
  let asking: Promise<PlatformFacts | null> | null = null;

  async function ask(): Promise<PlatformFacts | null> {
    try {
      const [rows] = await runStatements(sql, [QUESTION]);
      known = rows![0]!.result as PlatformFacts;
    } catch {
      known = null;
    }
    until = now().getTime() + BELIEVED_MS;
    asking = null;
    return known;
  }

  return (): Promise<PlatformFacts | null> => {
    if (known !== null && now().getTime() < until) return Promise.resolve(known);
    return asking ??= ask();
  };
}
