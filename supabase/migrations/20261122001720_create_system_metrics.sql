-- Figures of the whole installation, or of one user's share of it: agents, containers, what they use, and how /api answers.
--
-- Adds: system_metrics for clients; private.request_counts, which the instances of the api function fill together; private.counts
-- and private.usage, which spare figures of everybody the reading of every row.
-- Counts are kept by triggers that only add rows to private.count_changes: no writer waits for another, and what is rolled
-- back takes its changes with it. private.fold_counts adds them up from time to time; the truth is always both together.
-- Mind: what nobody measured is null. Docker tells what its hosts have but not what they use; there the use of the
-- agents and stacks stands for it.

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

-- Counts ---------------------------------------------------------------------------------------------------------

create table private.counts (
  name text primary key,
  number bigint not null
);
comment on table private.counts is
  'How many there are of everybody''s: agents, deployments.<state>, containers.<fate>, deploys.<state>; as of the last private.fold_counts.';

create table private.count_changes (
  id bigint generated always as identity primary key,
  name text not null,
  change bigint not null
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000, autovacuum_analyze_scale_factor = 1);
comment on table private.count_changes is 'What the counts changed by since they were folded. It is only added to, and read whole.';

create function private.is_stopped_on_purpose(state text) returns boolean
language plpgsql immutable
set search_path = ''
as $$
begin
  return state in ('stopping', 'stopped', 'deleting');
end;
$$;
comment on function private.is_stopped_on_purpose is 'Whether containers of a deployment in this state end because they were told to.';

create function private.container_fates(state text, containers jsonb) returns table (name text, number bigint)
language sql immutable
set search_path = ''
as $$
  select 'containers.' || case
      when e ->> 'status' = 'running' then 'running'
      -- One that was stopped on purpose ends with the code of the signal.
      when private.is_stopped_on_purpose(state) then 'stopped'
      when e ->> 'status' in ('dead', 'restarting') or (e ->> 'oom_killed')::boolean or (e ->> 'exit_code')::integer <> 0 then 'failed'
      else 'stopped'
    end, count(*)
  from jsonb_array_elements(containers) e group by 1;
$$;
comment on function private.container_fates is 'How many containers of a deployment are running, failed and stopped, as counts name them.';

create function private.count_rows(lowest uuid, highest uuid) returns table (name text, number bigint)
language plpgsql stable security definer
set search_path = ''
as $$
begin
  return query
  select c.name, sum(c.number)::bigint from (
    select 'agents' as name, count(*) as number from public.agents a where a.user_id between lowest and highest and a.deleted_at is null
    union all
    select 'deployments.' || d.state, count(*) from public.deployments d where d.user_id between lowest and highest group by 1
    union all
    select f.name, sum(f.number) from public.deployments d, private.container_fates(d.state, d.containers) f
    where d.user_id between lowest and highest and d.containers <> '[]' group by 1
    union all
    select f.name, sum(f.number) from public.stacks s join private.stack_looks l on l.stack_id = s.id, private.container_fates('running', l.containers) f
    where s.user_id between lowest and highest and l.containers <> '[]' group by 1
    union all
    select 'deploys.' || o.state, count(*) from public.operations o
    where o.user_id between lowest and highest and o.kind = 'deploy' and o.state in ('succeeded', 'failed') group by 1
    union all
    -- Of users who are gone.
    select 'deploys.' || o.state, count(*) from public.operations o
    where lowest = '00000000-0000-0000-0000-000000000000' and o.user_id is null and o.kind = 'deploy' and o.state in ('succeeded', 'failed') group by 1
  ) c group by 1;
end;
$$;
comment on function private.count_rows is 'The counts of a range of owners, counted. Definer: called by the functions below.';

create function private.current_counts() returns table (name text, number bigint)
language sql stable security definer
set search_path = ''
as $$
  select c.name, sum(c.number)::bigint
  from (select k.name, k.number from private.counts k union all select h.name, h.change from private.count_changes h) c
  group by 1;
$$;
comment on function private.current_counts is 'The counts of everybody, exact as of the statement''s snapshot. Definer: the tables are private; callers check the right.';

create function private.fold_counts() returns integer
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  folded integer;
begin
  -- Whoever folds already does it for all.
  if not pg_try_advisory_xact_lock(hashtextextended('fold_counts', 0)) then
    return 0;
  end if;
  with gone as (
    delete from private.count_changes returning name, change
  ), kept as (
    insert into private.counts as c (name, number)
    select g.name, sum(g.change) from gone g group by 1
    on conflict (name) do update set number = c.number + excluded.number
  )
  select count(*) into folded from gone;
  return folded;
end;
$$;
comment on function private.fold_counts is 'Adds the changes up → how many there were. Definer: runs from cron.';
select cron.schedule('fold-counts', '5 seconds', 'select private.fold_counts()');

create function private.recount() returns void
language plpgsql volatile security definer
set search_path = ''
as $$
begin
  lock table public.agents, public.deployments, public.operations, private.stack_looks in share mode;
  delete from private.count_changes;
  delete from private.counts;
  insert into private.counts (name, number)
  select c.name, c.number from private.count_rows('00000000-0000-0000-0000-000000000000', 'ffffffff-ffff-ffff-ffff-ffffffffffff') c;
end;
$$;
comment on function private.recount is
  'Counts anew, while nobody writes: needed only after rows came past the triggers, as from a restored backup. Definer: called by hand.';

create function private.count_agents() returns trigger
language plpgsql volatile security definer
set search_path = ''
as $$
begin
  insert into private.count_changes (name, change)
  values ('agents', case when tg_op = 'DELETE' or tg_op = 'UPDATE' and new.deleted_at is not null then -1 else 1 end);
  return null;
end;
$$;
comment on function private.count_agents is 'Trigger: keeps the count of agents. Definer: the table is private.';
create trigger agents_count_added after insert on public.agents
  for each row when (new.deleted_at is null) execute function private.count_agents();
create trigger agents_count_changed after update of deleted_at on public.agents
  for each row when ((new.deleted_at is null) <> (old.deleted_at is null)) execute function private.count_agents();
create trigger agents_count_removed after delete on public.agents
  for each row when (old.deleted_at is null) execute function private.count_agents();

create function private.count_deployments() returns trigger
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  before constant public.deployments := case when tg_op <> 'INSERT' then old end;
  after constant public.deployments := case when tg_op <> 'DELETE' then new end;
begin
  if before.state is distinct from after.state then
    insert into private.count_changes (name, change)
    select c.name, c.change from (values ('deployments.' || after.state, 1), ('deployments.' || before.state, -1)) c (name, change)
    where c.name is not null;
  end if;
  -- Mostly the state alone changes, which makes another fate of containers only on the way to a stop and back.
  if before.containers is distinct from after.containers
    or after.containers <> '[]' and private.is_stopped_on_purpose(before.state) <> private.is_stopped_on_purpose(after.state)
  then
    insert into private.count_changes (name, change)
    select c.name, sum(c.change) from (
      select f.name, f.number as change from private.container_fates(after.state, after.containers) f
      union all
      select f.name, -f.number from private.container_fates(before.state, before.containers) f
    ) c group by 1 having sum(c.change) <> 0;
  end if;
  return null;
end;
$$;
comment on function private.count_deployments is 'Trigger: keeps the counts of deployments and containers. Definer: the table is private.';
create trigger deployments_count_added after insert or delete on public.deployments
  for each row execute function private.count_deployments();
create trigger deployments_count_changed after update of state, containers on public.deployments
  for each row when (new.state <> old.state or new.containers <> old.containers) execute function private.count_deployments();

create function private.count_deploys() returns trigger
language plpgsql volatile security definer
set search_path = ''
as $$
begin
  insert into private.count_changes (name, change)
  select 'deploys.' || c.state, c.change from (
    select new.state, 1 as change where tg_op <> 'DELETE'
    union all
    select old.state, -1 where tg_op <> 'INSERT'
  ) c where c.state in ('succeeded', 'failed');
  return null;
end;
$$;
comment on function private.count_deploys is 'Trigger: keeps the counts of deployments that succeeded and failed. Definer: the table is private.';
create trigger operations_count_added after insert on public.operations
  for each row when (new.kind = 'deploy' and new.state in ('succeeded', 'failed')) execute function private.count_deploys();
create trigger operations_count_changed after update of state on public.operations
  for each row when (new.kind = 'deploy' and new.state <> old.state) execute function private.count_deploys();
create trigger operations_count_removed after delete on public.operations
  for each row when (old.kind = 'deploy' and old.state in ('succeeded', 'failed')) execute function private.count_deploys();

-- What agents and stacks use ------------------------------------------------------------------------------------------------

create table private.usage (
  only_row boolean primary key default true,
  summed_at timestamptz not null,
  clusters jsonb not null,
  network_rx double precision,
  network_tx double precision,
  constraint one_row check (only_row)
);
comment on table private.usage is 'What all running agents and stacks use together, as last summed up: clusters {id: {cpu (cores), memory (bytes)}}, bytes received and sent.';

create function private.measured_usage(lowest uuid, highest uuid)
returns table (
  cluster_id uuid, cpu double precision, cpu_limit double precision, memory double precision, memory_limit double precision,
  rx double precision, tx double precision
)
language plpgsql stable security definer
set search_path = ''
as $$
begin
  -- What was measured more than two minutes ago is the past: its cluster does not answer any more.
  return query
  select w.cluster_id, (w.metrics ->> 'cpu_usage')::double precision, (w.metrics ->> 'cpu_limit')::double precision,
    (w.metrics ->> 'memory_usage')::double precision, (w.metrics ->> 'memory_limit')::double precision,
    (w.metrics ->> 'network_rx')::double precision, (w.metrics ->> 'network_tx')::double precision
  from (
    select d.cluster_id, l.metrics from public.agent_metrics_latest l join public.deployments d on d.agent_id = l.agent_id
    where l.user_id between lowest and highest and l.timestamp > now() - interval '2 minutes'
    union all
    select s.cluster_id, l.metrics from private.stack_looks l join public.stacks s on s.id = l.stack_id
    where s.user_id between lowest and highest and l.measured_at > now() - interval '2 minutes' and l.containers <> '[]'
  ) w;
end;
$$;
comment on function private.measured_usage is 'What each agent and each stack of a range of owners uses at present. Definer: called by the functions below.';

create function private.sum_usage() returns void
language sql volatile security definer
set search_path = ''
as $$
  with summed as (
    select m.cluster_id, sum(m.cpu) as cpu, sum(m.memory) as memory, sum(m.rx) as rx, sum(m.tx) as tx
    from private.measured_usage('00000000-0000-0000-0000-000000000000', 'ffffffff-ffff-ffff-ffff-ffffffffffff') m group by 1
  )
  insert into private.usage (summed_at, clusters, network_rx, network_tx)
  select now(),
    coalesce(jsonb_object_agg(s.cluster_id, jsonb_build_object('cpu', s.cpu, 'memory', s.memory)) filter (where s.cluster_id is not null), '{}'),
    sum(s.rx), sum(s.tx)
  from summed s
  on conflict (only_row) do update set
    summed_at = excluded.summed_at, clusters = excluded.clusters, network_rx = excluded.network_rx, network_tx = excluded.network_tx;
$$;
comment on function private.sum_usage is
  'Sums up what all running agents and stacks use: it changes with every measurement, so that counting along would cost more than reading them now and then. Definer: runs from cron.';
select cron.schedule('sum-usage', '15 seconds', 'select private.sum_usage()');

-- Figures --------------------------------------------------------------------------------------------------------

create function private.count_of(counts jsonb, name text) returns bigint
language sql immutable
set search_path = ''
as $$
  select coalesce((counts ->> name)::bigint, 0);
$$;
comment on function private.count_of is 'A count of several in an object; 0 when it is not there.';

create function private.states_of(counts jsonb) returns jsonb
language sql immutable
set search_path = ''
as $$
  select coalesce(jsonb_object_agg(substr(c.key, 13), c.value), '{}') from jsonb_each(counts) c where c.key like 'deployments.%';
$$;
comment on function private.states_of is 'Of the counts those of deployments → {state: number}.';

create function private.fleet_counts() returns jsonb
language plpgsql stable security definer
set search_path = ''
as $$
begin
  if private.reach('agents:read') <> 'all' then
    perform private.raise_error('PERMISSION_DENIED', 'This needs the permission agents:read_all.', '{"permission": "agents:read_all"}', 403);
  end if;
  return (select coalesce(jsonb_object_agg(c.name, c.number) filter (where c.number <> 0), '{}') from private.current_counts() c);
end;
$$;
comment on function private.fleet_counts is
  'The counts of everybody → {agents, deployments.<state> …}. Error: PERMISSION_DENIED 403. Definer: the tables are private; it asks for the right to see all.';

insert into public.settings (category, key, value, description) values
  ('platform', 'storage_bytes', 'null', 'Bytes that the database and Storage may take together, as the project''s plan or disk allows; null: not known.');

create function private.storage_size() returns numeric
language sql stable
set search_path = ''
as $$
  select (s.value)::numeric from (select private.setting('platform', 'storage_bytes') as value) s
  where jsonb_typeof(s.value) = 'number' and (s.value)::numeric > 0;
$$;
comment on function private.storage_size is
  'Bytes there are for the database and Storage, as the setting platform.storage_bytes says: Postgres does not see its disk. Null when nobody said.';

create function private.system_metrics() returns jsonb
language plpgsql stable security definer
set search_path = ''
as $$
declare
  reached constant text := private.require_permission('monitoring:read');
  everybody constant boolean := reached = 'all' or private.has_permission('system:read');
  caller constant uuid := (select auth.uid());
  lowest constant uuid := case when everybody then '00000000-0000-0000-0000-000000000000' else caller end;
  highest constant uuid := case when everybody then 'ffffffff-ffff-ffff-ffff-ffffffffffff' else caller end;
  since constant timestamptz := date_trunc('minute', now()) - interval '5 minutes';
  counts jsonb;
  states jsonb;
  used jsonb;
  performance jsonb;
begin
  if everybody then
    select coalesce(jsonb_object_agg(c.name, c.number) filter (where c.number <> 0), '{}') into counts from private.current_counts() c;
    with clusters as (
      select h.cpu_total, h.memory_total,
        coalesce(h.cpu_used, case when u.only_row then coalesce((u.clusters #>> array[c.id::text, 'cpu'])::double precision, 0) end) as cpu_used,
        coalesce(h.memory_used, case when u.only_row then coalesce((u.clusters #>> array[c.id::text, 'memory'])::double precision, 0) end) as memory_used
      from public.clusters c
      left join public.cluster_health h on h.cluster_id = c.id and h.checked_at > now() - interval '1 minute'
      left join private.usage u on u.summed_at > now() - interval '1 minute'
      where c.enabled
    )
    select jsonb_build_object(
      'rx', (select u.network_rx from private.usage u where u.summed_at > now() - interval '1 minute'),
      'tx', (select u.network_tx from private.usage u where u.summed_at > now() - interval '1 minute'),
      'cpu', sum(c.cpu_used), 'memory', sum(c.memory_used),
      -- A total of which a part is unknown would be wrong.
      'cpu_total', case when bool_and(c.cpu_total is not null) then sum(c.cpu_total) end,
      'memory_total', case when bool_and(c.memory_total is not null) then sum(c.memory_total) end
    ) into used from clusters c;
  else
    select coalesce(jsonb_object_agg(c.name, c.number), '{}') into counts from private.count_rows(caller, caller) c;
    select jsonb_build_object(
      'rx', sum(m.rx), 'tx', sum(m.tx), 'cpu', sum(m.cpu), 'memory', sum(m.memory),
      'cpu_total', case when bool_and(m.cpu_limit is not null) then sum(m.cpu_limit) end,
      'memory_total', case when bool_and(m.memory_limit is not null) then sum(m.memory_limit) end
    ) into used from private.measured_usage(caller, caller) m;
  end if;
  states := private.states_of(counts);

  select jsonb_build_object(
    'requests', coalesce(sum(r.requests), 0), 'errors', coalesce(sum(r.errors), 0), 'duration_ms', coalesce(sum(r.duration_ms), 0),
    'minutes', extract(epoch from clock_timestamp() - since) / 60
  ) into performance
  from private.request_counts r where r.minute >= since and r.user_id between lowest and highest;

  return jsonb_build_object(
    'scope', case when everybody then 'system' else 'own' end,
    'agents', jsonb_build_object(
      'total', private.count_of(counts, 'agents'),
      'active', private.count_of(states, 'running') + private.count_of(states, 'scaling')
        + private.count_of(states, 'updating') + private.count_of(states, 'restarting'),
      'deploying', private.count_of(states, 'queued') + private.count_of(states, 'deploying'),
      'failed', private.count_of(states, 'failed'), 'by_state', states
    ),
    'containers', jsonb_build_object(
      'total', private.count_of(counts, 'containers.running') + private.count_of(counts, 'containers.failed') + private.count_of(counts, 'containers.stopped'),
      'running', private.count_of(counts, 'containers.running'), 'failed', private.count_of(counts, 'containers.failed'),
      'stopped', private.count_of(counts, 'containers.stopped')
    ),
    'deployments', jsonb_build_object(
      'successful', private.count_of(counts, 'deploys.succeeded'), 'failed', private.count_of(counts, 'deploys.failed')
    ),
    'cpu', jsonb_build_object('total', used -> 'cpu_total', 'used', used -> 'cpu'),
    'memory', jsonb_build_object('total', used -> 'memory_total', 'used', used -> 'memory'),
    'storage', jsonb_build_object('total', case when everybody then private.storage_size() end, 'used',
      case when everybody then pg_database_size(current_database()) + coalesce(private.stored_bytes(), 0) else private.stored_bytes(caller) end),
    'network', jsonb_build_object('rx', used -> 'rx', 'tx', used -> 'tx'),
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
  'Figures (seed 000: GET /api/metrics; seeds 001, 002: GET /api/system/metrics) → {scope: system | own, agents {total, active, deploying, failed, by_state}, containers {total, running, stopped, failed}, deployments {successful, failed}, cpu {total, used} (cores), memory {total, used} (bytes), storage {total, used} (bytes), network {rx, tx} (bytes), performance {requests, errors (5xx), duration_ms, minutes}}. Of everybody for monitoring:read_all or system:read: totals are the clusters'' capacities, storage is the database and Storage, its total the setting platform.storage_bytes. Else of the caller: totals are the limits of the running agents and stacks, storage the caller''s objects. Error: PERMISSION_DENIED 403 without monitoring:read.';

grant execute on function private.system_metrics to authenticated;
grant execute on function public.system_metrics to authenticated;
grant execute on function private.fleet_counts, private.states_of, private.count_of to authenticated, service_role;
