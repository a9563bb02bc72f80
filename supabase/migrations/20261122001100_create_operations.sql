-- Operations: everything slow that is asked of an agent or a stack. A request puts a row here and is answered at once; the worker
-- carries it out.
--
-- `operations` is what clients read and follow. `private.operation_queue` holds one small row per active operation with
-- its due time and lease, so that claiming and renewing is neither slowed by history nor seen as a change by clients.
-- States: queued → running → succeeded | failed | cancelled. A lease that ends returns the operation to the queue.
-- Mind: operations have no foreign key to agents: they are the record of what was done, also to an agent that is gone. Nor
-- to users: an account with a long history must go in one short transaction; its operations follow step by step.

create table public.operations (
  id uuid primary key default gen_random_uuid(),
  agent_id uuid,
  stack_id uuid,
  user_id uuid,
  cluster_id uuid references public.clusters (id) on delete set null,
  kind text not null,
  state text not null default 'queued',
  request jsonb not null default '{}',
  result jsonb,
  steps jsonb not null default '[]',
  progress integer not null default 0,
  attempts integer not null default 0,
  max_attempts integer not null default 5,
  next_attempt_at timestamptz,
  error jsonb,
  requested_by uuid,
  api_key_id uuid,
  request_id text,
  batch_id uuid,
  estimated_completion timestamptz,
  created_at timestamptz not null default now(),
  started_at timestamptz,
  finished_at timestamptz,
  constraint kind_is_known check (kind in (
    'deploy', 'update', 'rollback', 'scale', 'restart', 'stop', 'start', 'delete', 'deploy_stack', 'update_stack', 'rollback_stack', 'delete_stack'
  )),
  constraint kind_fits_target check (
    case when kind like '%\_stack' then stack_id is not null and agent_id is null else agent_id is not null and stack_id is null end
  ),
  constraint state_is_known check (state in ('queued', 'running', 'succeeded', 'failed', 'cancelled')),
  constraint progress_is_percent check (progress between 0 and 100),
  constraint finished_when_over check ((finished_at is not null) = (state in ('succeeded', 'failed', 'cancelled')))
);
comment on table public.operations is 'Deploy, update, rollback, scale, restart, stop, start and delete, as asked for and as carried out. Read it, or follow it over Realtime.';
comment on column public.operations.stack_id is 'The stack it is about, when it is not about an agent.';
comment on column public.operations.request is 'What was asked: replicas, strategy, restart_policy, max_unavailable, to_revision, generation …; never a secret.';
comment on column public.operations.steps is '[{name, status: pending | in_progress | completed | failed, started_at, completed_at}] (seed 000).';
comment on column public.operations.error is '{code, message, details} of the last failed attempt.';
comment on column public.operations.batch_id is 'The batch it was asked for in; it waits until the batch lets it into the queue.';
comment on column public.operations.estimated_completion is 'From the last operations of the kind on the cluster; null without any.';

create unique index operations_one_active_per_agent_idx on public.operations (agent_id) where state in ('queued', 'running');
create unique index operations_one_active_per_stack_idx on public.operations (stack_id) where state in ('queued', 'running');
create index operations_stack_id_idx on public.operations (stack_id, created_at desc) where stack_id is not null;
create index operations_agent_id_idx on public.operations (agent_id, created_at desc);
create index operations_user_id_idx on public.operations (user_id, created_at desc);
create index operations_active_user_id_idx on public.operations (user_id) where state in ('queued', 'running');
create index operations_durations_idx on public.operations (cluster_id, kind, finished_at desc) where state = 'succeeded';
create index operations_finished_at_idx on public.operations (finished_at) where finished_at is not null;

create table private.operation_queue (
  operation_id uuid primary key references public.operations (id) on delete cascade,
  run_after timestamptz not null default now(),
  turn timestamptz not null default now(),
  lease_token uuid,
  leased_by text,
  losses integer not null default 0,
  cancel_requested boolean not null default false
) with (fillfactor = 70);
comment on table private.operation_queue is 'Active operations: when each is due. While leased, run_after is when the lease ends.';
comment on column private.operation_queue.turn is
  'Of what is due, what comes first: when it was queued, and later for each operation that its owner had there already, so that nobody waits behind all of another''s.';
comment on column private.operation_queue.losses is
  'How often in a row its lease ended with the worker gone: what ends its worker each time must not do so for ever.';
create index operation_queue_run_after_idx on private.operation_queue (run_after);
create index operation_queue_turn_idx on private.operation_queue (turn);
create index operation_queue_cancelled_idx on private.operation_queue (run_after) where cancel_requested;

create table public.dead_letters (
  id uuid primary key default gen_random_uuid(),
  operation_id uuid not null unique references public.operations (id) on delete cascade,
  agent_id uuid,
  stack_id uuid,
  user_id uuid references auth.users (id) on delete set null,
  kind text not null,
  error jsonb not null,
  attempts integer not null,
  retried_as uuid references public.operations (id) on delete set null,
  created_at timestamptz not null default now()
);
comment on table public.dead_letters is 'Operations given up after their last attempt. Administrators retry them with retry_dead_letter.';
create index dead_letters_user_id_idx on public.dead_letters (user_id);
create index dead_letters_retried_as_idx on public.dead_letters (retried_as);
create index dead_letters_created_at_idx on public.dead_letters (created_at desc);

-- Waking the worker ----------------------------------------------------------------------------------------------

create function private.wake_worker() returns bigint
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  project_url text;
  secret_key text;
begin
  select max(s.decrypted_secret) filter (where s.name = 'project_url'), max(s.decrypted_secret) filter (where s.name = 'secret_key')
  into project_url, secret_key
  from vault.decrypted_secrets s where s.name in ('project_url', 'secret_key');
  if project_url is null or secret_key is null then
    return null;
  end if;
  return net.http_post(
    url := project_url || '/functions/v1/worker', body := '{}'::jsonb,
    headers := jsonb_build_object('Content-Type', 'application/json', 'apikey', secret_key), timeout_milliseconds := 5000
  );
end;
$$;
comment on function private.wake_worker is
  'Calls the worker function; without the Vault secrets project_url and secret_key it does nothing. Definer: Vault is closed to clients.';

create function private.wake_worker_after_insert() returns trigger
language plpgsql volatile security definer
set search_path = ''
as $$
begin
  perform private.wake_worker();
  return null;
end;
$$;
comment on function private.wake_worker_after_insert is 'Trigger: wakes the worker when work is queued; pg_net sends after the commit. Definer: see wake_worker.';
create trigger operation_queue_wake after insert on private.operation_queue
  for each statement execute function private.wake_worker_after_insert();

-- Queueing -------------------------------------------------------------------------------------------------------

create function private.step_names(kind text) returns text[]
language sql immutable
set search_path = ''
as $$
  select case kind
    when 'deploy' then array['validate_configuration', 'create_container_template', 'deploy_to_portainer', 'setup_monitoring']
    when 'update' then array['validate_configuration', 'create_container_template', 'update_containers', 'verify_health']
    when 'rollback' then array['validate_configuration', 'create_container_template', 'update_containers', 'verify_health']
    when 'scale' then array['validate_configuration', 'scale_containers', 'verify_replicas']
    when 'restart' then array['restart_containers', 'verify_health']
    when 'stop' then array['stop_containers', 'verify_stopped']
    when 'start' then array['start_containers', 'verify_health']
    when 'delete' then array['remove_containers', 'verify_removed']
    when 'deploy_stack' then array['validate_configuration', 'deploy_to_portainer', 'verify_services']
    when 'update_stack' then array['validate_configuration', 'update_services', 'verify_services']
    when 'rollback_stack' then array['update_services', 'verify_services']
    when 'delete_stack' then array['remove_services', 'verify_removed']
  end;
$$;
comment on function private.step_names is 'Names of the steps of an operation, in order (deploy: seed 000).';

create function private.doing(kind text) returns text
language sql immutable
set search_path = ''
as $$
  select case kind when 'deploy' then 'deploying' when 'update' then 'updating' when 'rollback' then 'updating' when 'scale' then 'scaling'
    when 'restart' then 'restarting' when 'stop' then 'stopping' when 'start' then 'deploying' when 'delete' then 'deleting' end;
$$;
comment on function private.doing is 'State of agent and deployment while an operation of the kind is under way.';

create function private.estimate(kind text, cluster_id uuid) returns jsonb
language sql stable security definer
set search_path = ''
as $$
  select jsonb_build_object(
    'low_seconds', percentile_cont(0.1) within group (order by d.seconds),
    'median_seconds', percentile_cont(0.5) within group (order by d.seconds),
    'high_seconds', percentile_cont(0.9) within group (order by d.seconds),
    'samples', count(*)
  )
  from (
    -- What it waited for others of its batch says nothing of the cluster.
    select extract(epoch from o.finished_at - case when o.batch_id is null then o.created_at else o.started_at end) as seconds
    from public.operations o
    where o.cluster_id = estimate.cluster_id and o.kind = estimate.kind and o.state = 'succeeded'
    order by o.finished_at desc limit 20
  ) d
  having count(*) > 0;
$$;
comment on function private.estimate is
  'How long the last 20 operations of the kind took on the cluster → {low_seconds, median_seconds, high_seconds, samples}; null without any. Definer: reads all users'' operations, gives figures only.';

create function private.refuse_while_active(target_id uuid) returns void
language plpgsql stable security definer
set search_path = ''
as $$
declare
  active public.operations;
begin
  select * into active from public.operations o
  where (o.agent_id = target_id or o.stack_id = target_id) and o.state in ('queued', 'running');
  if active.id is not null then
    perform private.raise_error('OPERATION_IN_PROGRESS', format('The %s has an operation under way: %s.',
        case when active.stack_id is null then 'agent' else 'stack' end, replace(active.kind, '_stack', '')),
      jsonb_build_object('operation_id', active.id, 'kind', active.kind, 'state', active.state), 409,
      'Wait until it has finished: read or follow operations by this id.');
  end if;
end;
$$;
comment on function private.refuse_while_active is 'Raises OPERATION_IN_PROGRESS (409) with {operation_id, kind, state} while an agent or a stack has an active operation. Definer: reads operations.';

create function private.free_at(target_id uuid) returns timestamptz
language plpgsql stable security definer
set search_path = ''
as $$
begin
  return greatest(now(),
    -- Of what was cancelled: its worker stops when it next renews its lease, at the latest when the lease ends.
    (select max(q.run_after) from private.operation_queue q join public.operations o on o.id = q.operation_id
      where (o.agent_id = target_id or o.stack_id = target_id) and q.cancel_requested),
    (select r.run_after from private.rollout_remains r where r.agent_id = target_id and r.lease_token is not null));
end;
$$;
comment on function private.free_at is
  'From when on no worker acts for an agent or a stack any more, of which the caller has locked the row: what is queued begins no sooner. Definer: the queue is private.';

create function private.turn_of(owner uuid, ahead integer) returns timestamptz
language plpgsql stable security definer
set search_path = ''
as $$
declare
  queued constant bigint := (
    select count(*) from public.operations o join private.operation_queue q on q.operation_id = o.id
    where o.user_id = owner and o.state in ('queued', 'running'));
begin
  return now() + (queued + ahead) * make_interval(secs => (private.setting('operations', 'turn_seconds'))::double precision);
end;
$$;
comment on function private.turn_of is
  'When the turn of an operation comes that is queued now, ahead being how many of its owner''s are queued together with it and before it. Definer: the queue is private.';

create function private.queue_operation(
  agent_id uuid, user_id uuid, cluster_id uuid, kind text, request jsonb default '{}', stack_id uuid default null
) returns public.operations
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  queued public.operations;
  expected constant jsonb := private.estimate(queue_operation.kind, queue_operation.cluster_id);
  validated constant boolean := 'validate_configuration' = any (private.step_names(queue_operation.kind));
  -- Set by create_batch, which lets it into the queue when its turn has come.
  batch_id constant uuid := nullif(current_setting('launchpad.batch_id', true), '')::uuid;
begin
  insert into public.operations (
    agent_id, stack_id, user_id, cluster_id, kind, request, steps, progress, max_attempts, requested_by, api_key_id, request_id, batch_id,
    estimated_completion
  ) values (
    queue_operation.agent_id, queue_operation.stack_id, queue_operation.user_id, queue_operation.cluster_id, queue_operation.kind,
    queue_operation.request,
    -- The configuration was checked by the constraints and triggers of this very transaction.
    (select jsonb_agg(case
        when s.name = 'validate_configuration' then jsonb_build_object('name', s.name, 'status', 'completed',
          'started_at', now(), 'completed_at', clock_timestamp())
        else jsonb_build_object('name', s.name, 'status', 'pending')
      end order by s.position)
      from unnest(private.step_names(queue_operation.kind)) with ordinality s (name, position)),
    case when validated then 100 / cardinality(private.step_names(queue_operation.kind)) else 0 end,
    (private.setting('operations', 'max_attempts'))::int,
    (select auth.uid()), nullif(auth.jwt() ->> 'api_key_id', '')::uuid,
    nullif(current_setting('launchpad.request_id', true), ''), batch_id,
    now() + make_interval(secs => (expected ->> 'median_seconds')::double precision)
  ) returning * into queued;
  if batch_id is null then
    insert into private.operation_queue (operation_id, run_after, turn)
    values (queued.id, private.free_at(coalesce(queue_operation.agent_id, queue_operation.stack_id)),
      private.turn_of(queue_operation.user_id, 0));
  end if;
  return queued;
end;
$$;
comment on function private.queue_operation is 'Queues an operation on an agent, or with stack_id on a stack → its row. Definer: clients write neither table; callers check the right first.';

grant select, insert, update, delete on public.operations, public.dead_letters to service_role;
grant select on public.operations, public.dead_letters to authenticated;

alter table public.operations enable row level security;
alter table public.dead_letters enable row level security;
create policy "Owners can read their operations" on public.operations
  for select to authenticated
  using (user_id >= (select private.owner_bound('agents:read', 'lowest')) and user_id <= (select private.owner_bound('agents:read', 'highest')));
create policy "Administrators read dead letters" on public.dead_letters
  for select to authenticated using ((select private.has_permission('system:read')));

alter publication supabase_realtime add table public.operations;
