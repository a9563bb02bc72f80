-- What is left of rollouts that were given up: a second set of replicas beside the one that is reached.
--
-- A blue-green update, and on a standalone Docker engine a rolling one, brings new replicas up beside the old ones. Where it ends
-- for good and nothing follows that would take them away (its cluster did not answer, the way back failed too), they are looked
-- for by the worker, until the cluster has answered: the owner would pay for what nobody reaches.
-- Mind: the worker looks only while no operation on the agent is under way, and an operation that is asked for meanwhile begins
-- when it has ended (free_at). Both are decided under the lock of the agent's row.

create table private.rollout_remains (
  -- No foreign key: what was begun is waited for also when the agent is deleted meanwhile.
  agent_id uuid primary key,
  run_after timestamptz not null default now(),
  lease_token uuid,
  attempts integer not null default 0
);
comment on table private.rollout_remains is
  'Agents with replicas that a rollout which was given up may have left. While leased, run_after is when the lease ends.';
comment on column private.rollout_remains.attempts is 'Failures in a row.';
create index rollout_remains_run_after_idx on private.rollout_remains (run_after);
create trigger rollout_remains_wake after insert on private.rollout_remains
  for each statement execute function private.wake_worker_after_insert();

create function private.queue_rollout_remains(agent_id uuid) returns void
language plpgsql volatile security definer
set search_path = ''
as $$
begin
  insert into private.rollout_remains (agent_id)
  select d.agent_id from public.deployments d where d.agent_id = queue_rollout_remains.agent_id and d.stack_id is not null
  on conflict on constraint rollout_remains_pkey do nothing;
end;
$$;
comment on function private.queue_rollout_remains is
  'Has the worker look for what a rollout left that was given up, if the agent ever got a stack. Definer: called by fail_operation.';

create function private.claim_rollout_remains(most integer, lease interval) returns setof jsonb
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  due private.rollout_remains;
  target public.agents;
  placed public.deployments;
  site public.clusters;
  token uuid;
  claimed integer := 0;
begin
  for due in
    select * from private.rollout_remains r where r.run_after <= now() order by r.run_after limit 4 * most for update skip locked
  loop
    exit when claimed = most;
    -- Who commands the agent holds it, and is not waited for: the rows above come before it here, and after it there.
    select * into target from public.agents a where a.id = due.agent_id for no key update skip locked;
    select * into placed from public.deployments d where d.agent_id = due.agent_id;
    select * into site from public.clusters c where c.id = placed.cluster_id;
    if site.id is null then
      delete from private.rollout_remains r where r.agent_id = due.agent_id;
    elsif target.id is null
      or exists (select from public.operations o where o.agent_id = due.agent_id and o.state in ('queued', 'running'))
      -- What is known to be dead is not asked.
      or exists (select from public.circuit_breakers b where b.name = 'cluster:' || site.id::text and b.state <> 'closed')
    then
      update private.rollout_remains r set run_after = clock_timestamp() + interval '5 seconds' where r.agent_id = due.agent_id;
    else
      token := gen_random_uuid();
      update private.rollout_remains r set lease_token = token, run_after = clock_timestamp() + lease where r.agent_id = due.agent_id;
      claimed := claimed + 1;
      return next jsonb_build_object('agent_id', due.agent_id, 'lease_token', token,
        'deployment', jsonb_build_object('stack_id', placed.stack_id, 'stack_name', placed.stack_name, 'namespace', placed.namespace),
        'cluster', private.cluster_connection(site));
    end if;
  end loop;
end;
$$;
comment on function private.claim_rollout_remains is
  'Leases agents without an operation under way → [{agent_id, lease_token, deployment {stack_id, stack_name, namespace}, cluster with credential}]. Holds secrets: never to be logged. Definer: called by the worker.';

create function private.end_rollout_remains(agent_id uuid, lease_token uuid, cleared boolean) returns void
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  held private.rollout_remains;
  longest constant double precision := (private.setting('operations', 'backoff_max_seconds'))::double precision;
begin
  select * into held from private.rollout_remains r
  where r.agent_id = end_rollout_remains.agent_id and r.lease_token = end_rollout_remains.lease_token for update;
  if held.agent_id is null then
    return;
  end if;
  if cleared then
    delete from private.rollout_remains r where r.agent_id = held.agent_id;
  else
    update private.rollout_remains r set
      lease_token = null, attempts = held.attempts + 1,
      run_after = clock_timestamp() + make_interval(secs => least(longest, 5 * 2 ^ least(held.attempts, 20)) * (0.5 + random() / 2))
    where r.agent_id = held.agent_id;
  end if;
  perform private.begin_what_waited(held.agent_id);
end;
$$;
comment on function private.end_rollout_remains is
  'Ends an attempt: cleared, or to be tried again; what waited for its end can begin. Definer: called by the worker.';
