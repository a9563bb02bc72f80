-- Broadcasts: changes of agents, operations and containers on private topics, which scale further than
-- postgres_changes: `user:<id>` for all of a user's agents and stacks, `agent:<id>` and `stack:<id>` for one.

create function private.broadcast_record(subject jsonb) returns jsonb
language sql immutable
set search_path = ''
as $$
  select subject - array['name', 'description', 'role', 'avatar', 'system_prompt', 'settings', 'character', 'plugins', 'platforms',
    'portainer', 'supabase_config', 'enabled_tools', 'environment_keys', 'definition', 'parameters', 'labels'];
$$;
comment on function private.broadcast_record is
  'A row as it is broadcast: without what describes an agent or a stack. Messages are kept for days, longer than a deleted agent''s personal data may be, and can be large.';

create function private.broadcast_change() returns trigger
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  subject constant jsonb := case when tg_op = 'DELETE' then to_jsonb(old) else to_jsonb(new) end;
  -- As realtime.broadcast_changes shapes it. Of a partition the trigger is told the partition's name; its table's stands
  -- in the argument.
  payload constant jsonb := jsonb_build_object(
    'schema', 'public', 'table', coalesce(tg_argv[0], tg_table_name), 'operation', tg_op,
    'record', case when tg_op <> 'DELETE' then private.broadcast_record(to_jsonb(new)) end,
    'old_record', case when tg_op <> 'INSERT' then private.broadcast_record(to_jsonb(old)) end
  );
  topic constant text := case
    when tg_table_name = 'stacks' then 'stack:' || (subject ->> 'id')
    when subject ->> 'agent_id' is null and subject ->> 'stack_id' is not null then 'stack:' || (subject ->> 'stack_id')
    else 'agent:' || coalesce(subject ->> 'agent_id', subject ->> 'id')
  end;
begin
  perform realtime.send(payload, tg_op, topic, true);
  if subject ->> 'user_id' is not null then
    perform realtime.send(payload, tg_op, 'user:' || (subject ->> 'user_id'), true);
  end if;
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

create policy "Owners can receive their topics" on realtime.messages
  for select to authenticated
  using (
    extension in ('broadcast', 'presence') and (
      (select realtime.topic()) = 'user:' || (select auth.uid())::text
      or ((select realtime.topic()) like 'agent:%'
        and exists (select from public.agents a where 'agent:' || a.id::text = (select realtime.topic())))
    )
  );
