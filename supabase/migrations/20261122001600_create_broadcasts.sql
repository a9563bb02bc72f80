-- Broadcasts: changes of agents, operations and containers on private topics, which scale further than
-- postgres_changes: `user:<id>` for all of a user's agents and stacks, `agent:<id>` and `stack:<id>` for one. The channels
-- that an agent's supabase_config opens are topics of their own, `agent:<id>:<channel>`; what they carry is in
-- create_agent_channels, who may join them is here. `system` is for announcements to everybody.

create function private.broadcast_change() returns trigger
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  -- What describes an agent or a stack. Messages are kept for days, longer than a deleted agent's personal data may be, and
  -- can be large.
  untold constant text[] := array['name', 'description', 'role', 'avatar', 'system_prompt', 'settings', 'character', 'plugins',
    'platforms', 'portainer', 'supabase_config', 'enabled_tools', 'environment_keys', 'definition', 'parameters', 'labels'];
  before constant jsonb := case when tg_op <> 'INSERT' then to_jsonb(old) - untold end;
  after constant jsonb := case when tg_op <> 'DELETE' then to_jsonb(new) - untold end;
  subject constant jsonb := coalesce(after, before);
  -- As realtime.broadcast_changes shapes it. Of a partition the trigger is told the partition's name; its table's stands
  -- in the argument.
  payload constant jsonb := jsonb_build_object(
    'schema', 'public', 'table', coalesce(tg_argv[0], tg_table_name), 'operation', tg_op, 'record', after, 'old_record', before);
  topics constant text[] := array[
    case
      when tg_table_name = 'stacks' then 'stack:' || (subject ->> 'id')
      when subject ->> 'agent_id' is null and subject ->> 'stack_id' is not null then 'stack:' || (subject ->> 'stack_id')
      else 'agent:' || coalesce(subject ->> 'agent_id', subject ->> 'id')
    end,
    'user:' || (subject ->> 'user_id')];
begin
  -- As realtime.send writes it, for all topics at once: a statement and a savepoint for each would double what it costs.
  insert into realtime.messages (id, payload, event, topic, private, extension)
  select m.id, payload || jsonb_build_object('id', m.id), tg_op, m.topic, true, 'broadcast'
  from (select gen_random_uuid() as id, t.topic from unnest(topics) t (topic) where t.topic is not null offset 0) m;
  return null;
exception when others then
  -- As realtime.send does: no change fails for want of an audience.
  raise warning 'The change of % could not be broadcast: %', tg_table_name, sqlerrm;
  return null;
end;
$$;
comment on function private.broadcast_change is 'Trigger: sends the change to the topics of the agent or stack and of its owner. Definer: clients do not write realtime.messages.';

create trigger agents_broadcast_insert after insert or delete on public.agents
  for each row execute function private.broadcast_change();
create trigger agents_broadcast_update after update on public.agents
  for each row when (old.status is distinct from new.status or old.generation is distinct from new.generation
    or old.deleted_at is distinct from new.deleted_at)
  execute function private.broadcast_change();
create trigger operations_broadcast after insert or update on public.operations
  for each row execute function private.broadcast_change();
create trigger deployments_broadcast after update on public.deployments
  for each row when (old.state is distinct from new.state or old.replicas_ready is distinct from new.replicas_ready)
  execute function private.broadcast_change();

-- Partitioned tables: Realtime on the hosted platform does not follow their partitions, so this is how a client there
-- hears of them. Log lines are left to `GET /api/agents/{id}/logs?follow=true`: a message for each would cost more than
-- the line.
create trigger container_events_broadcast after insert on public.container_events
  for each row execute function private.broadcast_change('container_events');
create trigger agent_metrics_broadcast after insert on public.agent_metrics
  for each row execute function private.broadcast_change('agent_metrics');

-- Who may join and who may send ------------------------------------------------------------------------------------

create function private.carried_channels() returns text[]
language sql immutable
set search_path = ''
as $$
  select array['agent_status', 'user_interactions', 'performance_metrics', 'error_logs', 'container_events'];
$$;
comment on function private.carried_channels is
  'Channels of an agent that the system itself speaks on; any other name is the agent''s own.';

create function private.agent_channels(supabase_config jsonb) returns text[]
language sql immutable
set search_path = ''
as $$
  select case
    when supabase_config #> '{real_time,enabled}' = 'false' then '{}'
    when jsonb_typeof(supabase_config #> '{real_time,channels}') = 'array'
      then array(select jsonb_array_elements_text(supabase_config #> '{real_time,channels}'))
    when supabase_config #> '{real_time,enabled}' = 'true' then private.carried_channels()
    else '{}'
  end;
$$;
comment on function private.agent_channels is
  'Names of the channels that a supabase_config opens: those it lists, the carried ones when it lists none and says enabled, none when it says neither or enabled is false.';

create function private.real_time_faults(supabase_config jsonb) returns jsonb
language plpgsql stable security definer
set search_path = ''
as $$
declare
  at constant text := 'supabase_config.real_time';
  faults jsonb := '{}';
  real_time constant jsonb := nullif(supabase_config -> 'real_time', 'null');
  channels constant jsonb := nullif(real_time -> 'channels', 'null');
begin
  if coalesce(nullif(supabase_config -> 'project_ref', 'null'), '"x"') #>> '{}' !~ '^[a-z0-9][a-z0-9-]{0,62}$' then
    faults := faults || '{"supabase_config.project_ref": "Project ref must be lower-case letters, digits and -, at most 63"}';
  end if;
  if jsonb_typeof(real_time) <> 'object' then
    return faults || jsonb_build_object(at, 'real_time must be an object');
  end if;
  if jsonb_typeof(nullif(real_time -> 'enabled', 'null')) <> 'boolean' then
    faults := faults || jsonb_build_object(at || '.enabled', 'enabled must be true or false');
  end if;
  if jsonb_typeof(channels) <> 'array' then
    faults := faults || jsonb_build_object(at || '.channels', 'Channels must be a list of names');
  elsif jsonb_array_length(channels) > (private.setting('real_time', 'max_channels'))::int then
    faults := faults || jsonb_build_object(at || '.channels', format('Channels must be at most %s', private.setting('real_time', 'max_channels')));
  elsif exists (select from jsonb_array_elements(channels) c where jsonb_typeof(c) <> 'string' or c #>> '{}' !~ '^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$') then
    faults := faults || jsonb_build_object(at || '.channels', 'Channels must be names of letters, digits, _, . and -, at most 63');
  elsif (select count(distinct c) <> count(*) from jsonb_array_elements(channels) c) then
    faults := faults || jsonb_build_object(at || '.channels', 'Each channel must be named once');
  end if;
  return faults;
end;
$$;
comment on function private.real_time_faults is
  'What is wrong with project_ref and real_time {enabled, channels} of a supabase_config → {field: message}. Definer: reads settings.';

create function private.may_join_topic(topic text) returns boolean
language plpgsql stable
set search_path = ''
as $$
declare
  part constant text[] := regexp_match(topic, '^(agent|stack|user):([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})(?::(.+))?$');
  target constant uuid := part[2];
  channel constant text := part[3];
begin
  if topic = 'system' then
    return (select auth.uid()) is not null;
  elsif part[1] = 'user' then
    return target = (select auth.uid()) and channel is null;
  elsif part[1] = 'stack' then
    return channel is null and exists (select from public.stacks s where s.id = target);
  elsif channel is null then
    return exists (select from public.agents a where a.id = target);
  end if;
  return exists (
    select from public.agents a
    where a.id = target and channel = any (private.agent_channels(a.supabase_config))
      -- What is seen of an agent's status is part of the agent; the rest is monitoring, as in the tables.
      and (channel = 'agent_status' or channel <> all (private.carried_channels())
        or (a.user_id >= private.owner_bound('monitoring:read', 'lowest') and a.user_id <= private.owner_bound('monitoring:read', 'highest')))
  );
end;
$$;
comment on function private.may_join_topic is
  'Whether the caller may join a private topic: system, as everybody signed in; user:{id} their own; agent:{id}, stack:{id} of what they may read; agent:{id}:{channel} when supabase_config opens the channel. Null for any other topic. Runs as the caller, so that row level security decides.';

create function private.may_send_to_topic(topic text) returns boolean
language sql stable
set search_path = ''
as $$
  select topic = 'system' and private.has_permission('system:write') or exists (
    select from public.agents a
    cross join (select regexp_match(topic, '^agent:([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}):(.+)$')) as found (part)
    where a.id = part[1]::uuid
      and part[2] = any (private.agent_channels(a.supabase_config)) and part[2] <> all (private.carried_channels())
      and a.user_id >= private.owner_bound('agents:write', 'lowest') and a.user_id <= private.owner_bound('agents:write', 'highest')
  );
$$;
comment on function private.may_send_to_topic is
  'Whether the caller may broadcast to a private topic: agent:{id}:{channel} of an agent they may change, when supabase_config opens the channel and the system does not speak on it; system with system:write. Runs as the caller.';

grant execute on function
  private.carried_channels, private.agent_channels, private.real_time_faults, private.may_join_topic, private.may_send_to_topic
  to authenticated, service_role;

create policy "Owners can receive their topics" on realtime.messages
  for select to authenticated
  using (
    -- Who is there is for those who share something, not for all users of the installation.
    (extension = 'broadcast' or (extension = 'presence' and (select realtime.topic()) <> 'system'))
    and (select private.may_join_topic((select realtime.topic())))
  );
create policy "Owners can send to channels of their agents and be present in their topics" on realtime.messages
  for insert to authenticated
  with check (
    (extension = 'broadcast' and (select private.may_send_to_topic((select realtime.topic()))))
    or (extension = 'presence' and (select realtime.topic()) <> 'system'
      and (select private.may_join_topic((select realtime.topic()))))
  );
