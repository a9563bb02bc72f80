-- Health of the platform: what was measured last of each cluster and of each service, and what the database tells of
-- itself. The worker measures clusters and services; the api function measures services too when nobody did lately.
--
-- Adds: cluster_health, platform_health for clients; private.service_health, claims of measurements, figures.
-- Mind: a measurement that is older than a minute is no measurement any more; readers say "unavailable" then.

create table public.cluster_health (
  cluster_id uuid primary key references public.clusters (id) on delete cascade,
  status text not null,
  orchestrator text,
  version text,
  response_time_ms integer,
  message text,
  nodes_ready integer,
  nodes_total integer,
  pods jsonb,
  containers jsonb,
  cpu_total double precision,
  cpu_used double precision,
  memory_total bigint,
  memory_used bigint,
  checked_at timestamptz not null default now(),
  constraint status_is_known check (status in ('healthy', 'degraded', 'unhealthy')),
  constraint figures_are_objects check (
    (pods is null or jsonb_typeof(pods) = 'object') and (containers is null or jsonb_typeof(containers) = 'object')
  )
);
comment on table public.cluster_health is 'Last measurement of each cluster, by the worker. Null is what the cluster did not tell.';
comment on column public.cluster_health.message is 'Why it is not healthy, in our words.';
comment on column public.cluster_health.pods is '{total, running, pending, failed} of a Kubernetes cluster.';
comment on column public.cluster_health.containers is '{total, running, stopped} of a Docker engine, also those that are not ours.';
comment on column public.cluster_health.cpu_total is 'Cores of all nodes; cpu_used: cores in use on them, where the cluster measures.';
comment on column public.cluster_health.memory_total is 'Bytes of all nodes; memory_used: bytes in use on them, where the cluster measures.';

-- Unlogged, like all that is measured anew within seconds.
create unlogged table private.service_health (
  service text primary key,
  status text not null,
  response_time_ms integer,
  details jsonb not null default '{}',
  checked_at timestamptz not null,
  constraint status_is_known check (status in ('healthy', 'degraded', 'unhealthy', 'unavailable'))
);
comment on table private.service_health is
  'Last measurement of auth, realtime, storage, functions, registry and redis. unavailable: the project has none.';

create unlogged table private.health_rounds (
  subject text primary key,
  claimed_at timestamptz not null
);
comment on table private.health_rounds is 'When a measurement was last begun: services, or cluster:<id>. It keeps several workers from measuring the same.';

insert into public.settings (category, key, value, description) values
  ('collection', 'health_seconds', '15', 'Seconds between two measurements of a cluster and of the services.');

create function private.claim_health_checks() returns jsonb
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  pause constant interval := make_interval(secs => (private.setting('collection', 'health_seconds'))::double precision);
  claimed text[];
begin
  with due as (
    insert into private.health_rounds as r (subject, claimed_at)
    select s.subject, clock_timestamp()
    from (
      select 'services' as subject union all select 'cluster:' || c.id::text from public.clusters c where c.enabled order by 1
    ) s
    on conflict (subject) do update set claimed_at = excluded.claimed_at where r.claimed_at <= excluded.claimed_at - pause
    returning r.subject
  )
  select coalesce(array_agg(d.subject), '{}') into claimed from due d;
  return jsonb_build_object('services', 'services' = any (claimed), 'clusters', coalesce((
    select jsonb_agg(private.cluster_connection(c))
    from public.clusters c where 'cluster:' || c.id::text = any (claimed)
  ), '[]'));
end;
$$;
comment on function private.claim_health_checks is
  'What is due to be measured → {services: boolean, clusters: [row with credential]}; the same again after collection.health_seconds. Holds secrets: never to be logged. Definer: called by the worker.';

create function private.record_cluster_health(cluster_id uuid, measured jsonb) returns void
language sql volatile security definer
set search_path = ''
as $$
  insert into public.cluster_health as h (
    cluster_id, status, orchestrator, version, response_time_ms, message, nodes_ready, nodes_total, pods, containers,
    cpu_total, cpu_used, memory_total, memory_used
  )
  select c.id, m.status, m.orchestrator, m.version, m.response_time_ms, left(m.message, 500), m.nodes_ready, m.nodes_total,
    nullif(m.pods, 'null'), nullif(m.containers, 'null'), m.cpu_total, m.cpu_used, m.memory_total, m.memory_used
  from jsonb_populate_record(null::public.cluster_health, measured) m, public.clusters c
  where c.id = record_cluster_health.cluster_id
  on conflict on constraint cluster_health_pkey do update set
    status = excluded.status, orchestrator = excluded.orchestrator, version = excluded.version,
    response_time_ms = excluded.response_time_ms, message = excluded.message, nodes_ready = excluded.nodes_ready,
    nodes_total = excluded.nodes_total, pods = excluded.pods, containers = excluded.containers,
    cpu_total = excluded.cpu_total, cpu_used = excluded.cpu_used, memory_total = excluded.memory_total,
    memory_used = excluded.memory_used, checked_at = now();
$$;
comment on function private.record_cluster_health is
  'Keeps a measurement of a cluster: columns of cluster_health as JSON. Definer: called by the worker.';

create function private.record_service_health(measured jsonb) returns void
language sql volatile security definer
set search_path = ''
as $$
  insert into private.service_health as s (service, status, response_time_ms, details, checked_at)
  select m.key, m.value ->> 'status', (m.value ->> 'response_time_ms')::integer, coalesce(m.value -> 'details', '{}'),
    (m.value ->> 'checked_at')::timestamptz
  from jsonb_each(measured) m order by m.key
  on conflict (service) do update set
    status = excluded.status, response_time_ms = excluded.response_time_ms, details = excluded.details, checked_at = excluded.checked_at
  where s.checked_at < excluded.checked_at;
$$;
comment on function private.record_service_health is
  'Keeps measurements of services {name: {status, response_time_ms, details, checked_at}}; an older one never replaces a newer. Definer: called by the worker and the api function.';

create function private.fresh_service_health(max_age interval) returns jsonb
language sql stable security definer
set search_path = ''
as $$
  select coalesce(jsonb_object_agg(s.service, to_jsonb(s) - 'service'), '{}')
  from private.service_health s where s.checked_at > clock_timestamp() - max_age;
$$;
comment on function private.fresh_service_health is
  'Measurements of services that are not older → {name: {status, response_time_ms, details, checked_at}}. Definer: the table is closed to clients.';

create function private.database_load() returns jsonb
language sql volatile
set search_path = ''
as $$
  -- Of other roles' sessions only members of pg_read_all_stats see the state; then nothing is known of activity.
  select jsonb_build_object(
    'total', count(*) filter (where a.backend_type = 'client backend'),
    'active', case when bool_and(a.backend_type is not null) then count(*) filter (where a.backend_type = 'client backend' and a.state = 'active') end,
    'idle', case when bool_and(a.backend_type is not null) then count(*) filter (where a.backend_type = 'client backend' and a.state like 'idle%') end,
    'max', current_setting('max_connections')::integer,
    'started_at', pg_postmaster_start_time()
  )
  from pg_catalog.pg_stat_activity a;
$$;
comment on function private.database_load is
  'Connections of the database server → {total, active, idle, max, started_at}. Called by the api function as its own role.';

create function private.platform_figures() returns jsonb
language plpgsql stable security definer
set search_path = ''
as $$
declare
  buckets bigint;
  subscriptions bigint;
begin
  if to_regclass('storage.buckets') is not null then
    execute 'select count(*) from storage.buckets' into buckets;
  end if;
  if to_regclass('realtime.subscription') is not null then
    execute 'select count(distinct s.subscription_id) from realtime.subscription s' into subscriptions;
  end if;
  return jsonb_build_object(
    -- Sessions never end by themselves where the project sets no limit: active is what was used within a day.
    'active_sessions', (
      select count(*) from auth.sessions s
      where (s.not_after is null or s.not_after > now())
        and coalesce(s.refreshed_at at time zone 'UTC', s.updated_at, s.created_at) > now() - interval '1 day'
    ),
    'buckets', buckets, 'stored_bytes', private.stored_bytes(), 'subscriptions', subscriptions,
    'last_image_scan', (select max(i.scanned_at) from private.image_scans i)
  );
end;
$$;
comment on function private.platform_figures is
  'Counts over all users → {active_sessions (used within a day), buckets, stored_bytes, subscriptions, last_image_scan (when an image was last scanned for vulnerabilities)}, null for what the project has not. Definer: the services'' tables are closed to clients.';

create function private.measured_clusters() returns jsonb
language sql stable security definer
set search_path = ''
as $$
  select coalesce(jsonb_agg(jsonb_build_object(
    'kind', c.kind, 'orchestrator', h.orchestrator, 'status', h.status, 'response_time_ms', h.response_time_ms,
    'nodes', case when h.nodes_total is not null then jsonb_build_object('total', h.nodes_total, 'ready', h.nodes_ready) end,
    'pods', h.pods, 'checked_at', h.checked_at
  ) || case when private.has_permission('clusters:read') then jsonb_build_object('id', c.id, 'name', c.name) else '{}' end
  order by c.name), '[]')
  from public.clusters c
  left join public.cluster_health h on h.cluster_id = c.id and h.checked_at > now() - interval '1 minute'
  where c.enabled;
$$;
comment on function private.measured_clusters is
  'Health of the enabled clusters, status null where nothing was measured within a minute; who they are is for clusters:read. Definer: users may not read clusters.';

create function private.agents_on_kubernetes() returns bigint
language sql stable security definer
set search_path = ''
as $$
  select count(*) from public.deployments d
  where d.user_id = (select auth.uid()) and d.orchestrator in ('kubernetes', 'portainer-kubernetes');
$$;
comment on function private.agents_on_kubernetes is 'Agents of the caller that run on Kubernetes. Definer: also for an API key without agents:read.';

create function public.platform_health() returns jsonb
language plpgsql stable
set search_path = ''
as $$
begin
  return jsonb_build_object(
    'permissions', to_jsonb(private.caller_permissions()), 'clusters', private.measured_clusters(),
    'services', private.fresh_service_health(interval '1 minute'), 'agents_on_kubernetes', private.agents_on_kubernetes()
  );
end;
$$;
comment on function public.platform_health is
  'Last measurements (seeds 000–002: GET /api/health) → {clusters: [{kind, orchestrator, status | null, response_time_ms, nodes {total, ready}, pods {total, running, pending, failed}, checked_at}], services: {name: {status, response_time_ms, details, checked_at}}, permissions and agents_on_kubernetes of the caller}. Every signed-in user may ask.';

grant execute on function
  private.fresh_service_health, private.measured_clusters, private.agents_on_kubernetes to authenticated;
grant execute on function public.platform_health to authenticated;
grant select on public.cluster_health to authenticated;
grant select, insert, update, delete on public.cluster_health to service_role;

alter table public.cluster_health enable row level security;
create policy "Operators read the health of clusters" on public.cluster_health
  for select to authenticated using ((select private.has_permission('clusters:read')));
