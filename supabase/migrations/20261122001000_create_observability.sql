-- Events, logs and measurements of agents (seeds 000 and 002).
--
-- agent_logs, agent_metrics and container_events are partitioned by time; partitions live in `private`, where the API
-- cannot name them, are made ahead by ensure_partitions and dropped by drop_expired_partitions.
-- Mind: these tables have no foreign key to agents. A check per row would halve what can be ingested; the rows of a
-- deleted agent go with delete_agent, and all others by age.

create table public.agent_events (
  id uuid primary key default gen_random_uuid(),
  agent_id uuid not null,
  user_id uuid,
  event_type text not null,
  message text not null,
  data jsonb not null default '{}',
  operation_id uuid,
  actor_id uuid,
  timestamp timestamptz not null default clock_timestamp(),
  constraint event_type_is_upper_case check (event_type ~ '^[A-Z][A-Z_]*$')
);
comment on table public.agent_events is 'What happened to an agent: QUEUED, DEPLOYING, DEPLOYED, SCALING, SCALED, UPDATING, … FAILED (seed 002).';
create index agent_events_agent_id_idx on public.agent_events (agent_id, timestamp desc);
create index agent_events_user_id_idx on public.agent_events (user_id, timestamp desc);

create table public.container_events (
  id uuid not null default gen_random_uuid(),
  agent_id uuid not null,
  user_id uuid not null,
  timestamp timestamptz not null default clock_timestamp(),
  event text not null,
  container_id text not null,
  container_name text not null,
  details jsonb not null default '{}',
  primary key (agent_id, timestamp, id),
  constraint event_is_known check (event in ('create', 'start', 'die', 'oom', 'restart', 'health_status', 'destroy'))
) partition by range (timestamp);
comment on table public.container_events is 'What happened to the containers of an agent (seed 000): create, start, die, oom, restart, health_status, destroy.';

create table public.agent_logs (
  id bigint generated always as identity,
  agent_id uuid not null,
  user_id uuid not null,
  timestamp timestamptz not null,
  level text not null,
  message text not null,
  source text,
  container_id text,
  container_name text,
  metadata jsonb not null default '{}',
  -- One index serves the reads of one agent in order of time and the need for a key: a second one would cost a third
  -- of the ingestion.
  primary key (agent_id, timestamp, id)
) partition by range (timestamp);
comment on table public.agent_logs is 'Log lines of agents, oldest partitions dropped after settings retention.logs_days. Filter by agent_id: that is what is indexed.';
comment on column public.agent_logs.level is 'DEBUG, INFO, WARN or ERROR.';
comment on column public.agent_logs.source is 'Part of the agent that wrote the line, as it says itself; null when it does not.';

create table public.agent_metrics (
  agent_id uuid not null,
  user_id uuid not null,
  timestamp timestamptz not null default now(),
  replicas integer not null,
  cpu_usage double precision,
  cpu_limit double precision,
  memory_usage bigint,
  memory_limit bigint,
  network_rx bigint,
  network_tx bigint,
  requests_total bigint,
  requests_failed bigint,
  requests_per_minute double precision,
  error_rate double precision,
  response_time_ms double precision,
  containers jsonb not null default '[]',
  primary key (agent_id, timestamp)
) partition by range (timestamp);
comment on table public.agent_metrics is 'Measurements of an agent, summed over its containers. What could not be measured is null.';
comment on column public.agent_metrics.cpu_usage is 'Cores in use (0.45 is 45 % of one core).';
comment on column public.agent_metrics.cpu_limit is 'Cores allowed, all replicas together; null without a limit.';
comment on column public.agent_metrics.memory_usage is 'Bytes in use, page cache left out.';
comment on column public.agent_metrics.memory_limit is 'Bytes allowed, all replicas together; null without a limit.';
comment on column public.agent_metrics.network_rx is 'Bytes received since the containers started.';
comment on column public.agent_metrics.requests_total is 'Requests served, as the agent reports; null when it does not.';

create table public.agent_metrics_latest (
  agent_id uuid primary key references public.agents (id) on delete cascade,
  user_id uuid not null references auth.users (id) on delete cascade,
  timestamp timestamptz not null,
  metrics jsonb not null
);
comment on table public.agent_metrics_latest is 'Last row of agent_metrics per agent, so that a list of agents need not search partitions.';
create index agent_metrics_latest_user_id_idx on public.agent_metrics_latest (user_id);

create function private.keep_latest_metrics() returns trigger
language plpgsql volatile security definer
set search_path = ''
as $$
begin
  insert into public.agent_metrics_latest as l (agent_id, user_id, timestamp, metrics)
  select distinct on (n.agent_id) n.agent_id, n.user_id, n.timestamp, to_jsonb(n) - 'containers'
  from new_rows n
  join public.agents a on a.id = n.agent_id
  order by n.agent_id, n.timestamp desc
  on conflict (agent_id) do update
  set timestamp = excluded.timestamp, metrics = excluded.metrics
  where excluded.timestamp >= l.timestamp;
  return null;
end;
$$;
comment on function private.keep_latest_metrics is 'Keeps agent_metrics_latest. Definer: nobody writes that table.';
create trigger agent_metrics_keep_latest after insert on public.agent_metrics
  referencing new table as new_rows
  for each statement execute function private.keep_latest_metrics();

-- Partitions -----------------------------------------------------------------------------------------------------

create table private.partitioned_tables (
  table_name text primary key,
  span interval not null,
  retention_key text not null
);
comment on table private.partitioned_tables is 'Tables partitioned by time, the span of a partition and the setting that says how long it is kept.';
insert into private.partitioned_tables (table_name, span, retention_key) values
  ('agent_logs', '1 day', 'logs_days'),
  ('agent_metrics', '7 days', 'metrics_days'),
  ('container_events', '7 days', 'container_events_days');

create function private.ensure_partitions(from_time timestamptz default now(), ahead interval default '8 days') returns integer
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  entry private.partitioned_tables;
  lower_bound timestamptz;
  partition_name text;
  made integer := 0;
begin
  for entry in select * from private.partitioned_tables loop
    lower_bound := date_bin(entry.span, from_time, '2024-01-01 00:00:00+00');
    while lower_bound < from_time + ahead loop
      partition_name := entry.table_name || '_' || to_char(lower_bound at time zone 'UTC', 'YYYYMMDD');
      if to_regclass('private.' || partition_name) is null then
        execute format('create table private.%I partition of public.%I for values from (%L) to (%L)',
          partition_name, entry.table_name, lower_bound, lower_bound + entry.span);
        made := made + 1;
      end if;
      lower_bound := lower_bound + entry.span;
    end loop;
  end loop;
  return made;
end;
$$;
comment on function private.ensure_partitions is 'Makes the partitions for a time and a while ahead → how many were made. Definer: runs from cron.';

create function private.drop_expired_partitions() returns integer
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  entry record;
  dropped integer := 0;
begin
  for entry in
    select c.relname
    from private.partitioned_tables t
    join pg_catalog.pg_inherits i on i.inhparent = format('public.%I', t.table_name)::regclass
    join pg_catalog.pg_class c on c.oid = i.inhrelid
    where c.relname ~ '_[0-9]{8}$'
      and to_date(right(c.relname, 8), 'YYYYMMDD') + t.span
        < now() - make_interval(days => (private.setting('retention', t.retention_key))::int)
  loop
    execute format('drop table private.%I', entry.relname);
    dropped := dropped + 1;
  end loop;
  return dropped;
end;
$$;
comment on function private.drop_expired_partitions is 'Drops partitions older than their retention setting → how many. Definer: runs from cron.';

select private.ensure_partitions(now() - interval '7 days', '16 days');

-- Grants and policies --------------------------------------------------------------------------------------------

create function private.write_event(
  agent_id uuid, user_id uuid, event_type text, message text, data jsonb default '{}', operation_id uuid default null
) returns uuid
language sql volatile security definer
set search_path = ''
as $$
  insert into public.agent_events (agent_id, user_id, event_type, message, data, operation_id, actor_id)
  values (
    write_event.agent_id, write_event.user_id, write_event.event_type, write_event.message, write_event.data,
    write_event.operation_id, (select auth.uid())
  ) returning id;
$$;
comment on function private.write_event is 'Records an event of an agent → its id. Definer: nobody writes the table itself.';

grant select, insert, update, delete on
  public.agent_events, public.container_events, public.agent_logs, public.agent_metrics, public.agent_metrics_latest to service_role;
grant select on
  public.agent_events, public.container_events, public.agent_logs, public.agent_metrics, public.agent_metrics_latest to authenticated;

alter table public.agent_events enable row level security;
alter table public.container_events enable row level security;
alter table public.agent_logs enable row level security;
alter table public.agent_metrics enable row level security;
alter table public.agent_metrics_latest enable row level security;

create policy "Owners can read events of their agents" on public.agent_events
  for select to authenticated
  using (user_id >= (select private.owner_bound('monitoring:read', 'lowest')) and user_id <= (select private.owner_bound('monitoring:read', 'highest')));
create policy "Owners can read container events of their agents" on public.container_events
  for select to authenticated
  using (user_id >= (select private.owner_bound('monitoring:read', 'lowest')) and user_id <= (select private.owner_bound('monitoring:read', 'highest')));
create policy "Owners can read logs of their agents" on public.agent_logs
  for select to authenticated
  using (user_id >= (select private.owner_bound('monitoring:read', 'lowest')) and user_id <= (select private.owner_bound('monitoring:read', 'highest')));
create policy "Owners can read metrics of their agents" on public.agent_metrics
  for select to authenticated
  using (user_id >= (select private.owner_bound('monitoring:read', 'lowest')) and user_id <= (select private.owner_bound('monitoring:read', 'highest')));
create policy "Owners can read the latest metrics of their agents" on public.agent_metrics_latest
  for select to authenticated
  using (user_id >= (select private.owner_bound('monitoring:read', 'lowest')) and user_id <= (select private.owner_bound('monitoring:read', 'highest')));

alter publication supabase_realtime add table
  public.agent_events, public.container_events, public.agent_logs, public.agent_metrics;
