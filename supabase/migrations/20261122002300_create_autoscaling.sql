-- Autoscaling (seeds 000 and 002): keeps the CPU and memory of an agent's replicas near the targets of agents.scaling.
--
-- On Kubernetes a HorizontalPodAutoscaler does it; here its decisions become events and figures like our own. Everywhere
-- else the decision is private.autoscale, called by pg_cron: all it needs is in the database, so it needs no worker to be
-- awake, and queueing wakes one. It is carried out as an ordinary `scale` operation with request.automatic.
--
-- The rule is the HorizontalPodAutoscaler's: replicas × usage ÷ target, the higher of CPU and memory; nothing within the
-- tolerance; replicas without a measurement count as idle when scaling up and as on target when scaling down; down to the
-- highest that the stabilization window asked for. Any change of the agent, also scaling by hand, begins the cool-down and
-- the window anew.
-- Mind: private.autoscale waits for no lock, so that it can neither deadlock with commands nor hold them up.

insert into public.settings (category, key, value, description) values
  ('autoscaling', 'enabled', 'true', 'Whether agents on Docker are scaled by their policies.'),
  ('autoscaling', 'interval_seconds', '15', 'Seconds between two decisions on an agent.'),
  ('autoscaling', 'round_seconds', '1', 'How long a round of decisions may take; one begins every 5 seconds, and what it decided holds when it ends.'),
  ('autoscaling', 'window_seconds', '60', 'Measurements a decision is taken on: those of so many seconds, none from before the last change.'),
  ('autoscaling', 'min_samples', '3', 'Measurements in the window below which nothing is decided.'),
  ('autoscaling', 'stale_seconds', '60', 'Age of the last measurement from which on nothing is decided.'),
  ('autoscaling', 'tolerance_percent', '10', 'How far usage may be from the target without scaling, in percent of the target.'),
  ('autoscaling', 'up_cooldown_seconds', '60', 'Seconds after a change before replicas are added.'),
  ('autoscaling', 'up_max_percent', '100', 'At most so many percent of the replicas are added at once, or up_max_replicas if that is more.'),
  ('autoscaling', 'up_max_replicas', '4', 'See up_max_percent.'),
  ('autoscaling', 'down_stabilization_seconds', '300', 'Replicas are removed only after so many seconds without a change, down to the highest number asked for in that time.'),
  ('autoscaling', 'failure_pause_seconds', '900', 'Seconds without decisions after an automatic scaling failed.');

create table private.autoscalings (
  agent_id uuid primary key references public.agents (id) on delete cascade,
  next_at timestamptz not null default now(),
  limits jsonb not null default '{}'
) with (fillfactor = 70);
comment on table private.autoscalings is
  'Agents with a scaling policy: when each is decided on next (infinity: not before it runs or its policy changes), and what limited it when last, so that it is told once.';
create index autoscalings_next_at_idx on private.autoscalings (next_at);

create function private.autoscaling_number(key text) returns double precision
language sql stable
set search_path = ''
as $$
  select (private.setting('autoscaling', key))::double precision;
$$;
comment on function private.autoscaling_number is 'A number of the settings of category autoscaling.';

-- Which agents ---------------------------------------------------------------------------------------------------

create function private.follow_scaling_policy() returns trigger
language plpgsql volatile security definer
set search_path = ''
as $$
begin
  if new.scaling is null then
    delete from private.autoscalings s where s.agent_id = new.id;
  else
    insert into private.autoscalings (agent_id) values (new.id)
    on conflict (agent_id) do update set next_at = now(), limits = '{}';
  end if;
  if tg_op = 'UPDATE' and new.generation = old.generation then
    -- No operation comes that would tell the revision that runs.
    perform private.keep_replicas(new.id, ((private.running_revision(new.id)).definition ->> 'replicas')::int, new.scaling);
  end if;
  return null;
end;
$$;
comment on function private.follow_scaling_policy is 'Trigger: takes an agent up for decisions with its policy, and its revision too. Definer: the tables are not for clients.';
create trigger agents_follow_scaling_policy after insert on public.agents
  for each row when (new.scaling is not null) execute function private.follow_scaling_policy();
create trigger agents_follow_changed_policy after update of scaling on public.agents
  for each row when (new.scaling is distinct from old.scaling) execute function private.follow_scaling_policy();

create function private.decide_when_running() returns trigger
language plpgsql volatile security definer
set search_path = ''
as $$
begin
  update private.autoscalings s set next_at = now() where s.agent_id = new.agent_id and s.next_at = 'infinity';
  return null;
end;
$$;
comment on function private.decide_when_running is 'Trigger: an agent that runs again is decided on again. Definer: the table is private.';
create trigger deployments_decide_when_running after update of state on public.deployments
  for each row when (new.state = 'running' and old.state <> 'running') execute function private.decide_when_running();

create function private.scaling_policy(scaling jsonb) returns jsonb
language plpgsql stable security definer
set search_path = ''
as $$
declare
  most constant integer := (private.setting('agents', 'max_replicas'))::int;
  highest constant integer := least(coalesce((scaling ->> 'maxReplicas')::int, most), most);
begin
  if scaling is null then
    return null;
  end if;
  return jsonb_build_object(
    'minReplicas', least(coalesce((scaling ->> 'minReplicas')::int, 1), highest), 'maxReplicas', highest,
    'targetCPU', scaling -> 'targetCPU', 'targetMemory', scaling -> 'targetMemory'
  );
end;
$$;
comment on function private.scaling_policy is
  'A policy {minReplicas, maxReplicas, targetCPU | null, targetMemory | null} with what it leaves out: from 1 to settings agents.max_replicas. Definer: reads settings.';

create function private.is_scaled_by_kubernetes(orchestrator text, policy jsonb) returns boolean
language sql immutable
set search_path = ''
as $$
  select orchestrator in ('kubernetes', 'portainer-kubernetes') and coalesce(policy ->> 'targetCPU', policy ->> 'targetMemory') is not null;
$$;
comment on function private.is_scaled_by_kubernetes is 'Whether a HorizontalPodAutoscaler does it: on Kubernetes, when the policy has a target.';

create function private.replicas_left(target public.agents) returns integer
language sql stable security definer
set search_path = ''
as $$
  select greatest(0, (private.setting('agents', 'max_replicas_per_user'))::int - private.replicas_in_use(target.user_id, target.id, null))::int;
$$;
comment on function private.replicas_left is 'Replicas that the owner''s quota leaves for an agent. Definer: reads settings and all of the owner''s agents.';

create function private.replicas_allowed(target public.agents) returns integer
language sql stable security definer
set search_path = ''
as $$
  select greatest(1, private.replicas_left(target));
$$;
comment on function private.replicas_allowed is
  'Replicas that an orchestrator may scale a running agent to: what the quota leaves, and one in any case. Definer: see replicas_left.';

create function private.scaling_policy_within_quota(target public.agents) returns jsonb
language plpgsql stable security definer
set search_path = ''
as $$
declare
  policy constant jsonb := private.scaling_policy(target.scaling);
  room integer;
begin
  if policy is null then
    return null;
  end if;
  -- Counted only for those that scale by themselves: it is read with every operation.
  room := private.replicas_allowed(target);
  return policy || jsonb_build_object(
    'minReplicas', least((policy ->> 'minReplicas')::int, room), 'maxReplicas', least((policy ->> 'maxReplicas')::int, room));
end;
$$;
comment on function private.scaling_policy_within_quota is
  'A policy as an orchestrator gets it that scales by itself: it cannot ask for the quota, which goes before the minimum too. Definer: see replicas_left.';

-- What is measured -----------------------------------------------------------------------------------------------

create function private.measured_load(agent_id uuid, metric text, since timestamptz, until timestamptz, span interval)
returns table (at timestamptz, replicas integer, known integer, each_limit double precision, used double precision, samples integer)
language sql stable security definer
set search_path = ''
as $$
  select m.timestamp, m.replicas, c.known,
    case metric when 'cpu' then m.cpu_limit else m.memory_limit end / nullif(m.replicas, 0),
    avg(c.used / nullif(c.known, 0) * m.replicas) over span_before,
    (count(c.used) over span_before)::int
  from public.agent_metrics m
  cross join lateral (
    select count(e.usage)::int as known, sum(e.usage) as used
    from (select (v ->> (metric || '_usage'))::double precision as usage from jsonb_array_elements(m.containers) v) e
  ) c
  where m.agent_id = measured_load.agent_id and m.timestamp > since and m.timestamp <= until
  window span_before as (order by m.timestamp range between span preceding and current row);
$$;
comment on function private.measured_load is
  'Measurements of an agent, metric cpu or memory: containers, how many of them were measured, limit of each (null: none), use of all averaged over the span before, how many measurements that is. Definer: runs from cron.';

create function private.wanted_replicas(replicas integer, ratio double precision, tolerance double precision) returns integer
language sql immutable
set search_path = ''
as $$
  select case
    when abs(ratio - 1) <= tolerance then replicas
    -- Rounded first: what is exact on paper must not be a replica more for the last bit of a sum.
    else greatest(1, ceil(round((replicas * ratio)::numeric, 6)))::int
  end;
$$;
comment on function private.wanted_replicas is 'Replicas that bring usage to the target, ratio being usage ÷ target now; as many as there are within the tolerance.';

create function private.scaling_advice(
  agent_id uuid, metric text, target double precision, replicas integer, settled_at timestamptz, at timestamptz
) returns jsonb
language plpgsql stable security definer
set search_path = ''
as $$
declare
  span constant interval := make_interval(secs => private.autoscaling_number('window_seconds'));
  steady constant interval := make_interval(secs => private.autoscaling_number('down_stabilization_seconds'));
  tolerance constant double precision := private.autoscaling_number('tolerance_percent') / 100;
  since constant timestamptz := greatest(settled_at, at - span);
  newest record;
  ratio double precision;
  careful double precision;
  missing integer;
  highest integer;
begin
  select * into newest from private.measured_load(agent_id, metric, since, at, span) l order by l.at desc limit 1;
  if newest.at is null or newest.used is null or newest.samples < private.autoscaling_number('min_samples')
    or newest.at <= at - make_interval(secs => private.autoscaling_number('stale_seconds'))
  then
    return jsonb_build_object('metric', metric, 'unknown', 'unmeasured');
  elsif newest.each_limit is null or newest.each_limit <= 0 then
    return jsonb_build_object('metric', metric, 'unknown', 'no_limit');
  end if;

  ratio := newest.used / (newest.each_limit * newest.replicas) * 100 / target;
  missing := greatest(scaling_advice.replicas - newest.known, 0);
  careful := (ratio * (scaling_advice.replicas - missing) + case when ratio < 1 then missing else 0 end) / scaling_advice.replicas;
  if (ratio < 1) <> (careful < 1) then
    careful := 1;
  end if;
  if careful < 1 then
    select max(private.wanted_replicas(l.replicas, l.used / (l.each_limit * l.replicas) * 100 / target, tolerance)) into highest
    from private.measured_load(agent_id, metric, at - steady - span, at, span) l
    where l.at > scaling_advice.at - steady and l.each_limit > 0 and l.replicas > 0;
  end if;
  return jsonb_build_object(
    'metric', metric, 'value_percent', round((ratio * target)::numeric, 1), 'target_percent', target,
    'replicas', private.wanted_replicas(scaling_advice.replicas, careful, tolerance), 'highest', highest,
    'window', jsonb_build_object('from', since, 'to', newest.at, 'samples', newest.samples)
  );
end;
$$;
comment on function private.scaling_advice is
  'What one metric asks for → {metric, value_percent, target_percent, replicas, highest (in the stabilization window, when fewer are asked for), window {from, to, samples}}, or {metric, unknown: unmeasured | no_limit}. Definer: runs from cron.';

-- Deciding -------------------------------------------------------------------------------------------------------

create function private.scaling_words(data jsonb) returns text
language sql immutable
set search_path = ''
as $$
  select case data ->> 'reason'
    when 'below_minimum' then format('the policy asks for at least %s', data ->> 'min_replicas')
    when 'above_maximum' then format('the policy allows at most %s', data ->> 'max_replicas')
    when 'quota' then 'the owner''s quota of replicas is used up'
    when 'quota_free' then 'the owner''s quota has room again'
    else format('%s at %s %% of its limit, target %s %%',
      case data ->> 'metric' when 'cpu' then 'CPU' else 'memory' end, data ->> 'value_percent', data ->> 'target_percent')
  end;
$$;
comment on function private.scaling_words is 'Why an agent is scaled, in words, from the data of its event.';

create function private.tell_limit(target public.agents, limited_by text, message text, data jsonb, at timestamptz) returns void
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  told_again constant interval := make_interval(secs => private.autoscaling_number('down_stabilization_seconds'));
  known constant jsonb := coalesce((
    select jsonb_object_agg(l.key, l.value) from private.autoscalings s, jsonb_each(s.limits) l
    where s.agent_id = target.id and (l.value #>> '{}')::timestamptz >= at - told_again), '{}');
begin
  update private.autoscalings s set limits = known || jsonb_build_object(limited_by, at) where s.agent_id = target.id;
  -- Again only when it had been over for a while.
  if not known ? limited_by then
    perform private.write_event(target.id, target.user_id, 'AUTOSCALING_LIMITED', message,
      data || jsonb_build_object('limited_by', split_part(limited_by, ':', 1)));
  end if;
end;
$$;
comment on function private.tell_limit is
  'Writes AUTOSCALING_LIMITED once for as long as the same thing limits an agent. Definer: nobody writes events themselves.';

create function private.scale_automatically(target public.agents, placed public.deployments, replicas integer, data jsonb) returns public.operations
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  queued public.operations;
begin
  -- First the operation, then the agent: a change without one would be rolled out as an update.
  queued := private.queue_operation(target.id, target.user_id, placed.cluster_id, 'scale', jsonb_build_object(
    'from_replicas', target.replicas, 'to_replicas', replicas, 'strategy', 'rolling', 'automatic', true,
    'reason', data -> 'reason', 'generation', target.generation));
  perform private.move_agent(target.id, 'scaling', 'scaling');
  update public.agents a set replicas = scale_automatically.replicas where a.id = target.id;
  update public.deployments d set replicas_desired = scale_automatically.replicas where d.id = placed.id;
  return queued;
end;
$$;
comment on function private.scale_automatically is 'Queues the scaling of an agent whose row the caller has locked. Definer: clients write no operations.';

create function private.decide_scaling(agent_id uuid, at timestamptz) returns text
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  target public.agents;
  placed public.deployments;
  policy jsonb;
  last_operation public.operations;
  settled_at timestamptz;
  lowest integer;
  highest integer;
  advice jsonb;
  advices jsonb[] := '{}';
  strongest jsonb;
  unknown boolean := false;
  reason text;
  wanted integer;
  allowed integer;
  left_over integer;
  at_once integer;
  limited_by text;
  data jsonb;
begin
  select * into target from public.agents a where a.id = decide_scaling.agent_id for no key update skip locked;
  if target.id is null then
    return 'busy';
  end if;
  select * into placed from public.deployments d where d.agent_id = target.id;
  policy := private.scaling_policy(target.scaling);
  if policy is null or target.deleted_at is not null or target.status = 'deleting' or placed.id is null
    or placed.state <> 'running' or placed.stack_id is null or private.is_scaled_by_kubernetes(placed.orchestrator, policy)
  then
    return 'asleep';
  end if;
  select * into last_operation from public.operations o where o.agent_id = target.id order by o.created_at desc limit 1;
  if last_operation.state in ('queued', 'running') then
    return 'busy';
  end if;
  settled_at := coalesce(last_operation.finished_at, placed.deployed_at, target.created_at);
  lowest := (policy ->> 'minReplicas')::int;
  highest := (policy ->> 'maxReplicas')::int;

  if target.replicas < lowest then
    wanted := lowest;
    reason := 'below_minimum';
  elsif target.replicas > highest then
    wanted := highest;
    reason := 'above_maximum';
  else
    for advice in
      select private.scaling_advice(target.id, m.metric, m.target, target.replicas, settled_at, at)
      from (values ('cpu', (policy ->> 'targetCPU')::double precision), ('memory', (policy ->> 'targetMemory')::double precision)) m (metric, target)
      where m.target is not null
    loop
      if advice ? 'unknown' then
        unknown := true;
        if advice ->> 'unknown' = 'no_limit' then
          perform private.tell_limit(target, 'no_limit:' || (advice ->> 'metric'),
            format('Cannot scale by %s: the containers have no limit that it could be a share of', advice ->> 'metric'),
            jsonb_build_object('metric', advice -> 'metric', 'replicas', target.replicas), at);
        end if;
      else
        advices := advices || advice;
      end if;
    end loop;
    select a into strongest from unnest(advices) a order by (a ->> 'replicas')::int desc, (a ->> 'value_percent')::numeric desc limit 1;
    wanted := (strongest ->> 'replicas')::int;
    if wanted is null or wanted = target.replicas then
      return 'kept';
    elsif wanted > target.replicas then
      reason := 'above_target';
    else
      -- Down only when everything says so, and said so all the time.
      select max((a ->> 'highest')::int) into wanted from unnest(advices) a;
      wanted := greatest(wanted, lowest);
      if unknown or wanted >= target.replicas
        or settled_at > at - make_interval(secs => private.autoscaling_number('down_stabilization_seconds'))
      then
        return 'kept';
      end if;
      reason := 'below_target';
    end if;
  end if;

  data := jsonb_strip_nulls(jsonb_build_object(
    'reason', reason, 'metric', strongest -> 'metric', 'value_percent', strongest -> 'value_percent', 'target_percent', strongest -> 'target_percent',
    'from_replicas', target.replicas, 'wanted_replicas', wanted, 'min_replicas', lowest, 'max_replicas', highest,
    'window', strongest -> 'window'));
  allowed := wanted;
  if wanted > target.replicas then
    if target.replicas >= highest then
      allowed := target.replicas;
      limited_by := 'max_replicas';
    elsif reason = 'above_target' and settled_at > at - make_interval(secs => private.autoscaling_number('up_cooldown_seconds')) then
      allowed := target.replicas;
      limited_by := 'cooldown:' || settled_at;
    -- Whoever counts the quota meanwhile is not waited for.
    elsif not pg_try_advisory_xact_lock(hashtextextended('agents:' || target.user_id::text, 0)) then
      return 'busy';
    else
      left_over := greatest(target.replicas, private.replicas_left(target));
      at_once := case when reason = 'below_minimum' then wanted else greatest(
        ceil(target.replicas * (1 + private.autoscaling_number('up_max_percent') / 100)),
        target.replicas + private.autoscaling_number('up_max_replicas')) end;
      allowed := least(wanted, highest, left_over, at_once);
      limited_by := case when allowed = wanted then null when allowed = left_over and left_over < least(highest, at_once) then 'quota'
        when allowed = highest then 'max_replicas' else 'at_once' end;
    end if;
  end if;

  if allowed = target.replicas then
    perform private.tell_limit(target, limited_by,
      format('Needs %s replicas and stays at %s (%s): %s', wanted, target.replicas, private.scaling_words(data), case split_part(limited_by, ':', 1)
        when 'max_replicas' then format('the policy allows at most %s', highest)
        when 'quota' then 'the owner''s quota of replicas is used up'
        else 'the last change is too recent' end), data, at);
    return 'kept';
  end if;
  data := data || jsonb_strip_nulls(jsonb_build_object('to_replicas', allowed, 'limited_by', limited_by));
  perform private.write_event(target.id, target.user_id, 'AUTOSCALED',
    format('Scaling %s from %s to %s replicas: %s', case when allowed > target.replicas then 'up' else 'down' end,
      target.replicas, allowed, private.scaling_words(data)),
    data, (private.scale_automatically(target, placed, allowed, data)).id);
  return 'scaled';
end;
$$;
comment on function private.decide_scaling is
  'Decides on one agent and queues what follows → scaled, kept, busy (an operation is under way or somebody holds the agent) or asleep (not running, or not ours). Definer: runs from cron.';

create function private.autoscale(at timestamptz default now()) returns integer
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  until constant timestamptz := clock_timestamp() + make_interval(secs => private.autoscaling_number('round_seconds'));
  due uuid[];
  deciding uuid;
  outcome text;
  scaled integer := 0;
begin
  if not (private.setting('autoscaling', 'enabled'))::boolean then
    return 0;
  end if;
  -- A few at a time, for whoever scales one of them by hand waits until the round is over.
  loop
    with claimed as (
      update private.autoscalings s set next_at = at + make_interval(secs => private.autoscaling_number('interval_seconds'))
      from (
        select d.agent_id from private.autoscalings d where d.next_at <= at order by d.next_at limit 20 for update skip locked
      ) d where s.agent_id = d.agent_id
      returning s.agent_id
    )
    select array_agg(c.agent_id) into due from claimed c;
    exit when due is null;
    foreach deciding in array due loop
      begin
        outcome := private.decide_scaling(deciding, at);
      exception when others then
        -- One agent that cannot be decided on keeps no other from it.
        raise warning 'agent % could not be scaled: %', deciding, sqlerrm;
        outcome := 'kept';
      end;
      if outcome = 'scaled' then
        scaled := scaled + 1;
      elsif outcome = 'asleep' then
        update private.autoscalings s set next_at = 'infinity' where s.agent_id = deciding;
      end if;
    end loop;
    exit when clock_timestamp() >= until;
  end loop;
  return scaled;
end;
$$;
comment on function private.autoscale is
  'Decides on the agents with a scaling policy that are due, any number of callers at once → how many scalings were queued. Definer: runs from cron.';

select cron.schedule('autoscale', '5 seconds', 'select private.autoscale()');

-- When it fails --------------------------------------------------------------------------------------------------

create function private.return_from_autoscaling(held public.operations, error jsonb) returns boolean
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  target public.agents;
  placed public.deployments;
  before constant integer := (held.request ->> 'from_replicas')::int;
begin
  if held.kind <> 'scale' or not coalesce((held.request ->> 'automatic')::boolean, false) or held.request ->> 'reason' = 'scaling_failed' then
    return false;
  end if;
  select * into target from public.agents a where a.id = held.agent_id;
  if target.deleted_at is not null or target.status = 'deleting' or target.replicas <> (held.request ->> 'to_replicas')::int then
    return false;
  end if;
  -- What failed differs from what runs by its replicas alone, and so does what it goes back to.
  update public.deployments d set observed_generation = d.observed_generation + 1
  where d.agent_id = target.id and d.observed_generation = target.generation - 1 returning * into placed;
  if placed.id is null then
    return false;
  end if;
  update private.autoscalings s set next_at = now() + make_interval(secs => private.autoscaling_number('failure_pause_seconds'))
  where s.agent_id = target.id;
  perform private.write_event(target.id, target.user_id, 'AUTOSCALING_LIMITED',
    format('Could not get from %s to %s replicas and goes back: %s', before, target.replicas, coalesce(error ->> 'message', 'unknown')),
    jsonb_build_object('limited_by', 'scaling_failed', 'code', error -> 'code', 'from_replicas', target.replicas, 'to_replicas', before),
    (private.scale_automatically(target, placed, before, '{"reason": "scaling_failed"}')).id);
  return true;
end;
$$;
comment on function private.return_from_autoscaling is
  'Takes an agent whose automatic scaling was given up back to the replicas it had → whether it does; scaling by hand fails instead. Definer: called by fail_operation.';

-- What Kubernetes decides ----------------------------------------------------------------------------------------

create function private.observe_autoscaler(agent_id uuid, seen jsonb) returns void
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  desired constant integer := (seen ->> 'desired')::int;
  -- Until it has followed, or where somebody else has set the count, that is no decision of its own.
  decided constant boolean := desired is not distinct from (seen ->> 'replicas')::int;
  known public.deployments;
  target public.agents;
  policy jsonb;
  strongest jsonb;
  room integer;
  wanted integer;
  data jsonb;
begin
  select * into known from public.deployments d where d.agent_id = observe_autoscaler.agent_id;
  if known.state is distinct from 'running' or (desired = known.replicas_desired or not decided) and (
    seen ->> 'limited_by' is null
    -- What limits it is looked at again now and then, not with each look at the containers.
    or exists (select from private.autoscalings s where s.agent_id = known.agent_id
      and greatest((s.limits ->> (seen ->> 'limited_by'))::timestamptz, (s.limits ->> 'quota')::timestamptz) > now() - interval '30 seconds')
  ) then
    return;
  end if;
  -- Who holds the agent is not waited for: the next look sees the same.
  select * into target from public.agents a where a.id = observe_autoscaler.agent_id for no key update skip locked;
  if target.id is null or target.scaling is null or target.deleted_at is not null
    or exists (select from public.operations o where o.agent_id = target.id and o.state in ('queued', 'running'))
  then
    return;
  end if;
  policy := private.scaling_policy(target.scaling);
  select m into strongest from jsonb_array_elements(seen -> 'metrics') m
  order by (m ->> 'value_percent')::numeric / (m ->> 'target_percent')::numeric desc nulls last limit 1;
  data := jsonb_strip_nulls(jsonb_build_object(
    'by', 'kubernetes', 'reason', case
      when known.replicas_desired < (policy ->> 'minReplicas')::int then 'below_minimum'
      when known.replicas_desired > (policy ->> 'maxReplicas')::int then 'above_maximum'
      when desired > known.replicas_desired then 'above_target'
      else 'below_target' end,
    'metric', strongest -> 'metric', 'value_percent', strongest -> 'value_percent', 'target_percent', strongest -> 'target_percent',
    'from_replicas', known.replicas_desired, 'to_replicas', desired,
    'min_replicas', policy -> 'minReplicas', 'max_replicas', policy -> 'maxReplicas'));
  if decided and desired <> known.replicas_desired then
    perform set_config('launchpad.replicas_run', 'true', true);
    update public.agents a set replicas = desired where a.id = target.id returning * into target;
    perform set_config('launchpad.replicas_run', '', true);
    update public.deployments d set replicas_desired = desired where d.id = known.id;
    perform private.keep_replicas(target.id, desired, target.scaling);
    perform private.write_event(target.id, target.user_id, 'AUTOSCALED',
      format('Kubernetes scaled from %s to %s replicas%s', known.replicas_desired, desired,
        -- The bounds hold without a measurement.
        case when data ? 'value_percent' or data ->> 'reason' in ('below_minimum', 'above_maximum')
          then ': ' || private.scaling_words(data) else '' end), data);
  end if;

  data := data - '{from_replicas,to_replicas,reason}'::text[] || jsonb_build_object('replicas', desired);
  if seen ->> 'limited_by' = 'max_replicas' and desired >= (policy ->> 'maxReplicas')::int then
    perform private.tell_limit(target, 'max_replicas', format('Stays at %s replicas: the policy allows no more', desired), data, now());
  elsif seen ->> 'limited_by' in ('unmeasured', 'scaling_failed') then
    perform private.tell_limit(target, seen ->> 'limited_by', case seen ->> 'limited_by'
      when 'unmeasured' then 'Kubernetes cannot scale: it has no measurements of the containers; is metrics-server installed?'
      else 'Kubernetes cannot scale: it could not read or set the number of replicas' end, data, now());
  end if;

  if not decided then
    return;
  end if;
  room := private.replicas_allowed(target);
  if desired > room then
    wanted := room;
  elsif seen ->> 'limited_by' = 'max_replicas' and desired < (policy ->> 'maxReplicas')::int then
    -- Its own bound was the quota when it was written.
    if desired = room then
      perform private.tell_limit(target, 'quota', format('Stays at %s replicas: the owner''s quota of replicas is used up', desired), data, now());
      return;
    end if;
    wanted := desired + 1;
  else
    return;
  end if;
  data := data - '{replicas,metric,value_percent,target_percent}'::text[] || jsonb_build_object(
    'by', 'quota', 'reason', case when wanted < desired then 'quota' else 'quota_free' end, 'from_replicas', desired, 'to_replicas', wanted);
  perform private.write_event(target.id, target.user_id, 'AUTOSCALED',
    format('Scaling from %s to %s replicas: %s', desired, wanted, private.scaling_words(data)), data,
    (private.scale_automatically(target, known, wanted, data)).id);
end;
$$;
comment on function private.observe_autoscaler is
  'Takes over what a HorizontalPodAutoscaler decided {desired, replicas, metrics [{metric, value_percent, target_percent}], limited_by} as replicas, without a new generation, and tells it as events; keeps it within the owner''s quota. Definer: called by observe_deployment.';
