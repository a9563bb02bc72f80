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
comment on table public.agent_events is 'What happened to an agent: QUEUED, DEPLOYING, DEPLOYED, SCALING, SCALED, UPDATING, … FAILED (seed 002); AUTOSCALED, AUTOSCALING_LIMITED.';
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

-- How many lines there are, without counting them: one row per agent, hour, level and container. Who writes lines counts
-- them in the same transaction, by add_log_counts: a trigger would have to be shown every row, and that alone cost the
-- collector's copy a fifth of its speed. Deletions are rare, a trigger counts those.
create table public.agent_log_counts (
  agent_id uuid not null,
  user_id uuid not null,
  hour timestamptz not null,
  level text not null,
  container_id text not null,
  container_name text not null,
  lines bigint not null,
  primary key (agent_id, hour, level, container_id, container_name),
  constraint lines_are_there check (lines > 0)
) with (fillfactor = 70);
comment on table public.agent_log_counts is 'Log lines of agents counted by hour, level and container; always what agent_logs holds.';
comment on column public.agent_log_counts.hour is 'Beginning of the hour, in UTC.';
comment on column public.agent_log_counts.container_id is 'Empty for lines that name no container.';
comment on column public.agent_log_counts.container_name is 'Empty for lines that name no container.';
create index agent_log_counts_hour_idx on public.agent_log_counts (hour);
create index agent_log_counts_user_id_idx on public.agent_log_counts (user_id);

create function private.log_hour(moment timestamptz) returns timestamptz
language sql immutable
set search_path = ''
as $$
  select date_bin('1 hour', moment, '2024-01-01 00:00:00+00');
$$;
comment on function private.log_hour is 'The hour under which a log line is counted.';

create function private.add_log_counts(agent_id uuid, user_id uuid, counts jsonb) returns void
language sql volatile security definer
set search_path = ''
as $$
  insert into public.agent_log_counts as c (agent_id, user_id, hour, level, container_id, container_name, lines)
  select add_log_counts.agent_id, add_log_counts.user_id, private.log_hour(n.hour), n.level,
    coalesce(n.container_id, ''), coalesce(n.container_name, ''), sum(n.lines)
  from jsonb_to_recordset(counts) n (hour timestamptz, level text, container_id text, container_name text, lines bigint)
  group by 3, 4, 5, 6
  -- In one order, so that two who count the same lock the rows one after the other.
  order by 3, 4, 5, 6
  on conflict on constraint agent_log_counts_pkey do update set lines = c.lines + excluded.lines;
$$;
comment on function private.add_log_counts is
  'Counts log lines that the same transaction writes: [{hour, level, container_id, container_name, lines}]. Definer: nobody writes the table itself.';

create function private.order_log_writers(agent_id uuid) returns void
language sql volatile
set search_path = ''
as $$
  select pg_advisory_xact_lock(hashtextextended('agent_logs:' || agent_id::text, 0));
$$;
comment on function private.order_log_writers is
  'Lets one transaction at a time write lines of an agent, so that ids become visible in their order: who follows a log asks for what is behind the last id it saw.';

create function private.take_log_counts() returns trigger
language plpgsql volatile security definer
set search_path = ''
as $$
begin
  with gone as (
    select o.agent_id, private.log_hour(o.timestamp) as hour, o.level, coalesce(o.container_id, '') as container_id,
      coalesce(o.container_name, '') as container_name, count(*) as lines
    from old_rows o group by 1, 2, 3, 4, 5
  ), fewer as (
    update public.agent_log_counts c set lines = c.lines - g.lines from gone g
    where (c.agent_id, c.hour, c.level, c.container_id, c.container_name)
      = (g.agent_id, g.hour, g.level, g.container_id, g.container_name) and c.lines > g.lines
  )
  delete from public.agent_log_counts c using gone g
  where (c.agent_id, c.hour, c.level, c.container_id, c.container_name)
    = (g.agent_id, g.hour, g.level, g.container_id, g.container_name) and c.lines <= g.lines;
  return null;
end;
$$;
comment on function private.take_log_counts is 'Takes deleted lines off agent_log_counts. Definer: nobody writes that table.';
create trigger agent_logs_take_counts after delete on public.agent_logs
  referencing old table as old_rows
  for each statement execute function private.take_log_counts();

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
comment on table public.agent_metrics_latest is 'Last row of agent_metrics of each agent that runs, so that a list of agents need not search partitions.';
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
    select c.relname, t.table_name, t.span, to_date(right(c.relname, 8), 'YYYYMMDD')::timestamp at time zone 'UTC' as begins
    from private.partitioned_tables t
    join pg_catalog.pg_inherits i on i.inhparent = format('public.%I', t.table_name)::regclass
    join pg_catalog.pg_class c on c.oid = i.inhrelid
    where c.relname ~ '_[0-9]{8}$'
      and to_date(right(c.relname, 8), 'YYYYMMDD') + t.span
        < now() - make_interval(days => (private.setting('retention', t.retention_key))::int)
  loop
    execute format('drop table private.%I', entry.relname);
    dropped := dropped + 1;
    if entry.table_name = 'agent_logs' then
      delete from public.agent_log_counts c where c.hour >= entry.begins and c.hour < entry.begins + entry.span;
    end if;
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
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  written uuid;
begin
  insert into public.agent_events (agent_id, user_id, event_type, message, data, operation_id, actor_id)
  values (
    write_event.agent_id, write_event.user_id, write_event.event_type, write_event.message, write_event.data,
    write_event.operation_id, (select auth.uid())
  ) returning id into written;
  return written;
end;
$$;
comment on function private.write_event is 'Records an event of an agent → its id. Definer: nobody writes the table itself.';

grant select, insert, update, delete on
  public.agent_events, public.container_events, public.agent_metrics, public.agent_metrics_latest to service_role;
-- Lines are written by the worker and by report_logs, which count them.
grant select, delete on public.agent_logs to service_role;
grant select on public.agent_log_counts to service_role;
grant select on
  public.agent_events, public.container_events, public.agent_logs, public.agent_log_counts, public.agent_metrics,
  public.agent_metrics_latest to authenticated;

alter table public.agent_events enable row level security;
alter table public.container_events enable row level security;
alter table public.agent_logs enable row level security;
alter table public.agent_log_counts enable row level security;
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
create policy "Owners can read how many log lines there are" on public.agent_log_counts
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
