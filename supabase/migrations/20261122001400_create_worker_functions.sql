-- What the worker asks of the database: claim, lease, plan, steps, outcome, observation, collection.
--
-- All of it is private and granted to nobody: the worker connects as the owner. Every write of an operation carries the
-- lease token, so that a worker whose lease ended or was cancelled can change nothing any more.

create function private.claim_operations(worker text, lease interval, max_operations integer)
returns table (operation jsonb, lease_token uuid)
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  base constant integer := (private.setting('operations', 'backoff_base_seconds'))::int;
  longest constant integer := (private.setting('operations', 'backoff_max_seconds'))::int;
begin
  -- A cancelled operation whose worker never gave it back: its lease is over, nobody acts for it.
  delete from private.operation_queue q where q.operation_id in (
    select c.operation_id from private.operation_queue c where c.cancel_requested and c.run_after <= now() for update skip locked
  );

  return query
  with due as (
    select q.operation_id, q.lease_token is not null as lost, q.lease_token is not null and q.losses > 0 as lost_again
    from private.operation_queue q
    join public.operations o on o.id = q.operation_id
    where q.run_after <= now() and not q.cancel_requested and o.state in ('queued', 'running')
    order by q.turn limit max_operations
    -- Of both, so that it waits for nobody: who cancels holds the operation before the queue's row is there.
    for update of q skip locked for no key update of o skip locked
  ), leased as (
    update private.operation_queue q set
      -- Whichever of those that it held ends its worker, they are not taken up together again and again.
      run_after = clock_timestamp() + case when due.lost_again
        then make_interval(secs => least(longest, base * 2 ^ least(q.losses, 20)) * (0.5 + random() / 2)) else lease end,
      lease_token = case when not due.lost_again then gen_random_uuid() end,
      leased_by = case when not due.lost_again then worker end,
      losses = q.losses + due.lost::integer
    from due where q.operation_id = due.operation_id
    returning q.operation_id, q.lease_token, q.losses
  ), begun as (
    update public.operations o
    set state = 'running', started_at = coalesce(o.started_at, clock_timestamp())
    from leased l where o.id = l.operation_id and o.state = 'queued' and l.lease_token is not null
    returning o.*
  )
  select coalesce(to_jsonb(b), to_jsonb(o)) || jsonb_build_object('losses', l.losses), l.lease_token
  from leased l
  join public.operations o on o.id = l.operation_id
  left join begun b on b.id = l.operation_id
  where l.lease_token is not null;
end;
$$;
comment on function private.claim_operations is
  'Leases due operations in the order of their turns → rows of operations as JSON, and losses, with their lease tokens. One whose lease ended is due again, the second time in a row after a pause. Definer: called by the worker.';

create function private.renew_lease(operation_id uuid, lease_token uuid, lease interval) returns text
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  held private.operation_queue;
begin
  update private.operation_queue q set run_after = clock_timestamp() + lease
  where q.operation_id = renew_lease.operation_id and q.lease_token = renew_lease.lease_token and not q.cancel_requested
  returning * into held;
  if held.operation_id is not null then
    return 'held';
  end if;
  select * into held from private.operation_queue q
  where q.operation_id = renew_lease.operation_id and q.lease_token = renew_lease.lease_token;
  return case when held.cancel_requested then 'cancelled' else 'lost' end;
end;
$$;
comment on function private.renew_lease is 'Prolongs a lease → held, cancelled (stop, then release_operation) or lost (stop and write nothing). Definer: called by the worker.';

create function private.begin_what_waited(target_id uuid) returns void
language plpgsql volatile security definer
set search_path = ''
as $$
begin
  update private.operation_queue q set run_after = now()
  from public.operations o
  where (o.agent_id = target_id or o.stack_id = target_id) and o.state = 'queued'
    and q.operation_id = o.id and q.lease_token is null and q.run_after > now();
  if found then
    perform private.wake_worker();
  end if;
end;
$$;
comment on function private.begin_what_waited is
  'Lets an operation begin that waited for another worker''s end (free_at). Definer: called by the worker.';

create function private.release_operation(operation_id uuid, lease_token uuid) returns void
language plpgsql volatile security definer
set search_path = ''
as $$
begin
  delete from private.operation_queue q
  where q.operation_id = release_operation.operation_id and q.lease_token = release_operation.lease_token and q.cancel_requested;
  if found then
    perform private.begin_what_waited(coalesce(o.agent_id, o.stack_id))
    from public.operations o where o.id = release_operation.operation_id;
  end if;
end;
$$;
comment on function private.release_operation is 'Gives back a cancelled operation, so that what waits for it can begin. Definer: called by the worker.';

create function private.hold_lease(operation_id uuid, lease_token uuid) returns public.operations
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  held public.operations;
begin
  select * into held from public.operations o where o.id = hold_lease.operation_id;
  -- The order in which commands lock them: agent, queue, operation, batch.
  if held.stack_id is null then
    perform from public.agents a where a.id = held.agent_id for no key update;
  else
    perform from public.stacks s where s.id = held.stack_id for no key update;
  end if;
  perform from private.operation_queue q
  where q.operation_id = hold_lease.operation_id and q.lease_token = hold_lease.lease_token and not q.cancel_requested
  for update;
  if not found then
    raise exception using errcode = 'LP001', message = 'The lease of the operation is lost.';
  end if;
  select * into held from public.operations o where o.id = hold_lease.operation_id for update;
  return held;
end;
$$;
comment on function private.hold_lease is 'The operation, locked, while the lease holds; else raises LP001. Definer: called by the functions below.';

create function private.operation_plan(operation_id uuid, lease_token uuid) returns jsonb
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  held public.operations := private.hold_lease(operation_id, lease_token);
  target public.agents;
  placed public.deployments;
  site public.clusters;
  template jsonb;
begin
  if held.stack_id is not null then
    return private.stack_plan(held);
  end if;
  select * into target from public.agents a where a.id = held.agent_id;
  select * into placed from public.deployments d where d.agent_id = held.agent_id;
  select * into site from public.clusters c where c.id = held.cluster_id;
  if held.kind <> 'delete' then
    -- What is carried out is the agent as it is now; what comes later is rolled out afterwards.
    update public.operations o set request = o.request || jsonb_build_object('generation', target.generation)
    where o.id = held.id and (o.request ->> 'generation')::bigint is distinct from target.generation
    returning * into held;
    if held.id is null then
      select * into held from public.operations o where o.id = operation_plan.operation_id;
    end if;
    if held.kind <> 'stop' and target.id is not null then
      template := private.plan_revision(held, target);
    end if;
  end if;
  return jsonb_build_object(
    'operation', to_jsonb(held), 'agent', case when target.id is not null then to_jsonb(target) || jsonb_build_object('scaling', private.scaling_policy_within_quota(target)) end,
    'deployment', case when placed.id is not null then to_jsonb(placed)
      else held.request || jsonb_build_object('agent_id', held.agent_id) end,
    'cluster', private.cluster_connection(site),
    'template', template,
    'environment', private.environment_to_deploy(target),
    'deadline', held.created_at + make_interval(secs => (private.setting('operations', 'deadline_seconds'))::int)
  );
end;
$$;
comment on function private.operation_plan is
  'All the worker needs to carry out an operation → {operation, agent | null, deployment, cluster with credential | null, template | null, environment, deadline}. Holds secrets: never to be logged. Definer: called by the worker.';

create function private.marked_steps(steps jsonb, statuses text[], status text, step text default null, detail jsonb default null) returns jsonb
language plpgsql volatile
set search_path = ''
as $$
begin
  return (select jsonb_agg(case
      when marked_steps.step <> s.value ->> 'name' or not s.value ->> 'status' = any (statuses) then s.value
      else s.value || jsonb_build_object('status', marked_steps.status)
        || case when marked_steps.status in ('in_progress', 'completed') and not s.value ? 'started_at'
             then jsonb_build_object('started_at', clock_timestamp()) else '{}' end
        || case when marked_steps.status in ('completed', 'failed')
             then jsonb_build_object('completed_at', clock_timestamp()) else '{}' end
        || case when marked_steps.detail is not null then jsonb_build_object('detail', marked_steps.detail) else '{}' end
    end order by s.ordinality)
  from jsonb_array_elements(marked_steps.steps) with ordinality s);
end;
$$;
comment on function private.marked_steps is
  'Steps of an operation of which those in one of the statuses, or of these the one of a name, have come to another status now.';

create function private.record_steps(operation_id uuid, lease_token uuid, steps jsonb) returns void
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  held public.operations := private.hold_lease(operation_id, lease_token);
  new_steps jsonb := held.steps;
  begun boolean := false;
  step jsonb;
begin
  for step in select s.value from jsonb_array_elements(record_steps.steps) s loop
    new_steps := private.marked_steps(new_steps, array['pending', 'in_progress', 'completed', 'failed'],
      step ->> 'status', step ->> 'name', nullif(step -> 'detail', 'null'));
    begun := begun or step ->> 'status' = 'in_progress';
  end loop;
  update public.operations o
  set steps = new_steps, progress = least(99, 100
    * jsonb_array_length(jsonb_path_query_array(new_steps, '$[*] ? (@.status == "completed")')) / greatest(jsonb_array_length(new_steps), 1))
  where o.id = held.id and o.steps is distinct from new_steps;
  if held.kind = 'deploy' and begun then
    perform private.move_agent(held.agent_id, 'deploying', 'deploying');
  elsif held.kind = 'deploy_stack' then
    update public.stacks s set state = 'deploying' where s.id = held.stack_id and s.state = 'queued';
  end if;
end;
$$;
comment on function private.record_steps is
  'Records how far an operation is: [{name, status: pending | in_progress | completed | failed, detail}]. Definer: called by the worker.';

create function private.with_placement(placed public.deployments, placement jsonb) returns public.deployments
language plpgsql immutable
set search_path = ''
as $$
begin
  placed.stack_id := coalesce(placement ->> 'stack_id', placed.stack_id);
  placed.stack_name := coalesce(placement ->> 'stack_name', placed.stack_name);
  placed.namespace := coalesce(placement ->> 'namespace', placed.namespace);
  placed.endpoint_id := coalesce((placement ->> 'endpoint_id')::int, placed.endpoint_id);
  placed.orchestrator := coalesce(placement ->> 'orchestrator', placed.orchestrator);
  placed.url := coalesce(placement ->> 'url', placed.url);
  placed.console_url := coalesce(placement ->> 'console_url', placed.console_url);
  return placed;
end;
$$;
comment on function private.with_placement is 'A deployment with where its stack is. See record_placement.';

create function private.store_deployment(placed public.deployments) returns void
language plpgsql volatile security definer
set search_path = ''
as $$
begin
  update public.deployments d set
    stack_id = placed.stack_id, stack_name = placed.stack_name, namespace = placed.namespace, endpoint_id = placed.endpoint_id,
    orchestrator = placed.orchestrator, url = placed.url, console_url = placed.console_url, state = placed.state, error = placed.error,
    revision = placed.revision, observed_generation = placed.observed_generation, replicas_desired = placed.replicas_desired,
    replicas_ready = placed.replicas_ready, containers = placed.containers, services = placed.services, health = placed.health,
    deployed_at = placed.deployed_at, last_checked_at = placed.last_checked_at
  where d.id = placed.id;
end;
$$;
comment on function private.store_deployment is
  'Writes a deployment that the caller has locked: all that was found out of it in one change, of which clients hear once. Definer: clients write no deployments.';

create function private.record_placement(operation_id uuid, lease_token uuid, placement jsonb) returns void
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  held public.operations := private.hold_lease(operation_id, lease_token);
  placed public.deployments;
begin
  if held.stack_id is not null then
    perform private.place_stack(held.stack_id, placement);
    return;
  end if;
  select * into placed from public.deployments d where d.agent_id = held.agent_id for update;
  perform private.store_deployment(private.with_placement(placed, placement));
  -- From here on there are containers whose logs and health can be read.
  if held.kind <> 'delete' then
    insert into private.collections (agent_id, cluster_id) select placed.agent_id, placed.cluster_id where placed.id is not null
    on conflict (agent_id) do nothing;
  end if;
end;
$$;
comment on function private.record_placement is
  'Records where a stack is: any of {stack_id, stack_name, namespace, endpoint_id, orchestrator, url, console_url}. Definer: called by the worker.';

create function private.postpone_operation(operation_id uuid, lease_token uuid, delay interval) returns void
language plpgsql volatile security definer
set search_path = ''
as $$
begin
  perform private.hold_lease(operation_id, lease_token);
  update private.operation_queue q
  set run_after = clock_timestamp() + delay, lease_token = null, leased_by = null, losses = 0
  where q.operation_id = postpone_operation.operation_id;
end;
$$;
comment on function private.postpone_operation is 'Gives an operation back until later without counting an attempt. Definer: called by the worker.';

create function private.forget_containers(agent_id uuid) returns void
language sql volatile security definer
set search_path = ''
as $$
  -- They are named after the agent, and where they were has told the removal what to remove.
  delete from public.container_events e where e.agent_id = forget_containers.agent_id;
  delete from public.agent_metrics m where m.agent_id = forget_containers.agent_id;
  delete from public.agent_metrics_latest l where l.agent_id = forget_containers.agent_id;
  update public.operations o set request = o.request - array['stack_name', 'namespace']
  where o.agent_id = forget_containers.agent_id and o.request ?| array['stack_name', 'namespace'];
$$;
comment on function private.forget_containers is
  'Removes what names the containers of an agent whose containers are removed; figures by minute and hour stay. Definer: called by the worker.';

create function private.complete_operation(
  operation_id uuid, lease_token uuid, result jsonb, placement jsonb default null, observation jsonb default null
) returns void
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  held public.operations := private.hold_lease(operation_id, lease_token);
  target public.agents;
  placed public.deployments;
  rolled_out public.agent_revisions;
  ended constant text := case held.kind when 'stop' then 'stopped' when 'delete' then 'deleting' else 'running' end;
begin
  if held.stack_id is null then
    rolled_out := private.settle_revision(held, null);
  end if;
  update public.operations o set
    state = 'succeeded', progress = 100, error = null, next_attempt_at = null,
    result = complete_operation.result || jsonb_strip_nulls(jsonb_build_object('revision', rolled_out.revision)),
    finished_at = clock_timestamp(), steps = private.marked_steps(o.steps, array['pending', 'in_progress', 'failed'], 'completed')
  where o.id = held.id;
  delete from private.operation_queue q where q.operation_id = held.id;

  if held.stack_id is not null then
    perform private.place_stack(held.stack_id, placement) where placement is not null;
    perform private.observe_stack(held.stack_id, observation) where observation is not null;
    perform private.complete_stack(held);
    return;
  end if;
  select * into target from public.agents a where a.id = held.agent_id for no key update;
  if held.kind = 'delete' then
    delete from private.collections c where c.agent_id = held.agent_id;
    delete from public.deployments d where d.agent_id = held.agent_id;
    perform private.erase_reports(held.agent_id);
    perform private.forget_containers(held.agent_id);
    update public.agents a set deleted_at = now(),
      purge_after = now() + make_interval(days => (private.setting('agents', 'purge_after_days'))::int)
    where a.id = held.agent_id and a.deleted_at is null;
    perform private.write_event(held.agent_id, held.user_id, 'DELETED', 'Containers removed', '{}', held.id);
    return;
  end if;

  select * into placed from public.deployments d where d.agent_id = held.agent_id for update;
  placed := private.with_observation(private.with_placement(placed, placement), observation);
  placed.state := ended;
  placed.replicas_desired := target.replicas;
  if held.kind = 'stop' then
    placed.replicas_ready := 0;
  else
    placed.observed_generation := (held.request ->> 'generation')::bigint;
  end if;
  -- What went back by itself still says why.
  if not (held.kind = 'rollback' and coalesce((held.request ->> 'automatic')::boolean, false)) then
    placed.error := null;
  end if;
  if rolled_out.id is not null then
    placed.revision := rolled_out.revision;
  end if;
  if rolled_out.id is not null or held.kind = 'start' then
    placed.deployed_at := clock_timestamp();
  end if;
  perform private.store_deployment(placed);
  update public.agents a set status = case when held.kind = 'stop' then 'stopped' else 'deployed' end, last_activity_at = now()
  where a.id = held.agent_id;
  insert into private.collections (agent_id, cluster_id)
  select placed.agent_id, placed.cluster_id where placed.stack_id is not null
  on conflict (agent_id) do update set next_at = now();
  perform private.write_event(held.agent_id, target.user_id,
    case held.kind when 'deploy' then 'DEPLOYED' when 'update' then 'UPDATED' when 'rollback' then 'ROLLED_BACK' when 'scale' then 'SCALED'
      when 'restart' then 'RESTARTED' when 'stop' then 'STOPPED' else 'STARTED' end,
    initcap(held.kind) || ' finished', held.request || jsonb_strip_nulls(jsonb_build_object('revision', rolled_out.revision)), held.id);

  -- The agent was changed while this was under way.
  if ended = 'running' and target.generation > placed.observed_generation then
    perform private.begin_update(target, placed.cluster_id);
  end if;
end;
$$;
comment on function private.complete_operation is
  'Ends an operation that worked: states of agent and deployment with where it is and what was seen of it last (record_placement, observe_deployment), event, and an update when the agent changed meanwhile. Definer: called by the worker.';

create function private.fail_operation(
  operation_id uuid, lease_token uuid, error jsonb, retryable boolean, retry_after interval default null
) returns text
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  held public.operations := private.hold_lease(operation_id, lease_token);
  attempt constant integer := held.attempts + 1;
  pause interval;
  target public.agents;
  newer boolean := false;
  followed boolean;
  good public.agent_revisions;
begin
  if retryable and attempt < held.max_attempts then
    -- Full jitter above half of the doubled pause: those that failed together do not come back together.
    pause := coalesce(retry_after, make_interval(secs => least(
      (private.setting('operations', 'backoff_max_seconds'))::int,
      (private.setting('operations', 'backoff_base_seconds'))::int * 2 ^ (attempt - 1)) * (0.5 + random() / 2)));
    update public.operations o
    set attempts = attempt, error = fail_operation.error, next_attempt_at = clock_timestamp() + pause
    where o.id = held.id;
    update private.operation_queue q
    set run_after = clock_timestamp() + pause, lease_token = null, leased_by = null, losses = 0
    where q.operation_id = held.id;
    return 'retrying';
  end if;

  if held.stack_id is null then
    select * into target from public.agents a where a.id = held.agent_id;
    -- A change that was made meanwhile was accepted, and comes before going back.
    newer := held.kind not in ('stop', 'delete') and target.generation > (held.request ->> 'generation')::bigint
      and exists (select from public.deployments d where d.agent_id = target.id and d.stack_id is not null);
    good := private.return_agent(held, private.settle_revision(held, error), newer, error);
    if good.id is not null then
      error := error || jsonb_build_object('details', coalesce(nullif(error -> 'details', 'null'), '{}')
        || jsonb_build_object('rolled_back_to', good.revision));
    end if;
  end if;
  update public.operations o set
    attempts = attempt, error = fail_operation.error, state = 'failed', next_attempt_at = null, finished_at = clock_timestamp(),
    steps = private.marked_steps(o.steps, array['in_progress'], 'failed')
  where o.id = held.id;
  delete from private.operation_queue q where q.operation_id = held.id;
  followed := newer or good.id is not null;
  if held.stack_id is not null then
    followed := private.fail_stack(held, error);
  elsif not followed and private.return_from_autoscaling(held, error) then
    return 'failed';
  end if;
  -- What something else follows leaves nothing that could be tried again.
  if not followed then
    insert into public.dead_letters (operation_id, agent_id, stack_id, user_id, kind, error, attempts)
    values (held.id, held.agent_id, held.stack_id, held.user_id, held.kind, fail_operation.error, attempt);
    perform private.queue_rollout_remains(held.agent_id);
  end if;
  if held.stack_id is not null then
    return 'failed';
  end if;

  update public.deployments d set
    state = case when followed then d.state else 'failed' end,
    error = fail_operation.error || case when good.id is not null then '{"rolled_back": true}' else '{}' end::jsonb
  where d.agent_id = held.agent_id;
  update public.agents a set status = case when followed then a.status else 'failed' end, last_activity_at = now()
  where a.id = held.agent_id and a.deleted_at is null
  returning * into target;
  perform private.write_event(held.agent_id, target.user_id, 'FAILED', initcap(held.kind) || ' failed: ' || coalesce(error ->> 'message', 'unknown'),
    jsonb_build_object('code', error ->> 'code', 'kind', held.kind, 'attempts', attempt), held.id);
  if newer then
    perform private.begin_update(target, held.cluster_id);
  elsif good.id is not null then
    perform private.begin_operation(target, held.cluster_id, 'rollback',
      jsonb_build_object('to_revision', good.revision, 'automatic', true, 'reason', error -> 'code', 'failed_operation_id', held.id),
      format('%s failed, going back to revision %s', initcap(held.kind), good.revision),
      jsonb_build_object('reason', error -> 'code', 'message', error -> 'message', 'to_revision', good.revision));
    update public.deployments d set replicas_desired = target.replicas where d.agent_id = target.id;
  end if;
  return 'failed';
end;
$$;
comment on function private.fail_operation is
  'Ends an attempt that failed: later again with growing, jittered pauses (→ retrying), or given up (→ failed): what was changed meanwhile is rolled out, or the last good revision brought back; without either there is a dead letter. Definer: called by the worker.';

create function private.retry_dead_letter(dead_letter_id uuid) returns public.operations
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  letter public.dead_letters;
  failed public.operations;
  queued public.operations;
begin
  perform private.require_permission('system:write');
  select * into letter from public.dead_letters l where l.id = dead_letter_id for update;
  if letter.id is null then
    perform private.raise_error('NOT_FOUND', 'There is no such dead letter.', null, 404);
  end if;
  if letter.retried_as is not null then
    perform private.raise_error('INVALID_STATE', 'This dead letter was retried already.',
      jsonb_build_object('operation_id', letter.retried_as), 409);
  end if;
  select * into failed from public.operations o where o.id = letter.operation_id;
  -- As a command does, so that of two at once one is refused.
  perform from public.agents a where a.id = failed.agent_id for no key update;
  perform from public.stacks s where s.id = failed.stack_id for no key update;
  perform private.refuse_while_active(coalesce(failed.agent_id, failed.stack_id));
  if failed.kind not in ('delete', 'delete_stack')
    and not exists (select from public.agents a join public.deployments d on d.agent_id = a.id
      where a.id = failed.agent_id and a.deleted_at is null and d.state <> 'deleting')
    and not exists (select from public.stacks s where s.id = failed.stack_id and s.state <> 'deleting')
  then
    perform private.raise_error('INVALID_STATE', format('The %s is deleted; nothing is left to try again.',
      case when failed.stack_id is null then 'agent' else 'stack' end), null, 409);
  end if;
  queued := private.queue_operation(failed.agent_id, failed.user_id, failed.cluster_id, failed.kind, failed.request,
    stack_id => failed.stack_id);
  if failed.stack_id is null then
    perform private.move_agent(failed.agent_id, private.doing(failed.kind), private.doing(failed.kind));
  else
    perform private.retry_stack(queued);
  end if;
  update public.dead_letters l set retried_as = queued.id where l.id = letter.id;
  perform private.write_audit('dead_letter.retry', 'dead_letter', letter.id::text, jsonb_build_object('operation_id', queued.id));
  return queued;
end;
$$;
comment on function private.retry_dead_letter is 'See public.retry_dead_letter. Definer: clients write no operations.';

create function public.retry_dead_letter(dead_letter_id uuid) returns jsonb
language sql volatile
set search_path = ''
as $$
  select to_jsonb(private.retry_dead_letter(retry_dead_letter.dead_letter_id));
$$;
comment on function public.retry_dead_letter is
  'Queues the operation of a dead letter again → the new operation. Needs system:write. Errors: PERMISSION_DENIED 403, NOT_FOUND 404, INVALID_STATE, OPERATION_IN_PROGRESS 409.';

-- Observation and collection -------------------------------------------------------------------------------------

create function private.with_observation(placed public.deployments, observation jsonb) returns public.deployments
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  seen record;
begin
  if observation is null or placed.id is null then
    return placed;
  end if;
  for seen in
    select coalesce(n.value, '{}') as now_is, o.value as was
    from jsonb_array_elements(coalesce(observation -> 'containers', placed.containers)) n
    full join jsonb_array_elements(placed.containers) o on o.value ->> 'id' = n.value ->> 'id'
    where o.value is null or n.value is null
      or (o.value -> 'status', o.value -> 'health', o.value -> 'restart_count', o.value -> 'started_at')
        is distinct from (n.value -> 'status', n.value -> 'health', n.value -> 'restart_count', n.value -> 'started_at')
  loop
    insert into public.container_events (agent_id, user_id, event, container_id, container_name, details)
    select placed.agent_id, placed.user_id, e.event, coalesce(seen.now_is ->> 'id', seen.was ->> 'id'),
      coalesce(seen.now_is ->> 'name', seen.was ->> 'name'), e.details
    from (
      select 'create' as event, jsonb_build_object('image', seen.now_is -> 'image') as details, 1 as position
      where seen.was is null
      union all
      select 'destroy', '{}', 9 where seen.now_is = '{}'
      union all
      select 'oom', jsonb_build_object('exit_code', seen.now_is -> 'exit_code'), 2
      where (seen.now_is ->> 'oom_killed')::boolean and not coalesce((seen.was ->> 'oom_killed')::boolean, false)
      union all
      select 'die', jsonb_build_object('exit_code', seen.now_is -> 'exit_code'), 3
      where seen.now_is ->> 'status' in ('exited', 'dead') and seen.was ->> 'status' is distinct from seen.now_is ->> 'status'
      union all
      select 'restart', jsonb_build_object('restart_count', seen.now_is -> 'restart_count', 'exit_code', seen.now_is -> 'exit_code'), 4
      where seen.was is not null and (seen.now_is ->> 'restart_count')::int > coalesce((seen.was ->> 'restart_count')::int, 0)
      union all
      select 'start', jsonb_build_object('started_at', seen.now_is -> 'started_at'), 5
      where seen.now_is ->> 'status' = 'running'
        and (seen.was is null or seen.was ->> 'status' is distinct from 'running' or seen.was -> 'started_at' is distinct from seen.now_is -> 'started_at')
      union all
      select 'health_status', jsonb_build_object('health', seen.now_is -> 'health', 'was', seen.was -> 'health'), 6
      where seen.now_is ->> 'health' is not null and seen.was ->> 'health' is distinct from seen.now_is ->> 'health'
    ) e order by e.position;
  end loop;

  placed.replicas_ready := coalesce((observation ->> 'replicas_ready')::int, placed.replicas_ready);
  placed.containers := coalesce(observation -> 'containers', placed.containers);
  placed.services := coalesce(observation -> 'services', placed.services);
  placed.health := coalesce(observation -> 'health', placed.health);
  placed.url := coalesce(observation ->> 'url', placed.url);
  placed.last_checked_at := now();
  return placed;
end;
$$;
comment on function private.with_observation is
  'A deployment with what was seen of it; each difference of its containers is written as an event. See observe_deployment. Definer: nobody writes events themselves.';

create function private.observe_deployment(agent_id uuid, observation jsonb) returns boolean
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  placed public.deployments;
  seen public.deployments;
  changed boolean;
begin
  if observation ? 'autoscaler' then
    -- Before the lock below: agents are locked before their deployments.
    perform private.observe_autoscaler(agent_id, observation -> 'autoscaler');
  end if;
  select * into placed from public.deployments d where d.agent_id = observe_deployment.agent_id for update;
  if placed.id is null then
    return false;
  end if;

  seen := private.with_observation(placed, observation);
  changed := (placed.replicas_ready, placed.containers, placed.services, placed.url, placed.health ->> 'status', placed.health -> 'checks')
    is distinct from (seen.replicas_ready, seen.containers, seen.services, seen.url, seen.health ->> 'status', seen.health -> 'checks');
  if changed or placed.last_checked_at is null or placed.last_checked_at < now() - interval '30 seconds' then
    perform private.store_deployment(seen);
  end if;
  if changed and not coalesce(observation -> 'containers', placed.containers) @> '[{"status": "running"}]' then
    -- Where nothing runs nothing is used: what was measured last is the past.
    delete from public.agent_metrics_latest l where l.agent_id = placed.agent_id;
  end if;
  return changed;
end;
$$;
comment on function private.observe_deployment is
  'Stores what was seen of a deployment {replicas_ready, containers, services, health, url, autoscaler} and writes a container event for each difference → whether there was any. Where nothing runs any more it removes the present measurement. Definer: called by the worker.';

create function private.claim_collections(worker text, max_collections integer, lease interval) returns setof jsonb
language plpgsql volatile security definer
set search_path = ''
as $$
begin
  return query
  with due as (
    select c.agent_id from private.collections c
    join public.deployments d on d.agent_id = c.agent_id
    where c.next_at <= now() and d.state in ('running', 'deploying', 'scaling', 'updating', 'restarting')
    order by c.next_at limit max_collections
    for update of c skip locked
  ), leased as (
    update private.collections c set next_at = clock_timestamp() + lease, leased_by = worker
    from due where c.agent_id = due.agent_id
    returning c.*
  )
  select jsonb_build_object(
    'agent_id', l.agent_id, 'user_id', d.user_id, 'deployment', to_jsonb(d),
    'resources', a.resources, 'autoscaled', private.is_scaled_by_kubernetes(d.orchestrator, a.scaling),
    'cluster', private.cluster_connection(s),
    'environment', private.agent_secrets(l.agent_id),
    'cursor', l.cursor,
    'due', jsonb_build_object(
      'state', l.state_at is null or l.state_at + make_interval(secs => (private.setting('collection', 'state_seconds'))::double precision) <= now(),
      'logs', l.logs_at is null or l.logs_at + make_interval(secs => (private.setting('collection', 'logs_seconds'))::double precision) <= now(),
      'metrics', l.metrics_at is null or l.metrics_at + make_interval(secs => (private.setting('collection', 'metrics_seconds'))::double precision) <= now()
    )
  )
  from leased l
  join public.deployments d on d.agent_id = l.agent_id
  join public.agents a on a.id = l.agent_id
  join public.clusters s on s.id = d.cluster_id;
end;
$$;
comment on function private.claim_collections is
  'Leases deployments that are due to be looked at → [{agent_id, user_id, deployment, resources, autoscaled, cluster with credential, environment (to redact), cursor, due {state, logs, metrics}}]. Holds secrets: never to be logged. Definer: called by the worker.';

create function private.finish_collection(agent_id uuid, cursor jsonb, next_in interval, done jsonb default '{}') returns void
language sql volatile security definer
set search_path = ''
as $$
  update private.collections c set
    cursor = coalesce(finish_collection.cursor, c.cursor), leased_by = null,
    next_at = clock_timestamp() + next_in,
    state_at = case when (done ->> 'state')::boolean then now() else c.state_at end,
    logs_at = case when (done ->> 'logs')::boolean then now() else c.logs_at end,
    metrics_at = case when (done ->> 'metrics')::boolean then now() else c.metrics_at end
  where c.agent_id = finish_collection.agent_id;
$$;
comment on function private.finish_collection is
  'Ends a look at a deployment: how far its logs are read, what was done {state, logs, metrics: true} and when to look next. Definer: called by the worker.';

grant execute on function private.retry_dead_letter to authenticated, service_role;
grant execute on function public.retry_dead_letter to authenticated, service_role;
