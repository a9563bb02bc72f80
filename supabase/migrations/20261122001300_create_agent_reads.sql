-- Reads of agents: one call each for what /api shows of an agent, a list, its logs and its measurements.
--
-- All run as the caller, so that RLS decides what is seen; supabase-js clients can call them too, or read the tables.

create function private.cluster_face(cluster_id uuid) returns jsonb
language sql stable security definer
set search_path = ''
as $$
  select jsonb_build_object('id', c.id, 'name', c.name, 'kind', c.kind, 'console_url', c.console_url, 'endpoint_id', c.endpoint_id)
  from public.clusters c where c.id = cluster_face.cluster_id;
$$;
comment on function private.cluster_face is 'What a user may know of the cluster an agent runs on. Definer: users may not read clusters.';

create function public.agent_snapshot(agent_id uuid) returns jsonb
language plpgsql stable
set search_path = ''
as $$
declare
  snapshot jsonb;
begin
  select jsonb_build_object(
    'agent', to_jsonb(a), 'deployment', to_jsonb(d),
    'operation', (select to_jsonb(o) from public.operations o where o.agent_id = a.id order by o.created_at desc limit 1),
    'metrics', (select l.metrics from public.agent_metrics_latest l where l.agent_id = a.id),
    'reported', private.reported_now(a.id), 'cluster', private.cluster_face(d.cluster_id)
  ) into snapshot
  from public.agents a left join public.deployments d on d.agent_id = a.id
  where a.id = agent_snapshot.agent_id;
  if snapshot is null then
    perform private.require_permission('agents:read');
    perform private.raise_agent_not_found(agent_snapshot.agent_id);
  end if;
  return snapshot;
end;
$$;
comment on function public.agent_snapshot is
  'All that is known of an agent (seed 000: GET /api/agents/{id}) → {agent, deployment | null, operation (last) | null, metrics (last measurement) | null when nothing runs, reported (what the agent says of its requests just now) | null, cluster {id, name, kind, console_url, endpoint_id} | null}. Errors: PERMISSION_DENIED 403, AGENT_NOT_FOUND 404.';

create view private.agent_cards with (security_invoker = true) as
select
  a.id, a.user_id, a.created_at, a.status, a.platforms, d.state,
  jsonb_build_object(
    'agent', jsonb_build_object(
      'id', a.id, 'user_id', a.user_id, 'name', a.name, 'description', a.description, 'role', a.role, 'status', a.status,
      'framework', a.framework, 'model', a.model, 'platforms', a.platforms, 'replicas', a.replicas,
      'supabase_config', a.supabase_config, 'created_at', a.created_at, 'updated_at', a.updated_at, 'last_activity_at', a.last_activity_at
    ),
    'deployment', case when d.id is not null then jsonb_build_object(
      'state', d.state, 'stack_name', d.stack_name, 'url', d.url, 'replicas_desired', d.replicas_desired, 'replicas_ready', d.replicas_ready,
      'containers', d.containers, 'health', d.health, 'error', d.error, 'deployed_at', d.deployed_at
    ) end,
    'metrics', l.metrics
  ) as card
from public.agents a
left join public.deployments d on d.agent_id = a.id
left join public.agent_metrics_latest l on l.agent_id = a.id
where a.deleted_at is null;
comment on view private.agent_cards is
  'What a list shows of an agent: no character, prompt or settings, which can be large. Rows as the caller may see them.';

create function public.list_agents(
  status text[] default null, platform text default null, owner uuid default null,
  row_limit integer default 20, row_offset integer default 0
) returns jsonb
language plpgsql stable
set search_path = ''
as $$
declare
  reached constant text := private.require_permission('agents:read');
  -- Said again beside the policy, so that the index on the owner gives the order too.
  only_owner constant uuid := coalesce(list_agents.owner, case when reached = 'own' then (select auth.uid()) end);
  filtered constant boolean := list_agents.status is not null or list_agents.platform is not null;
  ids uuid[];
  page jsonb;
  total_agents bigint;
  total bigint;
  counts jsonb;
begin
  if row_limit is null or row_limit not between 0 and 100 or row_offset is null or row_offset < 0 then
    perform private.raise_error('VALIDATION_ERROR', 'Invalid request parameters',
      '{"limit": "limit must be from 0 to 100 and offset at least 0"}', 400);
  end if;
  if reached = 'own' and list_agents.owner <> (select auth.uid()) then
    perform private.raise_error('PERMISSION_DENIED', 'Listing the agents of others needs the permission agents:read_all.',
      '{"permission": "agents:read_all"}', 403, 'Leave owner out for your own agents.');
  end if;
  -- Two branches with plans of their own: one plan for both could not use an index.
  if only_owner is not null then
    select coalesce(jsonb_agg(p.card), '[]') into page from (
      select c.card from private.agent_cards c
      where c.user_id = only_owner
        and (list_agents.status is null or c.status = any (list_agents.status) or c.state = any (list_agents.status))
        and (list_agents.platform is null or list_agents.platform = any (c.platforms))
      order by c.created_at desc, c.id desc limit row_limit offset row_offset
    ) p;
    select count(*) into total_agents from public.agents a where a.user_id = only_owner and a.deleted_at is null;
    select coalesce(jsonb_object_agg(c.state, c.number), '{}') into counts from (
      select d.state, count(*) as number from public.deployments d where d.user_id = only_owner group by 1
    ) c;
    if filtered then
      select count(*) into total from private.agent_cards c
      where c.user_id = only_owner
        and (list_agents.status is null or c.status = any (list_agents.status) or c.state = any (list_agents.status))
        and (list_agents.platform is null or list_agents.platform = any (c.platforms));
    end if;
  else
    if filtered then
      select coalesce(jsonb_agg(p.card), '[]') into page from (
        select c.card from private.agent_cards c
        where (list_agents.status is null or c.status = any (list_agents.status) or c.state = any (list_agents.status))
          and (list_agents.platform is null or list_agents.platform = any (c.platforms))
        order by (c.created_at at time zone 'UTC') desc, c.id desc limit row_limit offset row_offset
      ) p;
    else
      -- First which, then what is shown of them: together, cards would be made of all to show twenty.
      ids := array(
        select a.id from public.agents a where a.deleted_at is null
        order by (a.created_at at time zone 'UTC') desc, a.id desc limit row_limit offset row_offset
      );
      select coalesce(jsonb_agg(c.card order by array_position(ids, c.id)), '[]') into page
      from private.agent_cards c where c.id = any (ids);
    end if;
    counts := private.fleet_counts();
    total_agents := private.count_of(counts, 'agents');
    counts := private.states_of(counts);
    if filtered then
      select count(*) into total from private.agent_cards c
      where (list_agents.status is null or c.status = any (list_agents.status) or c.state = any (list_agents.status))
        and (list_agents.platform is null or list_agents.platform = any (c.platforms));
    end if;
  end if;
  return jsonb_build_object(
    'agents', page, 'total', coalesce(total, total_agents), 'limit', row_limit, 'offset', row_offset,
    'summary', jsonb_build_object(
      'total_agents', total_agents,
      'running', coalesce((counts ->> 'running')::bigint, 0), 'stopped', coalesce((counts ->> 'stopped')::bigint, 0),
      'deploying', coalesce((counts ->> 'queued')::bigint, 0) + coalesce((counts ->> 'deploying')::bigint, 0),
      'failed', coalesce((counts ->> 'failed')::bigint, 0), 'by_state', counts
    )
  );
end;
$$;
comment on function public.list_agents is
  'A page of agents, newest first (seeds 000–002) → {agents: [{agent, deployment, metrics}], total, limit, offset, summary {total_agents, running, stopped, deploying, failed, by_state}}. status: words of agents.status or deployments.state; owner: one''s own id, or another''s for those who may see all. row_limit 0–100. Errors: PERMISSION_DENIED 403, VALIDATION_ERROR 400.';

create function private.require_monitored(agent_id uuid) returns void
language plpgsql stable security definer
set search_path = ''
as $$
begin
  perform private.require_permission('monitoring:read');
  if not exists (
    select from public.agents a
    where a.id = require_monitored.agent_id and a.deleted_at is null
      and a.user_id between private.owner_bound('monitoring:read', 'lowest') and private.owner_bound('monitoring:read', 'highest')
  ) then
    perform private.raise_agent_not_found(require_monitored.agent_id);
  end if;
end;
$$;
comment on function private.require_monitored is
  'Raises PERMISSION_DENIED (403) without monitoring:read, and AGENT_NOT_FOUND (404) for an agent that the caller may not monitor. Definer: a key that may only monitor reads no row of agents.';

create function private.log_cursor(line jsonb) returns text
language sql immutable
set search_path = ''
as $$
  select floor(extract(epoch from (line ->> 'timestamp')::timestamptz) * 1000000)::bigint || '_' || (line ->> 'id');
$$;
comment on function private.log_cursor is 'Where a line lies in its agent''s log: microseconds since 1970 and id. Cursors of agent_log_lines are made of it.';

create function private.log_total(agent_id uuid, since timestamptz, levels text[], container text) returns bigint
language plpgsql stable
set search_path = ''
as $$
declare
  first_hour constant timestamptz := private.log_hour(since);
  before_since boolean;
  counted bigint;
  partial bigint := 0;
begin
  -- Of the hour that `since` cuts, the shorter part is counted line by line.
  if since is not null and since > first_hour then
    before_since := since - first_hour < interval '30 minutes';
    select count(*) into partial from public.agent_logs g
    where g.agent_id = log_total.agent_id
      and g.timestamp >= case when before_since then first_hour else since end
      and g.timestamp < case when before_since then since else first_hour + interval '1 hour' end
      and (levels is null or g.level = any (levels))
      and (container is null or container in (g.container_id, g.container_name) or starts_with(g.container_id, container));
  end if;
  select coalesce(sum(c.lines), 0) into counted from public.agent_log_counts c
  where c.agent_id = log_total.agent_id
    and (since is null or c.hour >= case when before_since is false then first_hour + interval '1 hour' else first_hour end)
    and (levels is null or c.level = any (levels))
    and (container is null or container in (c.container_id, c.container_name) or starts_with(c.container_id, container));
  return counted + case when before_since then -partial else partial end;
end;
$$;
comment on function private.log_total is 'How many lines of an agent match, from the counts by hour and at most half an hour of lines. Rows as the caller may see them.';

create function public.agent_log_lines(
  agent_id uuid, row_limit integer default 100, since timestamptz default null, levels text[] default null,
  container text default null, after_id bigint default null, before text default null, after text default null
) returns jsonb
language plpgsql stable
set search_path = ''
as $$
declare
  lines jsonb;
  found_more boolean;
  faults jsonb := '{}';
  from_time timestamptz;
  from_id bigint;
begin
  perform private.require_monitored(agent_log_lines.agent_id);
  if row_limit is null or row_limit not between 1 and 1000 then
    faults := faults || '{"lines": "lines must be from 1 to 1000"}';
  end if;
  if before !~ '^[0-9]{1,18}_[0-9]{1,18}$' then
    faults := faults || '{"before": "before must be a cursor of an earlier answer"}';
  end if;
  if after !~ '^[0-9]{1,18}_[0-9]{1,18}$' then
    faults := faults || '{"after": "after must be a cursor of an earlier answer"}';
  elsif before is not null and after is not null then
    faults := faults || '{"after": "after and before do not go together"}';
  end if;
  if faults <> '{}' then
    perform private.raise_error('VALIDATION_ERROR', 'Invalid request parameters', faults, 400);
  end if;
  if coalesce(before, after) is not null then
    from_time := timestamptz 'epoch' + split_part(coalesce(before, after), '_', 1)::bigint * interval '1 microsecond';
    from_id := split_part(coalesce(before, after), '_', 2)::bigint;
  end if;

  if after_id is not null then
    -- Following: the lines written since, oldest first. Ids rise with every insert, so none that comes late is missed.
    select coalesce(jsonb_agg(to_jsonb(l) - 'user_id' order by l.id), '[]') into lines from (
      select * from public.agent_logs g
      where g.agent_id = agent_log_lines.agent_id and g.id > after_id
        and g.timestamp > coalesce(since, now() - interval '1 hour')
        and (levels is null or g.level = any (levels))
        and (container is null or container in (g.container_id, g.container_name) or starts_with(g.container_id, container))
      order by g.id limit row_limit + 1
    ) l;
  elsif after is not null then
    select coalesce(jsonb_agg(to_jsonb(l) - 'user_id' order by l.timestamp, l.id), '[]') into lines from (
      select * from public.agent_logs g
      where g.agent_id = agent_log_lines.agent_id
        and g.timestamp >= greatest(from_time, since) and (g.timestamp, g.id) > (from_time, from_id)
        and (levels is null or g.level = any (levels))
        and (container is null or container in (g.container_id, g.container_name) or starts_with(g.container_id, container))
      order by g.timestamp, g.id limit row_limit + 1
    ) l;
  else
    select coalesce(jsonb_agg(to_jsonb(l) - 'user_id' order by l.timestamp desc, l.id desc), '[]') into lines from (
      select * from public.agent_logs g
      where g.agent_id = agent_log_lines.agent_id
        and (since is null or g.timestamp >= since)
        and (from_time is null or g.timestamp <= from_time and (g.timestamp, g.id) < (from_time, from_id))
        and (levels is null or g.level = any (levels))
        and (container is null or container in (g.container_id, g.container_name) or starts_with(g.container_id, container))
      order by g.timestamp desc, g.id desc limit row_limit + 1
    ) l;
  end if;
  found_more := jsonb_array_length(lines) > row_limit;
  if found_more then
    lines := lines - row_limit;
  end if;
  if after_id is null and after is null then
    select coalesce(jsonb_agg(e.line order by e.position desc), '[]') into lines
    from jsonb_array_elements(lines) with ordinality e (line, position);
  end if;
  return jsonb_build_object(
    'lines', lines, 'returned_lines', jsonb_array_length(lines), 'truncated', found_more,
    'last_id', (select max((e ->> 'id')::bigint) from jsonb_array_elements(lines) e),
    'before', case when after is not null or found_more then private.log_cursor(lines -> 0) end,
    'after', coalesce(private.log_cursor(lines -> -1), after),
    'total_lines', case when after_id is null then private.log_total(agent_log_lines.agent_id, since, levels, container) end
  );
end;
$$;
comment on function public.agent_log_lines is
  'Last lines of an agent''s logs in order of time; with before those that lie before a cursor, with after those that follow one, with after_id those written after a line → {lines: [{id, agent_id, timestamp, level, message, source, container_id, container_name, metadata}], returned_lines, total_lines (all that match, whatever the page; null with after_id), truncated (there are more in this direction), before (cursor of older lines; null at the beginning), after (cursor of what will follow), last_id}. row_limit 1–1000. Errors: PERMISSION_DENIED 403, AGENT_NOT_FOUND 404, VALIDATION_ERROR 400.';

create function private.metric_parts(agent_id uuid, since timestamptz, bin interval) returns setof public.agent_metric_minutes
language plpgsql stable
set search_path = ''
as $$
declare
  by_hour constant boolean := bin >= interval '1 hour' and mod(extract(epoch from bin), 3600) = 0;
  by_minute constant boolean := bin >= interval '1 minute' and mod(extract(epoch from bin), 60) = 0;
  first_minute constant timestamptz := private.bin_of('1 minute', since + interval '1 minute' - interval '1 microsecond');
  first_hour constant timestamptz := private.bin_of('1 hour', since + interval '1 hour' - interval '1 microsecond');
  due_minutes timestamptz[];
  due_hours timestamptz[];
begin
  -- Each statement sees the same moment: the function is stable. What the roll-ups cannot tell of is read from the
  -- samples, be it the running minute or all that has come since the job last ran.
  select array_agg(d.starts) filter (where d.span = interval '1 minute' and d.starts >= first_minute),
    array_agg(distinct private.bin_of('1 hour', d.starts)) filter (where private.bin_of('1 hour', d.starts) >= first_hour)
  into due_minutes, due_hours
  from private.due_bins(metric_parts.agent_id, since) d;

  if by_hour then
    return query
    select h.* from public.agent_metric_hours h
    where h.agent_id = metric_parts.agent_id and h.starts >= first_hour and (due_hours is null or h.starts <> all (due_hours));
    return query
    select m.* from public.agent_metric_minutes m
    where m.agent_id = metric_parts.agent_id and m.starts >= first_minute and m.starts < first_hour
      and (due_minutes is null or m.starts <> all (due_minutes));
    return query
    select m.* from unnest(due_hours) d (starts)
    join public.agent_metric_minutes m on m.starts >= d.starts and m.starts < d.starts + interval '1 hour'
    where m.agent_id = metric_parts.agent_id and (due_minutes is null or m.starts <> all (due_minutes));
  elsif by_minute then
    return query
    select m.* from public.agent_metric_minutes m
    where m.agent_id = metric_parts.agent_id and m.starts >= first_minute
      and (due_minutes is null or m.starts <> all (due_minutes));
  end if;
  return query
  select s.agent_id, s.user_id, s.timestamp, 1,
    (p.cpu is not null)::int, p.cpu, p.cpu, p.cpu,
    (p.memory is not null)::int, p.memory, p.memory, p.memory,
    (s.requests_per_minute is not null)::int, s.requests_per_minute, s.requests_per_minute, s.requests_per_minute,
    (s.error_rate is not null)::int, s.error_rate, s.error_rate, s.error_rate,
    (s.response_time_ms is not null)::int, s.response_time_ms, s.response_time_ms, s.response_time_ms
  from (
    select since as starts, case when by_minute then first_minute else 'infinity' end as ends
    union all
    select d.starts, d.starts + interval '1 minute' from unnest(due_minutes) d (starts) where by_minute
  ) w
  join public.agent_metrics s on s.timestamp >= w.starts and s.timestamp < w.ends
  cross join lateral (
    select 100 * s.cpu_usage / nullif(s.cpu_limit, 0) as cpu, s.memory_usage::double precision as memory
  ) p
  where s.agent_id = metric_parts.agent_id;
end;
$$;
comment on function private.metric_parts is
  'Measurements of an agent since a time in parts that fit into bins: hours, minutes and samples, each sample in exactly one of them. Rows as the caller may see them.';

create function private.metric_figure(
  current double precision, samples numeric, total double precision, lowest double precision, highest double precision, points jsonb
) returns jsonb
language sql immutable
set search_path = ''
as $$
  select jsonb_build_object('current', current, 'average', total / nullif(samples, 0), 'max', highest, 'min', lowest,
    'data_points', coalesce(points, '[]'));
$$;
comment on function private.metric_figure is 'A series of one figure → {current, average, max, min, data_points}.';

create function public.agent_metric_series(agent_id uuid, since timestamptz, bin interval) returns jsonb
language plpgsql stable
set search_path = ''
as $$
declare
  most constant integer := (private.setting('collection', 'max_data_points'))::int;
  series jsonb;
begin
  perform private.require_monitored(agent_metric_series.agent_id);
  if extract(year from bin) <> 0 or extract(month from bin) <> 0 then
    perform private.raise_error('VALIDATION_ERROR', 'Invalid request parameters',
      '{"interval": "interval must be of days or less: months are not of one length"}', 400);
  end if;
  if bin is null or bin < interval '1 second' or since is null or floor(extract(epoch from now() - since) / extract(epoch from bin)) > most then
    perform private.raise_error('VALIDATION_ERROR', 'Invalid request parameters', jsonb_build_object('interval',
      format('interval is too short for the timeframe: a series has at most %s data points', most)), 400, 'Ask for a longer interval.');
  end if;

  with parts as materialized (
    select p.*, date_bin(bin, p.starts, '2024-01-01 00:00:00+00') as bin_starts
    from private.metric_parts(agent_metric_series.agent_id, since, bin) p
  ), bins as (
    select p.bin_starts,
      sum(p.cpu_percent_sum) / nullif(sum(p.cpu_percent_samples), 0) as cpu, min(p.cpu_percent_min) as cpu_min, max(p.cpu_percent_max) as cpu_max,
      sum(p.memory_usage_sum) / nullif(sum(p.memory_usage_samples), 0) as memory,
      min(p.memory_usage_min) as memory_min, max(p.memory_usage_max) as memory_max,
      sum(p.requests_per_minute_sum) / nullif(sum(p.requests_per_minute_samples), 0) as rate,
      min(p.requests_per_minute_min) as rate_min, max(p.requests_per_minute_max) as rate_max,
      sum(p.error_rate_sum) / nullif(sum(p.error_rate_samples), 0) as errors, min(p.error_rate_min) as errors_min, max(p.error_rate_max) as errors_max,
      sum(p.response_time_ms_sum) / nullif(sum(p.response_time_ms_samples), 0) as response,
      min(p.response_time_ms_min) as response_min, max(p.response_time_ms_max) as response_max
    from parts p group by 1
  ), points as (
    select
      jsonb_agg(jsonb_build_object('timestamp', b.bin_starts, 'value', b.cpu, 'min', b.cpu_min, 'max', b.cpu_max)) as cpu,
      jsonb_agg(jsonb_build_object('timestamp', b.bin_starts, 'value', b.memory, 'min', b.memory_min, 'max', b.memory_max)) as memory,
      jsonb_agg(jsonb_build_object('timestamp', b.bin_starts, 'value', b.rate, 'min', b.rate_min, 'max', b.rate_max))
        filter (where b.rate is not null) as rate,
      jsonb_agg(jsonb_build_object('timestamp', b.bin_starts, 'value', b.errors, 'min', b.errors_min, 'max', b.errors_max))
        filter (where b.errors is not null) as errors,
      jsonb_agg(jsonb_build_object('timestamp', b.bin_starts, 'value', b.response, 'min', b.response_min, 'max', b.response_max))
        filter (where b.response is not null) as response
    from (select * from bins order by bin_starts) b
  ), ends as (
    select sum(p.samples) as number,
      sum(p.cpu_percent_samples) as cpu_samples, sum(p.cpu_percent_sum) as cpu_sum, min(p.cpu_percent_min) as cpu_min, max(p.cpu_percent_max) as cpu_max,
      sum(p.memory_usage_samples) as memory_samples, sum(p.memory_usage_sum) as memory_sum,
      min(p.memory_usage_min) as memory_min, max(p.memory_usage_max) as memory_max,
      sum(p.requests_per_minute_samples) as rate_samples, sum(p.requests_per_minute_sum) as rate_sum,
      min(p.requests_per_minute_min) as rate_min, max(p.requests_per_minute_max) as rate_max,
      sum(p.error_rate_samples) as errors_samples, sum(p.error_rate_sum) as errors_sum, min(p.error_rate_min) as errors_min, max(p.error_rate_max) as errors_max,
      sum(p.response_time_ms_samples) as response_samples, sum(p.response_time_ms_sum) as response_sum,
      min(p.response_time_ms_min) as response_min, max(p.response_time_ms_max) as response_max
    from parts p
  ), newest as (
    select m.*, 100 * m.cpu_usage / nullif(m.cpu_limit, 0) as cpu_percent
    from public.agent_metrics_latest l cross join jsonb_populate_record(null::public.agent_metrics, l.metrics) m
    where l.agent_id = agent_metric_series.agent_id and l.timestamp >= since
  ), rates as (
    -- A counter that falls was reset by a restart: that step counts for nothing.
    select
      sum(greatest(d.rx, 0)) / nullif(sum(d.seconds), 0) as rx_rate, sum(greatest(d.tx, 0)) / nullif(sum(d.seconds), 0) as tx_rate
    from (
      select s.network_rx - lag(s.network_rx) over (order by s.timestamp) as rx,
        s.network_tx - lag(s.network_tx) over (order by s.timestamp) as tx,
        extract(epoch from s.timestamp - lag(s.timestamp) over (order by s.timestamp)) as seconds
      from public.agent_metrics s
      where s.agent_id = agent_metric_series.agent_id and s.timestamp >= greatest(since, now() - interval '5 minutes')
        and s.network_rx is not null
    ) d where d.rx is not null
  )
  select jsonb_build_object(
    'cpu', private.metric_figure(n.cpu_percent, e.cpu_samples, e.cpu_sum, e.cpu_min, e.cpu_max, p.cpu),
    'memory', private.metric_figure(n.memory_usage, e.memory_samples, e.memory_sum, e.memory_min, e.memory_max, p.memory)
      || jsonb_build_object('limit', n.memory_limit),
    'network', jsonb_build_object(
      'rx_bytes', n.network_rx, 'tx_bytes', n.network_tx, 'rx_rate', r.rx_rate, 'tx_rate', r.tx_rate
    ),
    'requests_per_minute', private.metric_figure(n.requests_per_minute, e.rate_samples, e.rate_sum, e.rate_min, e.rate_max, p.rate),
    'error_rate', private.metric_figure(n.error_rate, e.errors_samples, e.errors_sum, e.errors_min, e.errors_max, p.errors),
    'response_time_ms', private.metric_figure(n.response_time_ms, e.response_samples, e.response_sum, e.response_min, e.response_max, p.response),
    'samples', coalesce(e.number, 0),
    'latest', (select l.metrics from public.agent_metrics_latest l where l.agent_id = agent_metric_series.agent_id)
  ) into series
  from ends e cross join points p cross join rates r left join newest n on true;
  return series;
end;
$$;
comment on function public.agent_metric_series is
  'Measurements of an agent since a time in bins, which begin at whole multiples of their length (seed 000) → {cpu (percent of the limit), memory (bytes; with limit), requests_per_minute, error_rate, response_time_ms: each {current (last sample; null when nothing runs), average (over samples), max, min, data_points [{timestamp, value (average), min, max}]}, network {rx_bytes, tx_bytes, rx_rate, tx_rate in bytes per second}, samples, latest (row of agent_metrics) | null}. A bin without samples has no data point; what was not measured is null. At most settings collection.max_data_points bins. Errors: PERMISSION_DENIED 403, AGENT_NOT_FOUND 404, VALIDATION_ERROR 400.';

grant select on private.agent_cards to authenticated, service_role;
grant execute on function private.cluster_face, private.require_monitored, private.log_cursor, private.log_total, private.log_hour, private.metric_parts,
  private.metric_figure to authenticated, service_role;
grant execute on function public.agent_snapshot, public.list_agents, public.agent_log_lines, public.agent_metric_series
  to authenticated, service_role;
