-- Commands on agents: create, update, scale, restart, stop, start and delete, as RPCs that supabase-js and /api call.
--
-- Each checks the caller's right, locks the agent, refuses while another operation is active, queues its own and writes
-- an event, all in one transaction. The public functions run as the caller and only hand over to the private ones, which
-- write what clients may not.
-- Answers: {agent, deployment, operation, event_id} with the rows as they are after the command.

create function private.slug(words text) returns text
language sql immutable
set search_path = ''
as $$
  select coalesce(nullif(trim(both '-' from left(trim(both '-' from
    regexp_replace(regexp_replace(lower(words), '[^a-z0-9]+', '-', 'g'), '^[^a-z]+', '')), 40)), ''), 'agent');
$$;
comment on function private.slug is 'Text as a name that Docker and Kubernetes take: a–z, 0–9 and -, beginning with a letter, at most 40 characters.';

create function private.lock_agent(agent_id uuid, permission text) returns public.agents
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  reached constant text := private.require_permission(permission);
  locked public.agents;
begin
  select * into locked from public.agents a
  where a.id = lock_agent.agent_id and a.deleted_at is null
    and (reached = 'all' or a.user_id = (select auth.uid()))
  -- No stronger: what is written about the agent refers to its row, and its writer may hold the deployment.
  for no key update;
  if locked.id is null then
    perform private.raise_agent_not_found(lock_agent.agent_id);
  end if;
  return locked;
end;
$$;
comment on function private.lock_agent is
  'Agent of the caller, locked for change. Errors: PERMISSION_DENIED 403, AGENT_NOT_FOUND 404 (also for another user''s). Definer: checks the right itself.';

create function private.agent_answer(agent_id uuid, operation public.operations, event_id uuid) returns jsonb
language sql stable security definer
set search_path = ''
as $$
  select jsonb_build_object(
    'agent', to_jsonb(a), 'deployment', to_jsonb(d), 'operation', case when operation.id is not null then to_jsonb(operation) end,
    'event_id', event_id, 'estimate', case when operation.id is not null then private.estimate(operation.kind, operation.cluster_id) end
  )
  from public.agents a left join public.deployments d on d.agent_id = a.id
  where a.id = agent_answer.agent_id;
$$;
comment on function private.agent_answer is 'Answer of a command → {agent, deployment, operation, event_id, estimate}. Definer: callers checked the right.';

create function private.spec_faults(spec jsonb) returns jsonb
language plpgsql immutable
set search_path = ''
as $$
declare
  faults jsonb := '{}';
  pair record;
  expected text;
begin
  if spec is null or jsonb_typeof(spec) <> 'object' then
    return '{"body": "The body must be an object"}';
  end if;
  for pair in select * from jsonb_each(spec) loop
    expected := case
      when pair.key in ('name', 'description', 'framework', 'model', 'system_prompt', 'role', 'avatar', 'cluster_id') then 'string'
      when pair.key in ('character', 'resources', 'scaling', 'environment', 'portainer', 'supabase_config', 'settings') then 'object'
      when pair.key in ('plugins', 'platforms', 'enabled_tools') then 'array'
      when pair.key = 'replicas' then 'number'
    end;
    if expected is null then
      faults := faults || jsonb_build_object(left(pair.key, 50), 'This field is not known');
    elsif jsonb_typeof(pair.value) not in (expected, 'null') then
      faults := faults || jsonb_build_object(pair.key, format('%s must be %s', pair.key,
        case expected when 'string' then 'text' when 'object' then 'an object' when 'array' then 'a list' else 'a number' end));
    elsif expected = 'array' and pair.value <> 'null'
      and exists (select from jsonb_array_elements(pair.value) e where jsonb_typeof(e) <> 'string')
    then
      faults := faults || jsonb_build_object(pair.key, format('%s must be a list of text', pair.key));
    end if;
  end loop;
  if not faults ? 'replicas' and jsonb_typeof(spec -> 'replicas') = 'number'
    and ((spec ->> 'replicas')::numeric % 1 <> 0 or (spec ->> 'replicas')::numeric not between 1 and 100000)
  then
    faults := faults || '{"replicas": "Replicas must be a whole number of at least 1"}';
  end if;
  if not faults ? 'cluster_id' and (spec ->> 'cluster_id') !~ '^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$' then
    faults := faults || '{"cluster_id": "cluster_id must be a UUID"}';
  end if;
  return faults;
end;
$$;
comment on function private.spec_faults is 'Fields of a specification that are unknown or of the wrong type → {field: message}.';

create function private.check_replica_quota(owner uuid, agent_id uuid, wanted integer) returns void
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  quota constant integer := (private.setting('agents', 'max_replicas_per_user'))::int;
  others bigint;
begin
  -- Without the lock two requests at once, for two agents, would both count what the other has not got yet. After the
  -- locks of agents.
  perform pg_advisory_xact_lock(hashtextextended('agents:' || owner::text, 0));
  others := private.replicas_in_use(owner, check_replica_quota.agent_id, null);
  if others + wanted > quota then
    perform private.raise_error('RESOURCE_LIMIT_EXCEEDED', 'The quota of replicas is used up.',
      jsonb_build_object('limit', quota, 'in_use', others, 'requested', wanted), 429, 'Scale down or stop another agent.');
  end if;
end;
$$;
comment on function private.check_replica_quota is 'Raises RESOURCE_LIMIT_EXCEEDED (429) beyond settings agents.max_replicas_per_user. Definer: reads settings.';

create function private.keep_replica_quota() returns trigger
language plpgsql volatile
set search_path = ''
as $$
begin
  -- After all rows of the statement: agents are locked before the quota. Commands check it themselves.
  if current_user = 'authenticated' then
    perform private.check_replica_quota(new.user_id, new.id, new.replicas);
  end if;
  return null;
end;
$$;
comment on function private.keep_replica_quota is
  'Trigger: what a client changes over PostgREST is rolled out, so the quota of replicas holds there too. Error: RESOURCE_LIMIT_EXCEEDED 429.';
create trigger agents_keep_replica_quota after update of replicas, resources on public.agents
  for each row when (new.replicas > old.replicas) execute function private.keep_replica_quota();
grant execute on function private.check_replica_quota to authenticated, service_role;

create function private.choose_cluster(wanted uuid) returns public.clusters
language plpgsql stable security definer
set search_path = ''
as $$
declare
  chosen public.clusters;
begin
  if wanted is not null then
    select * into chosen from public.clusters c where c.id = wanted and c.enabled;
    if chosen.id is null then
      perform private.raise_error('VALIDATION_ERROR', 'Invalid request body', '{"cluster_id": "There is no such cluster, or it is disabled"}', 400);
    end if;
    return chosen;
  end if;
  select * into chosen from public.clusters c where c.is_default and c.enabled;
  if chosen.id is null then
    perform private.raise_error('RESOURCE_EXHAUSTED', 'No cluster is connected that agents could be deployed to.',
      '{"reason": "no default cluster"}', 503, 'An administrator connects one in the table clusters, or by the environment of the worker.');
  end if;
  return chosen;
end;
$$;
comment on function private.choose_cluster is 'Cluster to deploy to: the wanted one or the default. Errors: VALIDATION_ERROR 400, RESOURCE_EXHAUSTED 503. Definer: users may not read clusters.';

create function private.place_agent(agent public.agents) returns public.deployments
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  chosen constant public.clusters := private.choose_cluster(agent.cluster_id);
  wanted constant text := private.slug(coalesce(nullif(agent.portainer ->> 'stack_name', ''), agent.name));
  placed public.deployments;
begin
  -- One orchestrator account serves all users, so a taken name gets a suffix: an error would tell that it is taken.
  insert into public.deployments (agent_id, user_id, cluster_id, endpoint_id, namespace, stack_name, replicas_desired)
  select agent.id, agent.user_id, chosen.id, chosen.endpoint_id, chosen.namespace, wanted, agent.replicas
  where not exists (select from public.stacks s where s.cluster_id = chosen.id and s.stack_name = wanted)
  on conflict (cluster_id, stack_name) do nothing
  returning * into placed;
  if placed.id is null then
    insert into public.deployments (agent_id, user_id, cluster_id, endpoint_id, namespace, stack_name, replicas_desired)
    values (agent.id, agent.user_id, chosen.id, chosen.endpoint_id, chosen.namespace, wanted || '-' || left(agent.id::text, 8), agent.replicas)
    returning * into placed;
  end if;
  return placed;
end;
$$;
comment on function private.place_agent is 'Chooses cluster and stack name of an agent → its new deployment. Definer: clients do not write deployments.';

create function private.move_agent(agent_id uuid, status text, deployment_state text) returns void
language plpgsql volatile security definer
set search_path = ''
as $$
begin
  update public.agents a set status = move_agent.status, last_activity_at = now()
  where a.id = move_agent.agent_id and (a.status <> move_agent.status or a.last_activity_at is null);
  update public.deployments d set state = move_agent.deployment_state
  where d.agent_id = move_agent.agent_id and d.state <> move_agent.deployment_state;
end;
$$;
comment on function private.move_agent is 'Sets the headline of an agent and the state of its deployment together. Definer: clients set neither to a system state.';

create function private.begin_operation(
  agent public.agents, cluster_id uuid, kind text, request jsonb, message text, data jsonb default '{}',
  out operation public.operations, out event_id uuid
)
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  doing constant text := case kind when 'deploy' then 'queued' else private.doing(kind) end;
begin
  operation := private.queue_operation(agent.id, agent.user_id, cluster_id, kind, request || jsonb_build_object('generation', agent.generation));
  event_id := private.write_event(agent.id, agent.user_id,
    case kind when 'start' then 'STARTING' when 'rollback' then 'ROLLING_BACK' else upper(doing) end, message, data, operation.id);
  perform private.move_agent(agent.id, doing, doing);
end;
$$;
comment on function private.begin_operation is
  'Queues an operation on an agent, tells of it in an event and moves agent and deployment to the state it begins with → (operation, event_id). Definer: clients write no operations.';

create function private.begin_deployment(agent public.agents, cluster_id uuid, out operation public.operations, out event_id uuid)
language sql volatile security definer
set search_path = ''
as $$
  select b.operation, b.event_id
  from private.begin_operation(agent, cluster_id, 'deploy', jsonb_build_object('replicas', agent.replicas), 'Deployment queued',
    jsonb_build_object('replicas', agent.replicas)) b;
$$;
comment on function private.begin_deployment is 'See begin_operation: the first deployment of an agent. Definer: clients write no operations.';

create function private.begin_update(agent public.agents, cluster_id uuid) returns void
language sql volatile security definer
set search_path = ''
as $$
  select private.begin_operation(agent, cluster_id, 'update', '{}', 'Update queued');
$$;
comment on function private.begin_update is 'See begin_operation: rolls out what was changed of an agent. Definer: clients write no operations.';

-- Create ---------------------------------------------------------------------------------------------------------

create function private.create_agent(spec jsonb) returns jsonb
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  owner constant uuid := (select auth.uid());
  faults jsonb := private.spec_faults(spec);
  environment jsonb;
  made public.agents;
  begun record;
begin
  perform private.require_permission('agents:write');
  perform private.require_permission('containers:manage');
  if faults <> '{}' then
    -- Name what else is wrong in the same answer.
    perform private.refuse_faults(case when jsonb_typeof(spec) = 'object' and nullif(trim(spec ->> 'name'), '') is null
      and not faults ? 'name' then faults || '{"name": "Name is required"}' else faults end);
  end if;
  perform private.check_agent_limit(owner);

  environment := coalesce(nullif(spec -> 'environment', 'null'), '{}');
  if nullif(spec #>> '{supabase_config,database_url}', '') is not null then
    environment := jsonb_build_object('SUPABASE_DATABASE_URL', spec #> '{supabase_config,database_url}') || environment;
  end if;

  insert into public.agents (
    user_id, name, description, role, avatar, framework, model, system_prompt, settings, status, character,
    plugins, platforms, resources, replicas, scaling, portainer, supabase_config, enabled_tools, cluster_id, last_activity_at
  ) values (
    owner, trim(spec ->> 'name'), spec ->> 'description', spec ->> 'role', spec ->> 'avatar',
    coalesce(spec ->> 'framework', 'openai'), spec ->> 'model', spec ->> 'system_prompt',
    coalesce(nullif(spec -> 'settings', 'null'), '{}'), 'queued', coalesce(nullif(spec -> 'character', 'null'), '{}'),
    array(select jsonb_array_elements_text(coalesce(nullif(spec -> 'plugins', 'null'), '[]'))),
    array(select jsonb_array_elements_text(coalesce(nullif(spec -> 'platforms', 'null'), '[]'))),
    '{"memory": "512Mi", "cpu": "250m"}'::jsonb || coalesce(nullif(spec -> 'resources', 'null'), '{}'),
    coalesce((spec ->> 'replicas')::int, 1), nullif(spec -> 'scaling', 'null'),
    coalesce(nullif(spec -> 'portainer', 'null'), '{}'), coalesce(nullif(spec -> 'supabase_config', 'null'), '{}') - 'database_url',
    array(select jsonb_array_elements_text(coalesce(nullif(spec -> 'enabled_tools', 'null'), '[]'))),
    (spec ->> 'cluster_id')::uuid, now()
  ) returning * into made;
  perform private.check_replica_quota(owner, made.id, made.replicas);
  perform private.store_environment(made.id, environment);
  select * into made from public.agents a where a.id = made.id;

  begun := private.begin_deployment(made, (private.place_agent(made)).cluster_id);
  perform private.write_audit('agent.create', 'agent', made.id::text);
  return private.agent_answer(made.id, begun.operation, begun.event_id);
end;
$$;
comment on function private.create_agent is 'See public.create_agent. Definer: writes Vault, deployments and operations.';

create function public.create_agent(spec jsonb) returns jsonb
language sql volatile
set search_path = ''
as $$
  select private.create_agent(create_agent.spec);
$$;
comment on function public.create_agent is
  'Makes an agent and deploys it (seeds 000–002). spec: {name, description, character, plugins, platforms, resources {memory, cpu}, replicas, scaling, environment {NAME: value}, portainer, supabase_config, framework, model, system_prompt, settings, role, avatar, enabled_tools, cluster_id} → {agent, deployment, operation, event_id, estimate}. Errors: VALIDATION_ERROR, INVALID_FRAMEWORK, INVALID_MODEL 400; PERMISSION_DENIED, AGENT_LIMIT_REACHED 403; RESOURCE_LIMIT_EXCEEDED 429; RESOURCE_EXHAUSTED 503.';

-- Update ---------------------------------------------------------------------------------------------------------

create function private.roll_out_change() returns trigger
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  bookkeeping constant text[] := '{scaling,generation,status,updated_at,last_activity_at}';
  placed public.deployments;
begin
  select * into placed from public.deployments d where d.agent_id = new.id;
  -- An active operation is followed by an update when it finishes and finds a later generation.
  if placed.state in ('running', 'failed') and placed.stack_id is not null
    and not exists (select from public.operations o where o.agent_id = new.id and o.state in ('queued', 'running'))
  then
    if placed.state = 'failed' and (select auth.uid()) is not null then
      -- A failed agent holds none of the quota; what the worker puts back was accepted before.
      perform private.check_replica_quota(new.user_id, new.id, new.replicas);
    end if;
    if placed.state = 'running' and placed.observed_generation = old.generation and new.scaling is distinct from old.scaling
      and to_jsonb(new) - bookkeeping = to_jsonb(old) - bookkeeping
    then
      -- Only for an orchestrator that scales by itself: nothing of the containers changes.
      perform private.begin_operation(new, placed.cluster_id, 'scale', jsonb_build_object(
        'from_replicas', new.replicas, 'to_replicas', new.replicas, 'strategy', 'rolling', 'policy_changed', true),
        'Scaling policy changed', jsonb_build_object('scaling', new.scaling));
    else
      perform private.begin_update(new, placed.cluster_id);
    end if;
  end if;
  return null;
end;
$$;
comment on function private.roll_out_change is
  'Queues an update when what is deployed was changed, whoever changed it: /api, an RPC or PostgREST. Definer: clients write no operations.';
create trigger agents_roll_out after update on public.agents
  for each row when (new.generation > old.generation and new.status <> 'deleting') execute function private.roll_out_change();

create function private.update_agent(agent_id uuid, changes jsonb) returns jsonb
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  target constant public.agents := private.lock_agent(agent_id, 'agents:write');
  faults constant jsonb := private.spec_faults(changes);
  environment jsonb := coalesce(nullif(changes -> 'environment', 'null'), '{}');
  changed public.agents;
  queued public.operations;
  event_id uuid;
begin
  perform private.refuse_faults(faults);
  if target.status = 'deleting' then
    perform private.raise_error('INVALID_STATE', 'The agent is being deleted.', jsonb_build_object('status', target.status), 409);
  end if;
  perform private.refuse_while_active(agent_id);
  if nullif(changes #>> '{supabase_config,database_url}', '') is not null then
    environment := jsonb_build_object('SUPABASE_DATABASE_URL', changes #> '{supabase_config,database_url}') || environment;
  end if;
  if changes ? 'replicas' or changes #> '{resources,replicas}' is not null then
    perform private.check_replica_quota(target.user_id, agent_id,
      coalesce(changes ->> 'replicas', changes #>> '{resources,replicas}', '1')::numeric::int);
  end if;

  update public.agents a set
    name = case when changes ? 'name' then trim(changes ->> 'name') else a.name end,
    description = case when changes ? 'description' then changes ->> 'description' else a.description end,
    role = case when changes ? 'role' then changes ->> 'role' else a.role end,
    avatar = case when changes ? 'avatar' then changes ->> 'avatar' else a.avatar end,
    framework = coalesce(changes ->> 'framework', a.framework),
    model = case when changes ? 'model' then changes ->> 'model' else a.model end,
    system_prompt = case when changes ? 'system_prompt' then changes ->> 'system_prompt' else a.system_prompt end,
    settings = coalesce(nullif(changes -> 'settings', 'null'), a.settings),
    character = coalesce(nullif(changes -> 'character', 'null'), a.character),
    plugins = case when jsonb_typeof(changes -> 'plugins') = 'array'
      then array(select jsonb_array_elements_text(changes -> 'plugins')) else a.plugins end,
    platforms = case when jsonb_typeof(changes -> 'platforms') = 'array'
      then array(select jsonb_array_elements_text(changes -> 'platforms')) else a.platforms end,
    resources = a.resources || coalesce(nullif(changes -> 'resources', 'null'), '{}'),
    replicas = coalesce((changes ->> 'replicas')::int, a.replicas),
    scaling = case when changes ? 'scaling' then nullif(changes -> 'scaling', 'null') else a.scaling end,
    portainer = a.portainer || coalesce(nullif(changes -> 'portainer', 'null'), '{}'),
    supabase_config = a.supabase_config || (coalesce(nullif(changes -> 'supabase_config', 'null'), '{}') - 'database_url'),
    enabled_tools = case when jsonb_typeof(changes -> 'enabled_tools') = 'array'
      then array(select jsonb_array_elements_text(changes -> 'enabled_tools')) else a.enabled_tools end,
    last_activity_at = now()
  where a.id = update_agent.agent_id;
  if environment <> '{}' then
    perform private.store_environment(agent_id, environment);
  end if;

  select * into changed from public.agents a where a.id = update_agent.agent_id;
  select * into queued from public.operations o where o.agent_id = update_agent.agent_id and o.state = 'queued';
  if queued.id is not null then
    select e.id into event_id from public.agent_events e where e.operation_id = queued.id order by e.timestamp desc limit 1;
  else
    event_id := private.write_event(agent_id, target.user_id, 'UPDATED', 'Agent updated',
      jsonb_build_object('fields', (select coalesce(jsonb_agg(k order by k), '[]') from jsonb_object_keys(changes) k)));
  end if;
  perform private.write_audit('agent.update', 'agent', agent_id::text,
    jsonb_build_object('fields', (select coalesce(jsonb_agg(k order by k), '[]') from jsonb_object_keys(changes) k)));
  return private.agent_answer(agent_id, queued, event_id)
    || jsonb_build_object('changes', (select coalesce(jsonb_object_agg(k, true), '{}') from jsonb_object_keys(changes) k));
end;
$$;
comment on function private.update_agent is 'See public.update_agent. Definer: writes Vault and operations.';

create function public.update_agent(agent_id uuid, changes jsonb) returns jsonb
language sql volatile
set search_path = ''
as $$
  select private.update_agent(update_agent.agent_id, update_agent.changes);
$$;
comment on function public.update_agent is
  'Changes an agent and rolls the change out when it is deployed (seeds 001, 002). changes: as the spec of create_agent, only what changes; resources, portainer and supabase_config merge, environment {NAME: value | null} merges and removes → {agent, deployment, operation | null, event_id, estimate, changes {field: true}}. Errors: VALIDATION_ERROR 400, PERMISSION_DENIED 403, AGENT_NOT_FOUND 404, OPERATION_IN_PROGRESS, INVALID_STATE 409.';

-- Scale, restart, stop, start ------------------------------------------------------------------------------------

create function private.command_agent(agent_id uuid, kind text, request jsonb, allowed_states text[]) returns jsonb
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  target constant public.agents := private.lock_agent(agent_id, 'containers:manage');
  placed public.deployments;
  begun record;
begin
  perform private.refuse_while_active(agent_id);
  select * into placed from public.deployments d where d.agent_id = command_agent.agent_id for update;
  if placed.id is null or not placed.state = any (allowed_states) or target.status = 'deleting' then
    perform private.raise_error('INVALID_STATE',
      format('The agent cannot %s: it is %s.', kind, case when placed.id is null then 'not deployed' else placed.state end),
      jsonb_build_object('state', placed.state, 'allowed_states', to_jsonb(allowed_states)), 409,
      case when placed.id is null or placed.state in ('stopped', 'failed') then 'Start the agent first.' end);
  end if;
  if kind = 'restart' and placed.state = 'failed' then
    -- A failed agent holds none of the quota.
    perform private.check_replica_quota(target.user_id, agent_id, target.replicas);
  end if;
  begun := private.begin_operation(target, placed.cluster_id, kind, request, initcap(kind) || ' requested', request);
  perform private.write_audit('agent.' || kind, 'agent', agent_id::text, request);
  return private.agent_answer(agent_id, begun.operation, begun.event_id);
end;
$$;
comment on function private.command_agent is
  'Queues an operation on a deployed agent. Errors: PERMISSION_DENIED 403, AGENT_NOT_FOUND 404, OPERATION_IN_PROGRESS, INVALID_STATE 409. Definer: clients write no operations.';

create function private.scale_agent(agent_id uuid, replicas integer, strategy text, scaling_policy jsonb) returns jsonb
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  target constant public.agents := private.lock_agent(agent_id, 'containers:manage');
  policy constant jsonb := case when scaling_policy is not null and scaling_policy <> 'null'
    then coalesce(target.scaling, '{}') || scaling_policy else target.scaling end;
  most constant integer := (private.setting('agents', 'max_replicas'))::int;
  faults jsonb := '{}';
  answer jsonb;
begin
  if replicas is null or replicas not between 1 and most then
    faults := faults || jsonb_build_object('replicas', format('Replicas must be from 1 to %s', most));
  elsif replicas < (policy ->> 'minReplicas')::numeric or replicas > (policy ->> 'maxReplicas')::numeric then
    faults := faults || jsonb_build_object('replicas', format('Replicas must lie within the scaling policy, from %s to %s',
      coalesce(policy ->> 'minReplicas', '1'), coalesce(policy ->> 'maxReplicas', most::text)));
  end if;
  if strategy is null or strategy not in ('rolling', 'recreate') then
    faults := faults || jsonb_build_object('strategy', 'Strategy must be one of: rolling, recreate' || case when strategy = 'blue-green'
      then '; blue-green is for updates (portainer.deployment_strategy), scaling replaces nothing' else '' end);
  end if;
  perform private.refuse_faults(faults);
  perform private.check_replica_quota(target.user_id, agent_id, replicas);

  -- First the operation, then the agent: a change without one would be rolled out as an update.
  answer := private.command_agent(agent_id, 'scale', jsonb_build_object(
    'from_replicas', target.replicas, 'to_replicas', replicas, 'strategy', strategy)
    || case when policy is distinct from target.scaling then '{"policy_changed": true}'::jsonb else '{}' end, array['running']);
  update public.agents a set replicas = scale_agent.replicas, scaling = policy where a.id = scale_agent.agent_id;
  update public.deployments d set replicas_desired = scale_agent.replicas where d.agent_id = scale_agent.agent_id;
  return private.agent_answer(agent_id,
    (select o from public.operations o where o.id = (answer #>> '{operation,id}')::uuid), (answer ->> 'event_id')::uuid);
end;
$$;
comment on function private.scale_agent is 'See public.scale_agent. Definer: clients write no operations.';

create function public.scale_agent(
  agent_id uuid, replicas integer, strategy text default 'rolling', scaling_policy jsonb default null
) returns jsonb
language sql volatile
set search_path = ''
as $$
  select private.scale_agent(scale_agent.agent_id, scale_agent.replicas, scale_agent.strategy, scale_agent.scaling_policy);
$$;
comment on function public.scale_agent is
  'Changes the number of replicas (seeds 000–002). strategy: rolling or recreate; scaling_policy {minReplicas, maxReplicas, targetCPU, targetMemory} merges into agents.scaling → {agent, deployment, operation, event_id, estimate}; operation.request has from_replicas and to_replicas. Errors: VALIDATION_ERROR 400, PERMISSION_DENIED 403, AGENT_NOT_FOUND 404, OPERATION_IN_PROGRESS, INVALID_STATE 409, RESOURCE_LIMIT_EXCEEDED 429.';

create function private.restart_agent(agent_id uuid, restart_policy text, max_unavailable integer) returns jsonb
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  faults jsonb := '{}';
begin
  if restart_policy is null or restart_policy not in ('rolling', 'recreate') then
    faults := faults || '{"restart_policy": "Restart policy must be one of: rolling, recreate"}';
  end if;
  if max_unavailable is null or max_unavailable not between 1 and (private.setting('agents', 'max_replicas'))::int then
    faults := faults || jsonb_build_object('max_unavailable', format('max_unavailable must be from 1 to %s', private.setting('agents', 'max_replicas')));
  end if;
  perform private.refuse_faults(faults);
  return private.command_agent(agent_id, 'restart',
    jsonb_build_object('restart_policy', restart_policy, 'max_unavailable', max_unavailable), array['running', 'failed']);
end;
$$;
comment on function private.restart_agent is 'See public.restart_agent. Definer: reads settings, clients write no operations.';

create function public.restart_agent(agent_id uuid, restart_policy text default 'rolling', max_unavailable integer default 1) returns jsonb
language sql volatile
set search_path = ''
as $$
  select private.restart_agent(restart_agent.agent_id, restart_agent.restart_policy, restart_agent.max_unavailable);
$$;
comment on function public.restart_agent is
  'Restarts the containers of an agent (seed 000), rolling with at most max_unavailable at a time, or recreate: all at once → {agent, deployment, operation, event_id, estimate}. Errors as scale_agent.';

create function public.stop_agent(agent_id uuid) returns jsonb
language sql volatile
set search_path = ''
as $$
  select private.command_agent(stop_agent.agent_id, 'stop', '{}', array['running', 'failed']);
$$;
comment on function public.stop_agent is 'Stops the containers of an agent and keeps its stack (seed 000) → {agent, deployment, operation, event_id, estimate}. Errors as scale_agent.';

create function private.start_agent(agent_id uuid) returns jsonb
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  target constant public.agents := private.lock_agent(agent_id, 'containers:manage');
  placed public.deployments;
  begun record;
begin
  perform private.check_replica_quota(target.user_id, agent_id, target.replicas);
  select * into placed from public.deployments d where d.agent_id = start_agent.agent_id;
  if placed.id is not null and (placed.stack_id is not null or placed.state <> 'failed') then
    return private.command_agent(agent_id, 'start', '{}', array['stopped', 'failed']);
  end if;

  -- Never deployed, or never got as far as a stack: starting it is deploying it.
  perform private.refuse_while_active(agent_id);
  if placed.id is null then
    placed := private.place_agent(target);
  end if;
  begun := private.begin_deployment(target, placed.cluster_id);
  perform private.write_audit('agent.start', 'agent', agent_id::text);
  return private.agent_answer(agent_id, begun.operation, begun.event_id);
end;
$$;
comment on function private.start_agent is 'See public.start_agent. Definer: clients write no operations.';

create function public.start_agent(agent_id uuid) returns jsonb
language sql volatile
set search_path = ''
as $$
  select private.start_agent(start_agent.agent_id);
$$;
comment on function public.start_agent is
  'Starts a stopped agent, or deploys one that was never deployed (seed 000) → {agent, deployment, operation, event_id, estimate}. Errors as scale_agent.';

-- Delete ---------------------------------------------------------------------------------------------------------

create function private.cancel_active(target_id uuid) returns void
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  active public.operations;
  waiting private.operation_queue;
begin
  -- The queue before the operation, as the worker does.
  perform from private.operation_queue q join public.operations o on o.id = q.operation_id
  where (o.agent_id = target_id or o.stack_id = target_id) and o.state in ('queued', 'running') for update of q;
  for active in
    -- No stronger lock: a batch that lets it into the queue meanwhile refers to the row.
    select * from public.operations o where (o.agent_id = target_id or o.stack_id = target_id) and o.state in ('queued', 'running')
    for no key update
  loop
    update public.operations o set state = 'cancelled', finished_at = now() where o.id = active.id;
    select * into waiting from private.operation_queue q where q.operation_id = active.id for update;
    if waiting.lease_token is not null and waiting.run_after > now() then
      -- A worker holds it. It stops when it next renews its lease; at the latest the lease ends.
      update private.operation_queue q set cancel_requested = true where q.operation_id = active.id;
    else
      delete from private.operation_queue q where q.operation_id = active.id;
    end if;
  end loop;
end;
$$;
comment on function private.cancel_active is
  'Cancels the active operation of an agent or a stack; free_at tells when its worker has stopped. Definer: clients write no operations.';

create function private.queue_teardown(agent public.agents, placed public.deployments) returns public.operations
language plpgsql volatile security definer
set search_path = ''
as $$
begin
  perform private.cancel_active(agent.id);
  -- The user may be gone already, when the agent goes with them.
  return private.queue_operation(agent.id, (select u.id from auth.users u where u.id = agent.user_id), placed.cluster_id, 'delete',
    jsonb_build_object('stack_id', placed.stack_id, 'stack_name', placed.stack_name, 'namespace', placed.namespace,
      'endpoint_id', placed.endpoint_id, 'orchestrator', placed.orchestrator));
end;
$$;
comment on function private.queue_teardown is
  'Queues the removal of an agent''s stack; the operation itself says where that is, for the agent may be gone by then. Definer: clients write no operations.';

create function private.delete_agent(agent_id uuid) returns jsonb
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  target public.agents := private.lock_agent(agent_id, 'agents:write');
  placed public.deployments;
  queued public.operations;
  event_id uuid;
  answer jsonb;
begin
  select * into placed from public.deployments d where d.agent_id = delete_agent.agent_id for update;
  select * into queued from public.operations o
  where o.agent_id = delete_agent.agent_id and o.kind = 'delete' and o.state in ('queued', 'running');
  if queued.id is not null then
    perform private.refuse_while_active(agent_id);
  end if;
  perform private.write_audit('agent.delete', 'agent', agent_id::text);
  event_id := private.write_event(agent_id, target.user_id, 'DELETING', 'Deletion requested', '{}');

  -- Personal data goes at once: what describes the agent now and before, its environments, its logs and what was said of it.
  delete from private.agent_environments e where e.agent_id = delete_agent.agent_id;
  delete from public.agent_revisions r where r.agent_id = delete_agent.agent_id;
  perform private.erase_reports(agent_id);
  update public.agents a set
    name = 'deleted agent', description = null, role = null, avatar = null, system_prompt = null, settings = '{}', character = '{}',
    plugins = '{}', platforms = '{}', environment_keys = '{}', portainer = '{}', supabase_config = '{}', enabled_tools = '{}',
    status = 'deleting'
  where a.id = delete_agent.agent_id;
  delete from private.collections c where c.agent_id = delete_agent.agent_id;

  if placed.id is null then
    perform private.cancel_active(agent_id);
    update public.agents a set deleted_at = now(),
      purge_after = now() + make_interval(days => (private.setting('agents', 'purge_after_days'))::int)
    where a.id = delete_agent.agent_id;
  else
    queued := private.queue_teardown(target, placed);
    update public.deployments d set state = 'deleting' where d.agent_id = delete_agent.agent_id;
  end if;
  answer := private.agent_answer(agent_id, queued, event_id);
  return answer || jsonb_build_object('retention_days', private.setting('agents', 'purge_after_days'));
end;
$$;
comment on function private.delete_agent is 'See public.delete_agent. Definer: writes Vault, logs and operations.';

create function public.delete_agent(agent_id uuid) returns jsonb
language sql volatile
set search_path = ''
as $$
  select private.delete_agent(delete_agent.agent_id);
$$;
comment on function public.delete_agent is
  'Deletes an agent (seeds 001, 002): its personal data at once, its containers by an operation, which cancels one that is under way; the row, without personal data, goes after retention_days → {agent, deployment, operation, event_id, estimate, retention_days}. Errors: PERMISSION_DENIED 403, AGENT_NOT_FOUND 404, OPERATION_IN_PROGRESS 409 when it is being deleted already.';

create function private.tear_down_with_row() returns trigger
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  placed public.deployments;
begin
  select * into placed from public.deployments d where d.agent_id = old.id;
  if placed.id is not null and old.deleted_at is null
    and not exists (select from public.operations o where o.agent_id = old.id and o.kind = 'delete' and o.state in ('queued', 'running'))
  then
    perform private.queue_teardown(old, placed);
  else
    perform private.cancel_active(old.id) where old.status <> 'deleting';
  end if;
  -- With an account there can be too many for one statement; its erasure removes them step by step.
  if current_setting('launchpad.erasing', true) is distinct from 'true' then
    perform private.erase_reports(old.id);
  end if;
  perform private.write_audit('agent.remove', 'agent', old.id::text);
  return old;
end;
$$;
comment on function private.tear_down_with_row is
  'Removes the containers, logs and environment of an agent whose row is deleted (PostgREST DELETE, seed 003). Definer: clients write no operations.';
create trigger agents_tear_down before delete on public.agents
  for each row execute function private.tear_down_with_row();

grant execute on function
  private.create_agent, private.update_agent, private.scale_agent, private.restart_agent, private.command_agent,
  private.start_agent, private.delete_agent
  to authenticated, service_role;
grant execute on function
  public.create_agent, public.update_agent, public.scale_agent, public.restart_agent, public.stop_agent, public.start_agent,
  public.delete_agent
  to authenticated, service_role;
