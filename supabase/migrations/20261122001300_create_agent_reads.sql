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
    'cluster', private.cluster_face(d.cluster_id)
  ) into snapshot
  from public.agents a left join public.deployments d on d.agent_id = a.id
  where a.id = agent_snapshot.agent_id;
  if snapshot is null then
    perform private.require_permission('agents:read');
    perform private.raise_error('AGENT_NOT_FOUND', format('Agent with ID ''%s'' not found or access denied', agent_snapshot.agent_id),
      jsonb_build_object('agent_id', agent_snapshot.agent_id), 404);
  end if;
  return snapshot;
end;
$$;
comment on function public.agent_snapshot is
  'All that is known of an agent (seed 000: GET /api/agents/{id}) → {agent, deployment | null, operation (last) | null, metrics (last measurement) | null, cluster {id, name, kind, console_url, endpoint_id} | null}. Errors: PERMISSION_DENIED 403, AGENT_NOT_FOUND 404.';

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
  page jsonb;
  total_agents bigint;
  total bigint;
  counts jsonb;
begin
  if row_limit is null or row_limit not between 0 and 100 or row_offset is null or row_offset < 0 then
    perform private.raise_error('VALIDATION_ERROR', 'Invalid request parameters',
      '{"limit": "limit must be from 0 to 100 and offset at least 0"}', 400);
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
    select coalesce(jsonb_agg(p.card), '[]') into page from (
      select c.card from private.agent_cards c
      where (list_agents.status is null or c.status = any (list_agents.status) or c.state = any (list_agents.status))
        and (list_agents.platform is null or list_agents.platform = any (c.platforms))
      order by (c.created_at at time zone 'UTC') desc, c.id desc limit row_limit offset row_offset
    ) p;
    select count(*) into total_agents from public.agents a where a.deleted_at is null;
    select coalesce(jsonb_object_agg(c.state, c.number), '{}') into counts from (
      select d.state, count(*) as number from public.deployments d group by 1
    ) c;
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
  'A page of agents, newest first (seeds 000–002) → {agents: [{agent, deployment, metrics}], total, limit, offset, summary {total_agents, running, stopped, deploying, failed, by_state}}. status: words of agents.status or deployments.state; owner: for those who may see all. row_limit 0–100. Errors: PERMISSION_DENIED 403, VALIDATION_ERROR 400.';

create function public.agent_log_lines(
  agent_id uuid, row_limit integer default 100, since timestamptz default null, levels text[] default null,
  container text default null, after_id bigint default null
) returns jsonb
language plpgsql stable
set search_path = ''
as $$
declare
  lines jsonb;
  found_more boolean;
begin
  perform private.require_permission('monitoring:read');
  if not exists (select from public.agents a where a.id = agent_log_lines.agent_id) then
    perform private.raise_error('AGENT_NOT_FOUND', format('Agent with ID ''%s'' not found or access denied', agent_log_lines.agent_id),
      jsonb_build_object('agent_id', agent_log_lines.agent_id), 404);
  end if;
  if row_limit is null or row_limit not between 1 and 1000 then
    perform private.raise_error('VALIDATION_ERROR', 'Invalid request parameters', '{"lines": "lines must be from 1 to 1000"}', 400);
  end if;

  if after_id is not null then
    -- Following: the lines written since, oldest first. Ids rise with every insert, so none that comes late is missed.
    select coalesce(jsonb_agg(to_jsonb(l) - 'user_id' order by l.id), '[]') into lines from (
      select * from public.agent_logs g
      where g.agent_id = agent_log_lines.agent_id and g.id > after_id
        and g.timestamp > coalesce(since, now() - interval '1 hour')
        and (levels is null or g.level = any (levels))
        and (container is null or container in (g.container_id, g.container_name) or g.container_id like container || '%')
      order by g.id limit row_limit + 1
    ) l;
  else
    select coalesce(jsonb_agg(to_jsonb(l) - 'user_id' order by l.timestamp desc, l.id desc), '[]') into lines from (
      select * from public.agent_logs g
      where g.agent_id = agent_log_lines.agent_id
        and (since is null or g.timestamp >= since)
        and (levels is null or g.level = any (levels))
        and (container is null or container in (g.container_id, g.container_name) or g.container_id like container || '%')
      order by g.timestamp desc, g.id desc limit row_limit + 1
    ) l;
  end if;
  found_more := jsonb_array_length(lines) > row_limit;
  if found_more then
    lines := lines - row_limit;
  end if;
  if after_id is null then
    select coalesce(jsonb_agg(e.line order by e.position desc), '[]') into lines
    from jsonb_array_elements(lines) with ordinality e (line, position);
  end if;
  return jsonb_build_object(
    'lines', lines, 'returned_lines', jsonb_array_length(lines), 'truncated', found_more,
    'last_id', (select max((e ->> 'id')::bigint) from jsonb_array_elements(lines) e),
    'total_lines', case
      when not found_more then jsonb_array_length(lines)
      else (
        select count(*) from public.agent_logs g
        where g.agent_id = agent_log_lines.agent_id
          and (since is null or g.timestamp >= since)
          and (levels is null or g.level = any (levels))
          and (container is null or container in (g.container_id, g.container_name) or g.container_id like container || '%')
      )
    end
  );
end;
$$;
comment on function public.agent_log_lines is
  'Last lines of an agent''s logs in order of time, or with after_id those written after it → {lines: [{id, agent_id, timestamp, level, message, source, container_id, container_name, metadata}], returned_lines, total_lines, truncated, last_id}. row_limit 1–1000. Errors: PERMISSION_DENIED 403, AGENT_NOT_FOUND 404, VALIDATION_ERROR 400.';

create function public.agent_metric_series(agent_id uuid, since timestamptz, bin interval) returns jsonb
language plpgsql stable
set search_path = ''
as $$
declare
  series jsonb;
begin
  perform private.require_permission('monitoring:read');
  if not exists (select from public.agents a where a.id = agent_metric_series.agent_id) then
    perform private.raise_error('AGENT_NOT_FOUND', format('Agent with ID ''%s'' not found or access denied', agent_metric_series.agent_id),
      jsonb_build_object('agent_id', agent_metric_series.agent_id), 404);
  end if;
  if bin is null or bin < interval '1 second' or since is null or extract(epoch from now() - since) / extract(epoch from bin) > 50000 then
    perform private.raise_error('VALIDATION_ERROR', 'Invalid request parameters', '{"interval": "interval is too short for the timeframe"}', 400);
  end if;

  with samples as (
    select m.timestamp, m.cpu_usage, m.cpu_limit, m.memory_usage, m.memory_limit, m.network_rx, m.network_tx,
      100 * m.cpu_usage / nullif(m.cpu_limit, 0) as cpu_percent
    from public.agent_metrics m
    where m.agent_id = agent_metric_series.agent_id and m.timestamp >= since
  ), bins as (
    select date_bin(bin, s.timestamp, '2024-01-01 00:00:00+00') as starts, avg(s.cpu_percent) as cpu_percent,
      avg(s.cpu_usage) as cpu_usage, avg(s.memory_usage) as memory_usage
    from samples s group by 1
  ), newest as (
    select * from samples s order by s.timestamp desc limit 1
  ), ends as (
    select
      avg(s.cpu_percent) as cpu_average, max(s.cpu_percent) as cpu_max, min(s.cpu_percent) as cpu_min,
      avg(s.memory_usage) as memory_average, max(s.memory_usage) as memory_max, min(s.memory_usage) as memory_min,
      count(*) as number
    from samples s
  ), rates as (
    -- A counter that falls was reset by a restart: that step counts for nothing.
    select
      sum(greatest(d.rx, 0)) / nullif(sum(d.seconds), 0) as rx_rate, sum(greatest(d.tx, 0)) / nullif(sum(d.seconds), 0) as tx_rate
    from (
      select s.network_rx - lag(s.network_rx) over (order by s.timestamp) as rx,
        s.network_tx - lag(s.network_tx) over (order by s.timestamp) as tx,
        extract(epoch from s.timestamp - lag(s.timestamp) over (order by s.timestamp)) as seconds
      from samples s where s.timestamp >= now() - interval '5 minutes'
    ) d where d.rx is not null
  )
  select jsonb_build_object(
    'cpu', jsonb_build_object(
      'current', n.cpu_percent, 'average', e.cpu_average, 'max', e.cpu_max, 'min', e.cpu_min,
      'data_points', (select coalesce(jsonb_agg(jsonb_build_object('timestamp', b.starts, 'value', b.cpu_percent) order by b.starts), '[]') from bins b)
    ),
    'memory', jsonb_build_object(
      'current', n.memory_usage, 'average', e.memory_average, 'max', e.memory_max, 'min', e.memory_min,
      'limit', n.memory_limit,
      'data_points', (select coalesce(jsonb_agg(jsonb_build_object('timestamp', b.starts, 'value', b.memory_usage) order by b.starts), '[]') from bins b)
    ),
    'network', jsonb_build_object(
      'rx_bytes', n.network_rx, 'tx_bytes', n.network_tx, 'rx_rate', r.rx_rate, 'tx_rate', r.tx_rate
    ),
    'samples', e.number,
    'latest', (select l.metrics from public.agent_metrics_latest l where l.agent_id = agent_metric_series.agent_id)
  ) into series
  from ends e cross join rates r left join newest n on true;
  return series;
end;
$$;
comment on function public.agent_metric_series is
  'Measurements of an agent since a time, averaged over bins (seed 000) → {cpu {current, average, max, min in percent of the limit, data_points [{timestamp, value}]}, memory {… bytes, limit}, network {rx_bytes, tx_bytes, rx_rate, tx_rate in bytes per second}, samples, latest (row of agent_metrics) | null}. What was not measured is null. Errors: PERMISSION_DENIED 403, AGENT_NOT_FOUND 404, VALIDATION_ERROR 400.';

grant select on private.agent_cards to authenticated, service_role;
grant execute on function private.cluster_face to authenticated, service_role;
grant execute on function public.agent_snapshot, public.list_agents, public.agent_log_lines, public.agent_metric_series
  to authenticated, service_role;
