-- Figures of the whole installation, or of one user's share of it: agents, containers, what they use, and how /api answers.
--
-- Adds: system_metrics for clients; private.request_counts, which the instances of the api function fill together.
-- Mind: what nobody measured is null. Docker tells what its hosts have but not what they use; there the agents' own use
-- stands for it.

-- Unlogged: a counter of the last minutes is worth nothing after a crash.
create unlogged table private.request_counts (
  minute timestamptz not null,
  -- All zeros for callers who did not prove who they are.
  user_id uuid not null,
  requests bigint not null,
  errors bigint not null,
  duration_ms double precision not null,
  primary key (minute, user_id)
) with (fillfactor = 70);
comment on table private.request_counts is
  'Requests to /api per minute and user, kept for an hour: how many, how many of them ended in a 5xx, and the time they took together.';

create function private.count_requests(counts jsonb) returns void
language sql volatile security definer
set search_path = ''
as $$
  -- In the order of the key, so that two instances cannot wait for each other.
  insert into private.request_counts as r (minute, user_id, requests, errors, duration_ms)
  select c.minute, c.user_id, c.requests, c.errors, c.duration_ms
  from jsonb_to_recordset(counts) c (minute timestamptz, user_id uuid, requests bigint, errors bigint, duration_ms double precision)
  order by 1, 2
  on conflict (minute, user_id) do update set
    requests = r.requests + excluded.requests, errors = r.errors + excluded.errors, duration_ms = r.duration_ms + excluded.duration_ms;
$$;
comment on function private.count_requests is
  'Adds what an instance counted: [{minute, user_id, requests, errors, duration_ms}]. Definer: called by the api function.';

select cron.schedule(
  'forget-request-counts', '*/10 * * * *', $$delete from private.request_counts where minute < now() - interval '1 hour'$$
);

create function private.system_metrics() returns jsonb
language plpgsql stable security definer
set search_path = ''
as $$
declare
  reached constant text := private.require_permission('monitoring:read');
  everybody constant boolean := reached = 'all' or private.has_permission('system:read');
  caller constant uuid := (select auth.uid());
  -- A range of owners, because a range can use the indexes on the owner.
  lowest constant uuid := case when everybody then '00000000-0000-0000-0000-000000000000' else caller end;
  highest constant uuid := case when everybody then 'ffffffff-ffff-ffff-ffff-ffffffffffff' else caller end;
  since constant timestamptz := date_trunc('minute', now()) - interval '5 minutes';
  total_agents bigint;
  states jsonb;
  containers jsonb;
  deployed jsonb;
  used record;
  performance jsonb;
begin
  select count(*) into total_agents from public.agents a
  where a.user_id between lowest and highest and a.deleted_at is null;

  select coalesce(jsonb_object_agg(s.state, s.number), '{}') into states from (
    select d.state, count(*) as number from public.deployments d where d.user_id between lowest and highest group by 1
  ) s;

  select jsonb_build_object(
    'total', count(*), 'running', count(*) filter (where c.fate = 'running'),
    'failed', count(*) filter (where c.fate = 'failed'), 'stopped', count(*) filter (where c.fate = 'stopped')
  ) into containers
  from (
    select case
        when e ->> 'status' = 'running' then 'running'
        -- One that was stopped on purpose ends with the code of the signal.
        when d.state in ('stopping', 'stopped', 'deleting') then 'stopped'
        when e ->> 'status' in ('dead', 'restarting') or (e ->> 'oom_killed')::boolean or (e ->> 'exit_code')::integer <> 0 then 'failed'
        else 'stopped'
      end as fate
    from public.deployments d, jsonb_array_elements(d.containers) e
    where d.user_id between lowest and highest and d.containers <> '[]'
  ) c;

  select jsonb_build_object(
    'successful', count(*) filter (where o.state = 'succeeded'), 'failed', count(*) filter (where o.state = 'failed')
  ) into deployed
  from public.operations o
  where o.user_id between lowest and highest and o.kind = 'deploy' and o.state in ('succeeded', 'failed');

  -- An agent that stopped leaves its last measurement behind; after two minutes it counts no more.
  with measured as (
    select d.cluster_id, (l.metrics ->> 'cpu_usage')::double precision as cpu, (l.metrics ->> 'cpu_limit')::double precision as cpu_limit,
      (l.metrics ->> 'memory_usage')::double precision as memory, (l.metrics ->> 'memory_limit')::double precision as memory_limit,
      (l.metrics ->> 'network_rx')::double precision as rx, (l.metrics ->> 'network_tx')::double precision as tx
    from public.agent_metrics_latest l join public.deployments d on d.agent_id = l.agent_id
    where l.user_id between lowest and highest and l.timestamp > now() - interval '2 minutes'
  ), clusters as (
    select h.cpu_total, h.memory_total,
      coalesce(h.cpu_used, (select coalesce(sum(m.cpu), 0) from measured m where m.cluster_id = c.id)) as cpu_used,
      coalesce(h.memory_used, (select coalesce(sum(m.memory), 0) from measured m where m.cluster_id = c.id)) as memory_used
    from public.clusters c
    left join public.cluster_health h on h.cluster_id = c.id and h.checked_at > now() - interval '1 minute'
    where c.enabled and everybody
  )
  select
    (select sum(m.rx) from measured m) as rx, (select sum(m.tx) from measured m) as tx,
    case when everybody then (select sum(c.cpu_used) from clusters c) else (select sum(m.cpu) from measured m) end as cpu,
    case when everybody then (select sum(c.memory_used) from clusters c) else (select sum(m.memory) from measured m) end as memory,
    -- A total of which a part is unknown would be wrong.
    case when everybody then (select case when bool_and(c.cpu_total is not null) then sum(c.cpu_total) end from clusters c)
      else (select case when bool_and(m.cpu_limit is not null) then sum(m.cpu_limit) end from measured m) end as cpu_total,
    case when everybody then (select case when bool_and(c.memory_total is not null) then sum(c.memory_total) end from clusters c)
      else (select case when bool_and(m.memory_limit is not null) then sum(m.memory_limit) end from measured m) end as memory_total
  into used;

  select jsonb_build_object(
    'requests', coalesce(sum(r.requests), 0), 'errors', coalesce(sum(r.errors), 0), 'duration_ms', coalesce(sum(r.duration_ms), 0),
    'minutes', extract(epoch from clock_timestamp() - since) / 60
  ) into performance
  from private.request_counts r where r.minute >= since and r.user_id between lowest and highest;

  return jsonb_build_object(
    'scope', case when everybody then 'system' else 'own' end,
    'agents', jsonb_build_object(
      'total', total_agents,
      'active', coalesce((states ->> 'running')::bigint, 0) + coalesce((states ->> 'scaling')::bigint, 0)
        + coalesce((states ->> 'updating')::bigint, 0) + coalesce((states ->> 'restarting')::bigint, 0),
      'deploying', coalesce((states ->> 'queued')::bigint, 0) + coalesce((states ->> 'deploying')::bigint, 0),
      'failed', coalesce((states ->> 'failed')::bigint, 0), 'by_state', states
    ),
    'containers', containers, 'deployments', deployed,
    'cpu', jsonb_build_object('total', used.cpu_total, 'used', used.cpu),
    'memory', jsonb_build_object('total', used.memory_total, 'used', used.memory),
    'storage', jsonb_build_object('total', null, 'used',
      case when everybody then pg_database_size(current_database()) + coalesce(private.stored_bytes(), 0) else private.stored_bytes(caller) end),
    'network', jsonb_build_object('rx', used.rx, 'tx', used.tx),
    'performance', performance
  );
end;
$$;
comment on function private.system_metrics is 'See public.system_metrics. Definer: capacities of clusters and counts of requests are not readable by users.';

create function public.system_metrics() returns jsonb
language sql stable
set search_path = ''
as $$
  select private.system_metrics();
$$;
comment on function public.system_metrics is
  'Figures (seed 000: GET /api/metrics; seeds 001, 002: GET /api/system/metrics) → {scope: system | own, agents {total, active, deploying, failed, by_state}, containers {total, running, stopped, failed}, deployments {successful, failed}, cpu {total, used} (cores), memory {total, used} (bytes), storage {total, used} (bytes), network {rx, tx} (bytes), performance {requests, errors (5xx), duration_ms, minutes}}. Of everybody for monitoring:read_all or system:read: totals are the clusters'' capacities, storage is the database and Storage. Else of the caller: totals are the limits of the running agents, storage the caller''s objects. Error: PERMISSION_DENIED 403 without monitoring:read.';

grant execute on function private.system_metrics to authenticated;
grant execute on function public.system_metrics to authenticated;
