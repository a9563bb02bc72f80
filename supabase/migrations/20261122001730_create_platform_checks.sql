-- Checks that a client makes of the platform over PostgREST (seed 002): is it there, and does row level security hold?
--
-- Adds: health_check and check_rls_policies, both callable by GET. The second reads the catalog, so it is right also for
-- tables, views and policies that come later.

create function private.isolation_findings() returns table (object text, problem text)
language sql stable
set search_path = ''
as $$
  -- What a client role may touch at all; a column grant is enough.
  with reachable as (
    select c.oid, c.relname, c.relkind, c.relrowsecurity, c.reloptions
    from pg_catalog.pg_class c
    where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p', 'v', 'm', 'f') and not c.relispartition
      and exists (
        select from unnest(array['anon', 'authenticated']) role
        where has_any_column_privilege(role, c.oid, 'select, insert, update') or has_table_privilege(role, c.oid, 'delete')
      )
  )
  select r.relname::text, 'row level security is off' from reachable r where r.relkind in ('r', 'p') and not r.relrowsecurity
  union all
  select r.relname::text, 'runs with the rights of its owner' from reachable r
  where r.relkind = 'v' and not coalesce(r.reloptions && array['security_invoker=true', 'security_invoker=on', 'security_invoker=1'], false)
  union all
  select r.relname::text, 'cannot have row level security' from reachable r where r.relkind in ('m', 'f')
  union all
  -- Rows that belong to somebody, shown or open to all.
  select distinct r.relname::text, 'a policy lets everybody reach the rows of every owner'
  from reachable r
  join pg_catalog.pg_policy p on p.polrelid = r.oid and p.polpermissive
    and (pg_get_expr(p.polqual, p.polrelid) = 'true' or (p.polqual is null and pg_get_expr(p.polwithcheck, p.polrelid) = 'true'))
    and p.polroles && array[0::oid, 'anon'::regrole::oid, 'authenticated'::regrole::oid]
  where exists (
    select from pg_catalog.pg_attribute a where a.attrelid = r.oid and a.attname in ('user_id', 'owner_id') and not a.attisdropped
  );
$$;
comment on function private.isolation_findings is 'Objects of the exposed schema through which one user could reach the rows of another, and why.';

create function private.retention_is_scheduled() returns boolean
language sql stable security definer
set search_path = ''
as $$
  select count(*) = 2 from cron.job j
  where j.active and j.jobname in ('remove-expired', 'drop-expired-partitions');
$$;
comment on function private.retention_is_scheduled is
  'Whether the jobs that remove what is over run at all. Definer: cron is closed to clients.';

create function private.realtime_subscriptions(user_id uuid) returns integer
language plpgsql stable security definer
set search_path = ''
as $$
declare
  number integer;
begin
  -- Of others only the platform itself may ask.
  if to_regclass('realtime.subscription') is null or (select auth.uid()) <> realtime_subscriptions.user_id then
    return null;
  end if;
  -- One row for each table that a binding follows; partitions are tables of their own on the hosted platform.
  execute 'select count(distinct s.subscription_id) from realtime.subscription s where s.claims ->> ''sub'' = $1'
    into number using realtime_subscriptions.user_id::text;
  return number;
end;
$$;
comment on function private.realtime_subscriptions is
  'postgres_changes subscriptions that a user has open now; null where Realtime does not write them down, and for a caller who asks of somebody else. Definer: its table is closed to clients.';

create function public.check_rls_policies() returns jsonb
language plpgsql stable
set search_path = ''
as $$
declare
  findings jsonb;
  tables jsonb;
begin
  select coalesce(jsonb_agg(to_jsonb(f) order by f.object, f.problem), '[]') into findings from private.isolation_findings() f;
  select coalesce(jsonb_object_agg(c.relname, jsonb_build_object(
    'rls_enabled', c.relrowsecurity,
    'policies_count', (select count(*) from pg_catalog.pg_policy p where p.polrelid = c.oid)
  )), '{}') into tables
  from pg_catalog.pg_class c
  where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition;
  return jsonb_build_object(
    'tables', tables,
    'user_isolation', case when findings = '[]' then 'ACTIVE' else 'INACTIVE' end,
    'compliance_status', case when findings = '[]' and private.retention_is_scheduled() then 'GDPR_COMPLIANT' else 'NOT_COMPLIANT' end,
    'findings', findings
  );
end;
$$;
comment on function public.check_rls_policies is
  'Row level security of every table in the exposed schema, from the catalog (seed 002) → {tables: {name: {rls_enabled, policies_count}}, user_isolation: ACTIVE | INACTIVE (nothing that clients reach gets round it), compliance_status: GDPR_COMPLIANT | NOT_COMPLIANT (isolation is active and the jobs that remove expired data are scheduled; no more than that is checked), findings: [{object, problem}]}.';

create function public.health_check() returns jsonb
language plpgsql stable
set search_path = ''
as $$
declare
  services constant jsonb := private.fresh_service_health(interval '1 minute');
begin
  return jsonb_build_object(
    'supabase_health', jsonb_build_object(
      -- It is what answers.
      'database', 'HEALTHY',
      'auth', coalesce(upper(services #>> '{auth,status}'), 'UNAVAILABLE'),
      'realtime', coalesce(upper(services #>> '{realtime,status}'), 'UNAVAILABLE'),
      'storage', coalesce(upper(services #>> '{storage,status}'), 'UNAVAILABLE'),
      'edge_functions', coalesce(upper(services #>> '{functions,status}'), 'UNAVAILABLE')
    ),
    'user_specific', jsonb_build_object(
      'rls_policies', case when exists (select from private.isolation_findings()) then 'INACTIVE' else 'ACTIVE' end,
      'user_data_accessible', exists (select from public.profiles p where p.id = (select auth.uid())),
      'real_time_subscriptions', private.realtime_subscriptions((select auth.uid()))
    ),
    'last_check', (select min(s.value ->> 'checked_at') from jsonb_each(services) s)
  );
end;
$$;
comment on function public.health_check is
  'Health of Supabase as it was measured within the last minute, and of the caller''s access (seed 002) → {supabase_health: {database, auth, realtime, storage, edge_functions: HEALTHY | DEGRADED | UNHEALTHY | UNAVAILABLE (unknown, or the project has none)}, user_specific: {rls_policies: ACTIVE | INACTIVE, user_data_accessible, real_time_subscriptions | null}, last_check}.';

grant execute on function
  private.isolation_findings, private.retention_is_scheduled, private.realtime_subscriptions to authenticated;
grant execute on function private.realtime_subscriptions to service_role;
grant execute on function public.check_rls_policies, public.health_check to authenticated;
