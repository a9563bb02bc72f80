-- Roll-ups of measurements: a row per agent and minute, and one per hour, so that a month of figures need not be read
-- sample by sample.
--
-- Each insert into agent_metrics marks the minutes it touches. The job takes marked minutes that are over and makes them
-- anew from the samples, which marks their hours; hours are made anew from their minutes. So it does not matter when the
-- job ran last, how often it runs, or how late a sample comes. Readers take minutes and hours that are not marked from
-- here and all others from the samples, so that what they see is never older than the last sample.
-- Mind: marking updates the mark, and so holds it until the insert is committed; the job leaves held marks for its next
-- run. A mark that was merely found to be there could be taken by the job before the sample can be seen.

insert into public.settings (category, key, value, description) values
  ('retention', 'metric_minutes_days', '35', 'Days that measurements rolled up by minute are kept.'),
  ('retention', 'metric_hours_days', '400', 'Days that measurements rolled up by hour are kept.'),
  ('collection', 'max_data_points', '43200', 'Bins that one series of measurements may have (30 days of minutes); more is VALIDATION_ERROR.');

-- Of each figure how many samples had it, their sum, least and greatest: an average is the sum over the number, whatever
-- bins are put together.
create table public.agent_metric_minutes (
  agent_id uuid not null,
  user_id uuid not null,
  starts timestamptz not null,
  samples integer not null,
  cpu_percent_samples integer not null,
  cpu_percent_sum double precision,
  cpu_percent_min double precision,
  cpu_percent_max double precision,
  memory_usage_samples integer not null,
  memory_usage_sum double precision,
  memory_usage_min double precision,
  memory_usage_max double precision,
  requests_per_minute_samples integer not null,
  requests_per_minute_sum double precision,
  requests_per_minute_min double precision,
  requests_per_minute_max double precision,
  error_rate_samples integer not null,
  error_rate_sum double precision,
  error_rate_min double precision,
  error_rate_max double precision,
  response_time_ms_samples integer not null,
  response_time_ms_sum double precision,
  response_time_ms_min double precision,
  response_time_ms_max double precision,
  primary key (agent_id, starts)
) partition by range (starts);
comment on table public.agent_metric_minutes is
  'agent_metrics rolled up by minute: of each figure the number of samples that had it, their sum, least and greatest. Null where no sample had it.';
comment on column public.agent_metric_minutes.cpu_percent_sum is 'Of CPU in percent of the limit.';
comment on column public.agent_metric_minutes.memory_usage_sum is 'Of bytes.';

create table public.agent_metric_hours (
  like public.agent_metric_minutes including comments,
  primary key (agent_id, starts)
) partition by range (starts);
comment on table public.agent_metric_hours is
  'agent_metrics rolled up by hour, of the same columns as agent_metric_minutes. Least and greatest are those of single samples.';

insert into private.partitioned_tables (table_name, span, retention_key) values
  ('agent_metric_minutes', '7 days', 'metric_minutes_days'),
  ('agent_metric_hours', '30 days', 'metric_hours_days');
select private.ensure_partitions(now() - interval '7 days', '16 days');

create table private.metric_bins_due (
  agent_id uuid not null,
  span interval not null,
  starts timestamptz not null,
  marks bigint not null default 1,
  primary key (agent_id, span, starts),
  constraint span_is_rolled_up check (span in (interval '1 minute', interval '1 hour'))
) with (fillfactor = 70);
comment on table private.metric_bins_due is 'Minutes and hours of agents whose roll-up is missing or no longer true.';
create index metric_bins_due_starts_idx on private.metric_bins_due (span, starts);

create function private.bin_of(span interval, moment timestamptz) returns timestamptz
language sql immutable
set search_path = ''
as $$
  select date_bin(span, moment, '2024-01-01 00:00:00+00');
$$;
comment on function private.bin_of is 'Beginning of the bin that a moment falls into; bins are counted from 2024-01-01 UTC, so that minutes, hours and days are whole.';

create function private.mark_metric_minutes() returns trigger
language plpgsql volatile security definer
set search_path = ''
as $$
begin
  insert into private.metric_bins_due as d (agent_id, span, starts)
  select distinct n.agent_id, interval '1 minute', private.bin_of('1 minute', n.timestamp) from new_rows n
  order by 1, 3
  on conflict on constraint metric_bins_due_pkey do update set marks = d.marks + 1;
  return null;
end;
$$;
comment on function private.mark_metric_minutes is 'Marks the minutes of new samples. Definer: nobody writes the marks.';
create trigger agent_metrics_mark_minutes after insert on public.agent_metrics
  referencing new table as new_rows
  for each statement execute function private.mark_metric_minutes();

create function private.take_due_bins(bin_span interval, until timestamptz, most integer)
returns table (agent_id uuid, starts timestamptz)
language sql volatile security definer
set search_path = ''
as $$
  delete from private.metric_bins_due d
  where (d.agent_id, d.span, d.starts) in (
    select w.agent_id, w.span, w.starts from private.metric_bins_due w
    where w.span = bin_span and w.starts + bin_span <= until
    order by w.starts limit most for update skip locked
  )
  returning d.agent_id, d.starts;
$$;
comment on function private.take_due_bins is 'Takes marks of bins that are over, oldest first, leaving those that are held. Definer: runs from cron.';

create function private.roll_up_minutes(until timestamptz, most integer) returns integer
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  agents uuid[];
  minutes timestamptz[];
begin
  -- A statement of its own: the next one sees all that was committed before the marks were taken.
  select array_agg(t.agent_id), array_agg(t.starts) into agents, minutes from private.take_due_bins('1 minute', until, most) t;
  if agents is null then
    return 0;
  end if;
  insert into public.agent_metric_minutes as r
  select d.agent_id, s.user_id, d.starts, count(*),
    count(p.cpu_percent), sum(p.cpu_percent), min(p.cpu_percent), max(p.cpu_percent),
    count(s.memory_usage), sum(s.memory_usage), min(s.memory_usage), max(s.memory_usage),
    count(s.requests_per_minute), sum(s.requests_per_minute), min(s.requests_per_minute), max(s.requests_per_minute),
    count(s.error_rate), sum(s.error_rate), min(s.error_rate), max(s.error_rate),
    count(s.response_time_ms), sum(s.response_time_ms), min(s.response_time_ms), max(s.response_time_ms)
  from unnest(agents, minutes) d (agent_id, starts)
  join public.agent_metrics s
    on s.agent_id = d.agent_id and s.timestamp >= d.starts and s.timestamp < d.starts + interval '1 minute'
  cross join lateral (select 100 * s.cpu_usage / nullif(s.cpu_limit, 0) as cpu_percent) p
  group by 1, 2, 3
  on conflict (agent_id, starts) do update set
    samples = excluded.samples,
    cpu_percent_samples = excluded.cpu_percent_samples, cpu_percent_sum = excluded.cpu_percent_sum,
    cpu_percent_min = excluded.cpu_percent_min, cpu_percent_max = excluded.cpu_percent_max,
    memory_usage_samples = excluded.memory_usage_samples, memory_usage_sum = excluded.memory_usage_sum,
    memory_usage_min = excluded.memory_usage_min, memory_usage_max = excluded.memory_usage_max,
    requests_per_minute_samples = excluded.requests_per_minute_samples, requests_per_minute_sum = excluded.requests_per_minute_sum,
    requests_per_minute_min = excluded.requests_per_minute_min, requests_per_minute_max = excluded.requests_per_minute_max,
    error_rate_samples = excluded.error_rate_samples, error_rate_sum = excluded.error_rate_sum,
    error_rate_min = excluded.error_rate_min, error_rate_max = excluded.error_rate_max,
    response_time_ms_samples = excluded.response_time_ms_samples, response_time_ms_sum = excluded.response_time_ms_sum,
    response_time_ms_min = excluded.response_time_ms_min, response_time_ms_max = excluded.response_time_ms_max;
  insert into private.metric_bins_due as d (agent_id, span, starts)
  select distinct t.agent_id, interval '1 hour', private.bin_of('1 hour', t.starts) from unnest(agents, minutes) t (agent_id, starts)
  order by 1, 3
  on conflict on constraint metric_bins_due_pkey do update set marks = d.marks + 1;
  return cardinality(agents);
end;
$$;
comment on function private.roll_up_minutes is 'Makes marked minutes anew from the samples, and marks their hours → how many. Definer: runs from cron.';

create function private.roll_up_hours(until timestamptz, most integer) returns integer
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  agents uuid[];
  hours timestamptz[];
begin
  select array_agg(t.agent_id), array_agg(t.starts) into agents, hours from private.take_due_bins('1 hour', until, most) t;
  if agents is null then
    return 0;
  end if;
  insert into public.agent_metric_hours as r
  select d.agent_id, m.user_id, d.starts, sum(m.samples),
    sum(m.cpu_percent_samples), sum(m.cpu_percent_sum), min(m.cpu_percent_min), max(m.cpu_percent_max),
    sum(m.memory_usage_samples), sum(m.memory_usage_sum), min(m.memory_usage_min), max(m.memory_usage_max),
    sum(m.requests_per_minute_samples), sum(m.requests_per_minute_sum), min(m.requests_per_minute_min), max(m.requests_per_minute_max),
    sum(m.error_rate_samples), sum(m.error_rate_sum), min(m.error_rate_min), max(m.error_rate_max),
    sum(m.response_time_ms_samples), sum(m.response_time_ms_sum), min(m.response_time_ms_min), max(m.response_time_ms_max)
  from unnest(agents, hours) d (agent_id, starts)
  join public.agent_metric_minutes m
    on m.agent_id = d.agent_id and m.starts >= d.starts and m.starts < d.starts + interval '1 hour'
  group by 1, 2, 3
  on conflict (agent_id, starts) do update set
    samples = excluded.samples,
    cpu_percent_samples = excluded.cpu_percent_samples, cpu_percent_sum = excluded.cpu_percent_sum,
    cpu_percent_min = excluded.cpu_percent_min, cpu_percent_max = excluded.cpu_percent_max,
    memory_usage_samples = excluded.memory_usage_samples, memory_usage_sum = excluded.memory_usage_sum,
    memory_usage_min = excluded.memory_usage_min, memory_usage_max = excluded.memory_usage_max,
    requests_per_minute_samples = excluded.requests_per_minute_samples, requests_per_minute_sum = excluded.requests_per_minute_sum,
    requests_per_minute_min = excluded.requests_per_minute_min, requests_per_minute_max = excluded.requests_per_minute_max,
    error_rate_samples = excluded.error_rate_samples, error_rate_sum = excluded.error_rate_sum,
    error_rate_min = excluded.error_rate_min, error_rate_max = excluded.error_rate_max,
    response_time_ms_samples = excluded.response_time_ms_samples, response_time_ms_sum = excluded.response_time_ms_sum,
    response_time_ms_min = excluded.response_time_ms_min, response_time_ms_max = excluded.response_time_ms_max;
  return cardinality(agents);
end;
$$;
comment on function private.roll_up_hours is 'Makes marked hours anew from their minutes → how many. Definer: runs from cron.';

create function private.roll_up_metrics(until timestamptz default now(), at_a_time integer default 5000) returns jsonb
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  begun constant timestamptz := clock_timestamp();
  done integer;
  minutes integer := 0;
  hours integer := 0;
begin
  -- What is left after half a minute waits for the next run; what was done is kept.
  loop
    done := private.roll_up_minutes(until, at_a_time);
    minutes := minutes + done;
    exit when done < at_a_time or clock_timestamp() > begun + interval '30 seconds';
  end loop;
  loop
    done := private.roll_up_hours(until, at_a_time);
    hours := hours + done;
    exit when done < at_a_time or clock_timestamp() > begun + interval '45 seconds';
  end loop;
  return jsonb_build_object('minutes', minutes, 'hours', hours);
end;
$$;
comment on function private.roll_up_metrics is
  'Rolls up what is marked and over by a time → {minutes, hours} made. May be run at any time and as often as one likes. Definer: runs from cron.';

create function private.due_bins(agent_id uuid, since timestamptz) returns table (span interval, starts timestamptz)
language sql stable security definer
set search_path = ''
as $$
  select d.span, d.starts from private.metric_bins_due d
  where d.agent_id = due_bins.agent_id and d.starts > since - interval '1 hour';
$$;
comment on function private.due_bins is 'Minutes and hours of an agent that its roll-ups cannot tell of yet. Definer: the marks are readable by nobody; they say no more than when there were samples.';

grant execute on function private.due_bins, private.bin_of to authenticated, service_role;

grant select, insert, update, delete on public.agent_metric_minutes, public.agent_metric_hours to service_role;
grant select on public.agent_metric_minutes, public.agent_metric_hours to authenticated;
alter table public.agent_metric_minutes enable row level security;
alter table public.agent_metric_hours enable row level security;
create policy "Owners can read metrics of their agents by minute" on public.agent_metric_minutes
  for select to authenticated
  using (user_id >= (select private.owner_bound('monitoring:read', 'lowest')) and user_id <= (select private.owner_bound('monitoring:read', 'highest')));
create policy "Owners can read metrics of their agents by hour" on public.agent_metric_hours
  for select to authenticated
  using (user_id >= (select private.owner_bound('monitoring:read', 'lowest')) and user_id <= (select private.owner_bound('monitoring:read', 'highest')));

select cron.schedule('roll-up-metrics', '* * * * *', 'select private.roll_up_metrics()');
