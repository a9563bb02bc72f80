-- Batches: one operation asked of many agents (seed 000), so many of them at a time.
--
-- Each agent gets its operation at once, like by the single command, or is reported with the error it would have got. The
-- operations of a batch wait in `private.batch_waiting` and enter the queue in the order of the request, when fewer than
-- max_concurrent of the batch are in it: how many workers there are makes no difference.
-- Mind: the order of locks is agent, operation, batch. So the end of an operation is counted when its transaction commits,
-- by a deferred trigger; whatever else locks a batch locks the agents first.

create table public.batches (
  id uuid primary key default gen_random_uuid(),
  -- Outlives its user: agents of others may be waiting in it.
  user_id uuid,
  operation text not null,
  agent_ids uuid[] not null,
  options jsonb not null default '{}',
  max_concurrent integer not null,
  state text not null default 'running',
  total integer not null,
  rejected integer not null default 0,
  waiting integer not null default 0,
  running integer not null default 0,
  succeeded integer not null default 0,
  failed integer not null default 0,
  cancelled integer not null default 0,
  rejections jsonb not null default '{}',
  done_at_once uuid[] not null default '{}',
  api_key_id uuid,
  request_id text,
  cancel_requested_at timestamptz,
  created_at timestamptz not null default now(),
  finished_at timestamptz,
  constraint operation_is_known check (operation in ('deploy', 'update', 'rollback', 'scale', 'restart', 'stop', 'start', 'delete')),
  constraint state_is_known check (state in ('running', 'succeeded', 'partial', 'failed', 'cancelled')),
  constraint finished_when_over check ((finished_at is not null) = (state <> 'running')),
  constraint total_is_all check (total = cardinality(agent_ids) and total between 1 and 100),
  constraint max_concurrent_is_count check (max_concurrent between 1 and 100)
);
comment on table public.batches is 'One operation asked of many agents. Read it, or follow it and its operations (batch_id) over Realtime.';
comment on column public.batches.state is 'running; then succeeded: by all agents, partial: by some, failed: by none, or cancelled: some were cancelled on request.';
comment on column public.batches.running is 'Operations that were let into the queue and have not ended: never more than max_concurrent.';
comment on column public.batches.rejections is 'Agents that got no operation, and why: {agent_id: {code, message, details}}.';
comment on column public.batches.done_at_once is 'Agents that needed no operation: changed or deleted without having been deployed.';
create index batches_user_id_idx on public.batches (user_id, created_at desc);
create index batches_finished_at_idx on public.batches (finished_at) where finished_at is not null;

alter table public.operations
  add constraint operations_batch_id_fkey foreign key (batch_id) references public.batches (id) on delete set null;
create index operations_batch_id_idx on public.operations (batch_id) where batch_id is not null;

create table private.batch_waiting (
  operation_id uuid primary key references public.operations (id) on delete cascade,
  batch_id uuid not null references public.batches (id) on delete cascade,
  place integer not null,
  before jsonb not null
);
comment on table private.batch_waiting is 'Operations of a batch that are not in the queue yet, in their order.';
comment on column private.batch_waiting.before is 'What the command changed, for when it is cancelled: {status, state, replicas, scaling, generation}.';
create index batch_waiting_batch_id_idx on private.batch_waiting (batch_id, place);

insert into public.settings (category, key, value, description) values
  ('batches', 'max_concurrent', '5', 'Agents a batch works on at a time when it does not say.');

-- Counting and letting in ----------------------------------------------------------------------------------------

create function private.follow_batch(batch_id uuid) returns public.batches
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  batch public.batches;
  let_in uuid[];
begin
  select * into batch from public.batches b where b.id = follow_batch.batch_id for update;
  if batch.id is null or batch.state <> 'running' then
    return batch;
  end if;

  delete from private.batch_waiting w using public.operations o
  where w.batch_id = batch.id and o.id = w.operation_id and o.state <> 'queued';
  -- One that was let in by somebody who did not see its end yet.
  delete from private.operation_queue q using public.operations o
  where o.batch_id = batch.id and q.operation_id = o.id and o.finished_at is not null and q.lease_token is null and not q.cancel_requested;

  select
    count(*) filter (where o.state in ('queued', 'running') and w.operation_id is null),
    count(*) filter (where o.state = 'succeeded') + cardinality(batch.done_at_once),
    count(*) filter (where o.state = 'failed'), count(*) filter (where o.state = 'cancelled'), count(w.operation_id)
  into batch.running, batch.succeeded, batch.failed, batch.cancelled, batch.waiting
  from public.operations o left join private.batch_waiting w on w.operation_id = o.id
  where o.batch_id = batch.id;

  with next as (
    delete from private.batch_waiting w
    where w.operation_id in (
      select n.operation_id from private.batch_waiting n where n.batch_id = batch.id
      order by n.place limit greatest(0, batch.max_concurrent - batch.running)
    )
    returning w.operation_id, w.place
  ), queued as (
    insert into private.operation_queue (operation_id, run_after, turn)
    select n.operation_id, private.free_at(o.agent_id),
      private.turn_of(o.user_id, (row_number() over (partition by o.user_id order by n.place))::integer - 1)
    from next n join public.operations o on o.id = n.operation_id
    returning operation_id
  )
  select coalesce(array_agg(q.operation_id), '{}') into let_in from queued q;
  batch.running := batch.running + cardinality(let_in);
  batch.waiting := batch.waiting - cardinality(let_in);

  if batch.running + batch.waiting = 0 then
    batch.finished_at := clock_timestamp();
    batch.state := case
      when batch.cancel_requested_at is not null and batch.cancelled > 0 then 'cancelled'
      when batch.succeeded = batch.total then 'succeeded'
      when batch.succeeded > 0 then 'partial'
      else 'failed'
    end;
  end if;
  update public.batches b set
    state = batch.state, running = batch.running, waiting = batch.waiting, succeeded = batch.succeeded, failed = batch.failed,
    cancelled = batch.cancelled, finished_at = batch.finished_at
  where b.id = batch.id
    and (b.state, b.running, b.waiting, b.succeeded, b.failed, b.cancelled)
      is distinct from (batch.state, batch.running, batch.waiting, batch.succeeded, batch.failed, batch.cancelled);
  return batch;
end;
$$;
comment on function private.follow_batch is
  'Counts the operations of a batch, lets in those whose turn has come and ends it after the last → its row. Definer: clients write neither batches nor the queue.';

create function private.follow_batch_of_operation() returns trigger
language plpgsql volatile security definer
set search_path = ''
as $$
begin
  perform private.follow_batch(new.batch_id);
  return null;
end;
$$;
comment on function private.follow_batch_of_operation is 'Trigger: the end of an operation lets the next of its batch in. Definer: see follow_batch.';
create constraint trigger operations_follow_batch after update of state on public.operations
  deferrable initially deferred
  for each row when (new.batch_id is not null and old.finished_at is null and new.finished_at is not null)
  execute function private.follow_batch_of_operation();

-- Asking ---------------------------------------------------------------------------------------------------------

create function private.batch_faults(operation text, agent_ids uuid[], options jsonb) returns jsonb
language plpgsql stable security definer
set search_path = ''
as $$
declare
  most constant integer := (private.setting('agents', 'max_replicas'))::int;
  taken constant text[] := array['max_concurrent'] || case operation
    when 'restart' then '{restart_policy, max_unavailable}'
    when 'scale' then '{replicas, strategy, scaling_policy}'
    when 'update' then '{changes}'
    when 'rollback' then '{revision}'
    else '{}'
  end::text[];
  faults jsonb := '{}';
  highest integer;
  entry record;
begin
  if operation is null or operation not in ('deploy', 'update', 'rollback', 'scale', 'restart', 'stop', 'start', 'delete') then
    return '{"operation": "Operation must be one of: restart, stop, start, scale, update, rollback, delete, deploy"}';
  end if;
  if coalesce(cardinality(agent_ids), 0) not between 1 and 100 or array_position(agent_ids, null) is not null then
    faults := faults || '{"agent_ids": "agent_ids must name 1 to 100 agents"}';
  elsif (select count(distinct a) from unnest(agent_ids) a) <> cardinality(agent_ids) then
    faults := faults || '{"agent_ids": "agent_ids must name each agent once"}';
  end if;
  if options is null or jsonb_typeof(options) <> 'object' then
    return faults || '{"options": "Options must be an object"}';
  end if;
  for entry in select * from jsonb_each(options) loop
    if not entry.key = any (taken) then
      faults := faults || jsonb_build_object('options.' || left(entry.key, 50), format('This is no option of %s', operation));
    elsif entry.key in ('max_concurrent', 'max_unavailable', 'replicas', 'revision') then
      highest := case entry.key when 'max_concurrent' then 100 when 'revision' then 2147483647 else most end;
      if jsonb_typeof(entry.value) <> 'number' or (entry.value #>> '{}')::numeric % 1 <> 0
        or (entry.value #>> '{}')::numeric not between 1 and highest
      then
        faults := faults || jsonb_build_object('options.' || entry.key, format('%s must be a whole number from 1 to %s', entry.key, highest));
      end if;
    elsif entry.key in ('restart_policy', 'strategy') then
      if entry.value not in ('"rolling"', '"recreate"') then
        faults := faults || jsonb_build_object('options.' || entry.key, format('%s must be one of: rolling, recreate', entry.key));
      end if;
    elsif jsonb_typeof(entry.value) not in ('object', 'null') then
      faults := faults || jsonb_build_object('options.' || entry.key, format('%s must be an object', entry.key));
    end if;
  end loop;
  if operation = 'scale' and not options ? 'replicas' then
    faults := faults || '{"options.replicas": "Replicas are required"}';
  elsif operation = 'update' then
    if coalesce(options -> 'changes', '{}') in ('{}', 'null') then
      faults := faults || '{"options.changes": "Changes are required"}';
    elsif not faults ? 'options.changes' then
      faults := faults || coalesce((
        select jsonb_object_agg('options.changes.' || f.key, f.value) from jsonb_each(private.spec_faults(options -> 'changes')) f
      ), '{}');
    end if;
  end if;
  return faults;
end;
$$;
comment on function private.batch_faults is 'All that is wrong with a batch that is asked for → {field: message}. Definer: reads settings.';

create function private.create_batch(operation text, agent_ids uuid[], options jsonb) returns uuid
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  permission constant text := case when operation in ('update', 'delete') then 'agents:write' else 'containers:manage' end;
  made public.batches;
  target record;
  before jsonb;
  answer jsonb;
  fault jsonb;
begin
  perform private.require_permission(permission);
  perform private.refuse_faults(private.batch_faults(operation, agent_ids, options));
  insert into public.batches (user_id, operation, agent_ids, options, max_concurrent, total, api_key_id, request_id)
  values (
    (select auth.uid()), create_batch.operation, create_batch.agent_ids,
    -- Values of environment variables are nobody's to read.
    options #- '{changes,environment}' #- '{changes,supabase_config,database_url}',
    coalesce((options ->> 'max_concurrent')::int, (private.setting('batches', 'max_concurrent'))::int), cardinality(create_batch.agent_ids),
    nullif(auth.jwt() ->> 'api_key_id', '')::uuid, nullif(current_setting('launchpad.request_id', true), '')
  ) returning * into made;
  perform set_config('launchpad.batch_id', made.id::text, true);

  -- All agents first, for what follows locks the quota of their owner too; in the order of ids, so that two batches with the
  -- same agents do not wait for each other.
  perform from public.agents a
  where a.id = any (create_batch.agent_ids) and (private.reach(permission) = 'all' or a.user_id = (select auth.uid()))
  order by a.id for no key update;
  for target in select t.id, t.place from unnest(create_batch.agent_ids) with ordinality t (id, place) order by t.id loop
    begin
      perform private.lock_agent(target.id, permission);
      select jsonb_build_object('status', a.status, 'state', d.state, 'replicas', a.replicas, 'scaling', a.scaling, 'generation', a.generation)
      into before
      from public.agents a left join public.deployments d on d.agent_id = a.id
      where a.id = target.id;
      answer := case operation
        when 'restart' then private.restart_agent(target.id, coalesce(options ->> 'restart_policy', 'rolling'),
          coalesce((options ->> 'max_unavailable')::int, 1))
        when 'scale' then private.scale_agent(target.id, (options ->> 'replicas')::int, coalesce(options ->> 'strategy', 'rolling'),
          options -> 'scaling_policy')
        when 'stop' then public.stop_agent(target.id)
        when 'update' then private.update_agent(target.id, options -> 'changes')
        when 'rollback' then private.rollback_agent(target.id, (options ->> 'revision')::int)
        when 'delete' then private.delete_agent(target.id)
        else private.start_agent(target.id)
      end;
      if answer #>> '{operation,id}' is null then
        made.done_at_once := made.done_at_once || target.id;
      else
        insert into private.batch_waiting (operation_id, batch_id, place, before)
        values ((answer #>> '{operation,id}')::uuid, made.id, target.place, before);
      end if;
    exception when sqlstate 'PGRST' then
      fault := sqlerrm::jsonb;
      made.rejections := made.rejections || jsonb_build_object(target.id, jsonb_build_object(
        'code', fault -> 'code', 'message', fault -> 'message', 'details', (fault ->> 'details')::jsonb));
    end;
  end loop;
  perform set_config('launchpad.batch_id', '', true);

  update public.batches b
  set rejections = made.rejections, done_at_once = made.done_at_once, rejected = (select count(*) from jsonb_object_keys(made.rejections))
  where b.id = made.id;
  perform private.follow_batch(made.id);
  perform private.write_audit('batch.create', 'batch', made.id::text, jsonb_build_object('operation', operation, 'agents', cardinality(agent_ids)));
  return made.id;
end;
$$;
comment on function private.create_batch is 'See public.create_batch → id of the batch. Definer: clients write neither batches nor operations.';

create function private.cancel_batch(batch_id uuid) returns void
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  reached constant text := private.require_permission('containers:manage');
  batch public.batches;
  entry record;
begin
  select * into batch from public.batches b
  where b.id = cancel_batch.batch_id and (reached = 'all' or b.user_id = (select auth.uid()));
  if batch.id is null then
    perform private.raise_error('NOT_FOUND', 'There is no such batch.', jsonb_build_object('batch_id', cancel_batch.batch_id), 404);
  end if;
  if batch.operation = 'delete' then
    perform private.raise_error('INVALID_STATE', 'A deletion cannot be cancelled: the data of the agents is gone.',
      jsonb_build_object('state', batch.state), 409);
  end if;
  perform from public.agents a where a.id = any (batch.agent_ids) order by a.id for no key update;
  select * into batch from public.batches b where b.id = cancel_batch.batch_id for update;
  if batch.state <> 'running' then
    perform private.raise_error('INVALID_STATE', 'The batch is over.', jsonb_build_object('state', batch.state), 409);
  end if;

  for entry in
    delete from private.batch_waiting w using public.operations o
    where w.batch_id = batch.id and o.id = w.operation_id and o.state = 'queued'
    returning o.id, o.agent_id, o.user_id, o.kind, w.before
  loop
    -- What was asked for is taken back while the operation still stands: a change without one would be rolled out.
    if entry.kind = 'scale' then
      update public.agents a set
        replicas = (entry.before ->> 'replicas')::int, scaling = nullif(entry.before -> 'scaling', 'null')
      where a.id = entry.agent_id;
      update public.deployments d set
        replicas_desired = (entry.before ->> 'replicas')::int,
        observed_generation = case when d.observed_generation = (entry.before ->> 'generation')::bigint
          then (select a.generation from public.agents a where a.id = entry.agent_id) else d.observed_generation end
      where d.agent_id = entry.agent_id;
    end if;
    if entry.kind = 'rollback' then
      perform private.take_back_rollback(entry.agent_id, (entry.before ->> 'generation')::bigint);
    end if;
    if entry.before ->> 'state' is null then
      delete from public.deployments d where d.agent_id = entry.agent_id;
    else
      update public.deployments d set state = entry.before ->> 'state' where d.agent_id = entry.agent_id;
    end if;
    update public.agents a set status = entry.before ->> 'status' where a.id = entry.agent_id;
    update public.operations o set state = 'cancelled', finished_at = now() where o.id = entry.id;
    perform private.write_event(entry.agent_id, entry.user_id, 'CANCELLED', initcap(entry.kind) || ' cancelled', '{}', entry.id);
  end loop;
  update public.batches b set cancel_requested_at = coalesce(b.cancel_requested_at, now()) where b.id = batch.id;
  perform private.follow_batch(batch.id);
  perform private.write_audit('batch.cancel', 'batch', batch.id::text);
end;
$$;
comment on function private.cancel_batch is 'See public.cancel_batch. Definer: clients write neither batches nor operations.';

create function private.waiting_of_batch(batch_id uuid) returns uuid[]
language sql stable security definer
set search_path = ''
as $$
  select array(select w.operation_id from private.batch_waiting w where w.batch_id = waiting_of_batch.batch_id);
$$;
comment on function private.waiting_of_batch is 'Operations of a batch that have not been let in. Definer: the table is closed; these are ids only.';

-- For clients ----------------------------------------------------------------------------------------------------

create function public.batch_snapshot(batch_id uuid) returns jsonb
language plpgsql stable
set search_path = ''
as $$
declare
  batch public.batches;
  waiting uuid[];
begin
  perform private.require_permission('agents:read');
  select * into batch from public.batches b where b.id = batch_snapshot.batch_id;
  if batch.id is null then
    perform private.raise_error('NOT_FOUND', 'There is no such batch.', jsonb_build_object('batch_id', batch_snapshot.batch_id), 404);
  end if;
  waiting := private.waiting_of_batch(batch.id);
  return jsonb_build_object('batch', to_jsonb(batch), 'results', (
    select jsonb_agg(jsonb_build_object(
      'agent_id', t.id,
      'state', case
        when batch.rejections ? t.id::text then 'rejected'
        when t.id = any (batch.done_at_once) then 'succeeded'
        when o.id = any (waiting) then 'waiting'
        else o.state
      end,
      'operation_id', o.id, 'progress', o.progress, 'error', coalesce(batch.rejections -> t.id::text, o.error),
      'started_at', o.started_at, 'finished_at', o.finished_at
    ) order by t.place)
    from unnest(batch.agent_ids) with ordinality t (id, place)
    left join public.operations o on o.batch_id = batch.id and o.agent_id = t.id
  ));
end;
$$;
comment on function public.batch_snapshot is
  'A batch and how each agent fares → {batch: row of batches, results: [{agent_id, state: rejected | waiting | queued | running | succeeded | failed | cancelled, operation_id, progress, error, started_at, finished_at}]} in the order of the request. Errors: PERMISSION_DENIED 403, NOT_FOUND 404.';

create function public.create_batch(operation text, agent_ids uuid[], options jsonb default '{}') returns jsonb
language plpgsql volatile
set search_path = ''
as $$
declare
  -- A statement of its own: a read in the same one would not see what it makes.
  made constant uuid := private.create_batch(create_batch.operation, create_batch.agent_ids, create_batch.options);
begin
  return public.batch_snapshot(made);
end;
$$;
comment on function public.create_batch is
  'Asks one operation of 1 to 100 agents (seed 000): restart, stop, start, deploy, scale, update, rollback or delete. options: max_concurrent; restart_policy, max_unavailable; replicas, strategy, scaling_policy; changes; revision → as batch_snapshot. An agent that cannot is reported in results and stops no other. Errors: VALIDATION_ERROR 400, PERMISSION_DENIED 403.';

create function public.cancel_batch(batch_id uuid) returns jsonb
language plpgsql volatile
set search_path = ''
as $$
begin
  perform private.cancel_batch(cancel_batch.batch_id);
  return public.batch_snapshot(cancel_batch.batch_id);
end;
$$;
comment on function public.cancel_batch is
  'Cancels what waits in a batch, what runs goes on → as batch_snapshot. An agent whose update was cancelled keeps its changes; they are rolled out with its next operation. Errors: PERMISSION_DENIED 403, NOT_FOUND 404, INVALID_STATE 409 when it is over or deletes.';

grant execute on function private.create_batch, private.cancel_batch, private.waiting_of_batch to authenticated, service_role;
grant execute on function public.batch_snapshot, public.create_batch, public.cancel_batch to authenticated, service_role;
grant select on public.batches to authenticated, service_role;

alter table public.batches enable row level security;
create policy "Owners can read their batches" on public.batches
  for select to authenticated
  using (user_id >= (select private.owner_bound('agents:read', 'lowest')) and user_id <= (select private.owner_bound('agents:read', 'highest')));

alter publication supabase_realtime add table public.batches;
