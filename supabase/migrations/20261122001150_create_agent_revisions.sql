-- Revisions: what was rolled out of each agent, numbered, with what came of it. One that came up well can be gone back to, by
-- rollback_agent, and is gone back to by itself when a later one cannot be rolled out.
--
-- Adds: agent_revisions with their environments in Vault, rollback_agent and list_agent_revisions for clients, and what the
-- worker's functions do for a revision.
-- Mind: a revision is written when the worker takes up an operation, from what it is given to carry out, and settled when the
-- operation ends. The agent's row may be newer by then. Scaling is no revision: it changes the replicas of the one that runs.

insert into public.settings (category, key, value, description) values
  ('agents', 'revisions_kept', '10', 'Revisions of an agent that are kept; the one that runs is kept beyond them.');

create table public.agent_revisions (
  id uuid primary key default gen_random_uuid(),
  agent_id uuid not null references public.agents (id) on delete cascade,
  user_id uuid not null references auth.users (id) on delete cascade,
  revision integer not null,
  generation bigint not null,
  state text not null default 'rolling_out',
  definition jsonb not null,
  environment_keys text[] not null default '{}',
  restored_from integer,
  operation_id uuid not null,
  error jsonb,
  created_at timestamptz not null default now(),
  finished_at timestamptz,
  constraint revisions_are_counted unique (agent_id, revision),
  constraint revision_counts check (revision > 0),
  constraint state_is_known check (state in ('rolling_out', 'deployed', 'failed')),
  constraint finished_when_settled check ((finished_at is not null) = (state <> 'rolling_out')),
  constraint error_when_failed check ((error is not null) = (state = 'failed')),
  constraint definition_is_object check (jsonb_typeof(definition) = 'object')
);
comment on table public.agent_revisions is
  'What was rolled out of each agent, and what came of it; deployments.revision says which one runs. rollback_agent goes back to one.';
comment on column public.agent_revisions.revision is 'Counts 1, 2, 3 … for each agent, with those that failed.';
comment on column public.agent_revisions.generation is 'agents.generation that it was, after scaling the one that it is.';
comment on column public.agent_revisions.state is 'rolling_out; then deployed: it came up well, whether or not it runs now, or failed.';
comment on column public.agent_revisions.definition is
  'All that is deployed of the agent but its environment: {name, framework, model, system_prompt, settings, character, plugins, platforms, resources, replicas, scaling, portainer, supabase_config, enabled_tools, template {name, version, image, command, port, health_path, labels}}.';
comment on column public.agent_revisions.environment_keys is 'Names of its environment variables; their values are in Vault.';
comment on column public.agent_revisions.restored_from is 'The revision that it brought back.';
comment on column public.agent_revisions.operation_id is 'The operation that rolled it out; operations are removed after retention.operations_days.';
comment on column public.agent_revisions.error is '{code, message, details}: why it failed.';
create index agent_revisions_user_id_idx on public.agent_revisions (user_id);

create table private.revision_environments (
  revision_id uuid primary key references public.agent_revisions (id) on delete cascade,
  secret_id uuid not null
);
comment on table private.revision_environments is
  'Vault secret that holds the environment of a revision; the agent and its other revisions may refer to the same. Without a row it is empty.';
create index revision_environments_secret_id_idx on private.revision_environments (secret_id);
create trigger revision_environments_forget after delete or update of secret_id on private.revision_environments
  for each row execute function private.forget_secret();

-- What is rolled out ---------------------------------------------------------------------------------------------

create function private.agent_definition(agent public.agents, template jsonb) returns jsonb
language plpgsql immutable
set search_path = ''
as $$
begin
  return jsonb_build_object(
    'name', agent.name, 'framework', agent.framework, 'model', agent.model, 'system_prompt', agent.system_prompt,
    'settings', agent.settings, 'character', agent.character, 'plugins', agent.plugins, 'platforms', agent.platforms,
    'resources', agent.resources, 'replicas', agent.replicas, 'scaling', agent.scaling, 'portainer', agent.portainer,
    'supabase_config', agent.supabase_config, 'enabled_tools', agent.enabled_tools, 'template', template
  );
end;
$$;
comment on function private.agent_definition is 'What is deployed of an agent, as agent_revisions.definition holds it: what prepare_agent counts generations of.';

create function private.newest_template(agent public.agents) returns jsonb
language plpgsql stable security definer
set search_path = ''
as $$
begin
  return (
    select jsonb_build_object('name', t.name, 'version', t.version, 'image', t.image, 'command', t.command, 'port', t.port,
      'health_path', t.health_path, 'labels', t.labels)
    from public.stack_templates t
    where t.name = private.template_name(agent) and t.user_id is null and t.image is not null
    order by t.version desc limit 1
  );
end;
$$;
comment on function private.newest_template is
  'What an agent runs when it is deployed or updated now: the highest version of its template → {name, version, image, command, port, health_path, labels} | null. Templates of users are for stacks. Definer: users may be denied templates.';

create function private.template_name(agent public.agents) returns text
language plpgsql immutable
set search_path = ''
as $$
begin
  return coalesce(nullif(agent.portainer ->> 'template', ''), 'eliza-agent-template');
end;
$$;
comment on function private.template_name is 'Name of the template that an agent is deployed from.';

create function private.template_faults(agent public.agents) returns jsonb
language sql stable security definer
set search_path = ''
as $$
  select case when coalesce(agent.portainer ->> 'template', '') <> '' and private.newest_template(agent) is null
    then '{"portainer.template": "There is no such template for agents"}' else '{}' end::jsonb;
$$;
comment on function private.template_faults is
  'What is wrong with the template that an agent names → {field: message}. Definer: users may be denied templates.';

create function private.running_revision(agent_id uuid) returns public.agent_revisions
language sql stable security definer
set search_path = ''
as $$
  select r from public.deployments d join public.agent_revisions r on r.agent_id = d.agent_id and r.revision = d.revision
  where d.agent_id = running_revision.agent_id;
$$;
comment on function private.running_revision is 'The revision of an agent that came up well last. Definer: called by functions that checked the right.';

create function private.plan_revision(held public.operations, target public.agents) returns jsonb
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  scalable constant text[] := array['replicas', 'scaling'];
  secret constant uuid := (select e.secret_id from private.agent_environments e where e.agent_id = target.id);
  begun public.agent_revisions;
  running public.agent_revisions;
  template jsonb;
begin
  select * into begun from public.agent_revisions r where r.agent_id = target.id and r.operation_id = held.id;
  if begun.generation = target.generation then
    return nullif(begun.definition -> 'template', 'null');
  end if;

  if held.kind = 'rollback' then
    select r.definition -> 'template' into template from public.agent_revisions r
    where r.agent_id = target.id and r.revision = (held.request ->> 'to_revision')::int
      and r.definition #>> '{template,name}' = private.template_name(target);
  elsif held.kind not in ('deploy', 'update') and begun.id is null then
    running := private.running_revision(target.id);
    template := running.definition -> 'template';
    -- What only scales, restarts or starts again keeps the version of the template that it runs, whatever was added since.
    if running.definition - scalable = private.agent_definition(target, template) - scalable
      and secret is not distinct from (select e.secret_id from private.revision_environments e where e.revision_id = running.id)
    then
      return nullif(template, 'null');
    end if;
    template := null;
  end if;
  template := coalesce(nullif(template, 'null'), private.newest_template(target));

  if begun.id is null then
    insert into public.agent_revisions (agent_id, user_id, revision, generation, definition, environment_keys, restored_from, operation_id)
    values (
      target.id, target.user_id,
      1 + coalesce((select max(r.revision) from public.agent_revisions r where r.agent_id = target.id), 0),
      target.generation, private.agent_definition(target, template), target.environment_keys, (held.request ->> 'to_revision')::int, held.id
    ) returning * into begun;
  else
    update public.agent_revisions r set
      generation = target.generation, definition = private.agent_definition(target, template), environment_keys = target.environment_keys
    where r.id = begun.id;
  end if;
  if secret is null then
    delete from private.revision_environments e where e.revision_id = begun.id;
  else
    insert into private.revision_environments (revision_id, secret_id) values (begun.id, secret)
    on conflict on constraint revision_environments_pkey do update set secret_id = excluded.secret_id;
  end if;
  return template;
end;
$$;
comment on function private.plan_revision is
  'Writes down as a revision what an operation is about to roll out, when that differs from what runs → the template that it is rolled out from, null when there is none. Definer: clients write no revisions.';

create function private.keep_replicas(agent_id uuid, replicas integer, scaling jsonb) returns void
language sql volatile security definer
set search_path = ''
as $$
  update public.agent_revisions r set
    definition = r.definition || jsonb_build_object('replicas', keep_replicas.replicas, 'scaling', keep_replicas.scaling)
  from public.deployments d
  where d.agent_id = keep_replicas.agent_id and r.agent_id = d.agent_id and r.revision = d.revision;
$$;
comment on function private.keep_replicas is
  'Scaling is no revision of its own: the one that runs takes on the replicas that it has come to. Definer: clients write no revisions.';

create function private.settle_revision(held public.operations, error jsonb) returns public.agent_revisions
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  kept constant integer := greatest(1, (private.setting('agents', 'revisions_kept'))::int);
  settled public.agent_revisions;
  running public.agent_revisions;
  target public.agents;
begin
  update public.agent_revisions r set
    state = case when settle_revision.error is null then 'deployed' else 'failed' end,
    error = settle_revision.error, finished_at = clock_timestamp()
  where r.agent_id = held.agent_id and r.operation_id = held.id
  returning * into settled;
  if settled.id is null and settle_revision.error is null and held.kind not in ('stop', 'delete') then
    running := private.running_revision(held.agent_id);
    select * into target from public.agents a where a.id = held.agent_id;
    if running.generation <> (held.request ->> 'generation')::bigint then
      update public.agent_revisions r set generation = (held.request ->> 'generation')::bigint where r.id = running.id;
      if target.generation = (held.request ->> 'generation')::bigint then
        perform private.keep_replicas(target.id, target.replicas, target.scaling);
      elsif held.request ? 'to_replicas' then
        -- It was changed again since; how many it was scaled to is still known.
        perform private.keep_replicas(target.id, (held.request ->> 'to_replicas')::int, running.definition -> 'scaling');
      end if;
    end if;
  end if;
  if settled.revision > kept then
    delete from public.agent_revisions r
    where r.agent_id = settled.agent_id and r.revision <= settled.revision - kept
      and r.revision <> (select d.revision from public.deployments d where d.agent_id = settled.agent_id);
  end if;
  return settled;
end;
$$;
comment on function private.settle_revision is
  'Ends the revision that an operation rolled out: deployed, or failed with the error; removes those beyond settings agents.revisions_kept → its row. Without one, the revision that runs takes on how it was scaled. Definer: clients write no revisions.';

-- Going back -----------------------------------------------------------------------------------------------------

create function private.restore_revision(kept public.agent_revisions) returns void
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  secret constant uuid := (select e.secret_id from private.revision_environments e where e.revision_id = kept.id);
begin
  update public.agents a set
    name = d.name, framework = d.framework, model = d.model, system_prompt = d.system_prompt, settings = d.settings,
    character = d.character, plugins = d.plugins, platforms = d.platforms, resources = d.resources, replicas = d.replicas,
    scaling = d.scaling, portainer = d.portainer, supabase_config = d.supabase_config, enabled_tools = d.enabled_tools,
    environment_keys = kept.environment_keys,
    -- Another change to the cluster, also where nothing but a value of the environment differs.
    generation = a.generation + 1, last_activity_at = now()
  from jsonb_populate_record(null::public.agents, kept.definition) d
  where a.id = kept.agent_id;
  if secret is null then
    delete from private.agent_environments e where e.agent_id = kept.agent_id;
  else
    insert into private.agent_environments (agent_id, secret_id) values (kept.agent_id, secret)
    on conflict on constraint agent_environments_pkey do update set secret_id = excluded.secret_id;
  end if;
end;
$$;
comment on function private.restore_revision is
  'Makes an agent again what it was in a revision, with its environment. Errors: as prepare_agent. Definer: Vault is closed to clients.';

create function private.speaks_against_agent(error jsonb) returns boolean
language sql immutable
set search_path = ''
as $$
  select error ->> 'code' is distinct from 'UPSTREAM_UNAVAILABLE'
    and coalesce(error #>> '{details,reason}', '') not in ('unauthorized', 'forbidden');
$$;
comment on function private.speaks_against_agent is
  'Whether a failure may lie with what was rolled out. A cluster that does not answer or lets nobody in says nothing of it, and would not take the last good version either.';

create function private.return_agent(held public.operations, failed public.agent_revisions, newer boolean, error jsonb)
returns public.agent_revisions
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  good constant public.agent_revisions := private.running_revision(held.agent_id);
begin
  if newer or failed.id is null or good.id is null or good.revision = failed.restored_from or held.cluster_id is null
    or (held.kind = 'rollback' and coalesce((held.request ->> 'automatic')::boolean, false)) or not private.speaks_against_agent(error)
  then
    return null;
  end if;
  perform private.restore_revision(good);
  return good;
exception when sqlstate 'PGRST' then
  -- What it was may not be any more: its model was taken away, for instance. Then it is left as it is.
  return null;
end;
$$;
comment on function private.return_agent is
  'Puts back the last good revision of an agent whose rollout was given up → that revision; null when there is none, when something newer is to be rolled out, when it was gone back to already or when the failure is the cluster''s. Definer: called by fail_operation.';

create function private.rollback_agent(agent_id uuid, revision integer) returns jsonb
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  target constant public.agents := private.lock_agent(agent_id, 'containers:manage');
  running public.agent_revisions;
  kept public.agent_revisions;
  placed public.deployments;
  answer jsonb;
begin
  perform private.refuse_while_active(agent_id);
  select * into placed from public.deployments d where d.agent_id = rollback_agent.agent_id for update;
  running := private.running_revision(agent_id);
  if revision is null then
    select * into kept from public.agent_revisions r
    where r.agent_id = rollback_agent.agent_id and r.state = 'deployed'
      -- An agent that was changed without success since goes back to what ran, any other to what ran before.
      and (r.revision < running.revision or (r.revision = running.revision and running.generation <> target.generation))
    order by r.revision desc limit 1;
    if kept.id is null then
      perform private.raise_error('INVALID_STATE', 'There is no earlier revision of the agent that came up well.',
        jsonb_build_object('reason', 'no_revision', 'running_revision', running.revision), 409, 'The table agent_revisions lists what there is.');
    end if;
  else
    select * into kept from public.agent_revisions r
    where r.agent_id = rollback_agent.agent_id and r.revision = rollback_agent.revision;
    if kept.id is null then
      perform private.raise_error('REVISION_NOT_FOUND', format('The agent has no revision %s', rollback_agent.revision),
        jsonb_build_object('agent_id', agent_id, 'revision', rollback_agent.revision), 404, 'The table agent_revisions lists what there is.');
    elsif kept.revision = running.revision and kept.generation = target.generation and placed.state = 'running' then
      perform private.raise_error('INVALID_STATE', format('Revision %s is what runs.', kept.revision),
        jsonb_build_object('reason', 'revision_runs', 'running_revision', running.revision), 409);
    end if;
  end if;
  if not exists (
    select from public.stack_templates t
    where t.user_id is null and t.name = kept.definition #>> '{template,name}' and t.version = (kept.definition #>> '{template,version}')::int
  ) then
    perform private.raise_error('INVALID_STATE', 'The template of the revision does not exist any more.',
      jsonb_build_object('reason', 'template_missing', 'template', kept.definition #> '{template,name}', 'version', kept.definition #> '{template,version}'),
      409, 'Update the agent instead.');
  end if;
  perform private.check_replica_quota(target.user_id, agent_id, (kept.definition ->> 'replicas')::int);

  -- First the operation, then the agent: a change without one would be rolled out as an update.
  answer := private.command_agent(agent_id, 'rollback',
    jsonb_build_object('from_revision', running.revision, 'to_revision', kept.revision), array['running', 'failed']);
  perform private.restore_revision(kept);
  update public.deployments d set replicas_desired = (kept.definition ->> 'replicas')::int where d.agent_id = rollback_agent.agent_id;
  return private.agent_answer(agent_id,
    (select o from public.operations o where o.id = (answer #>> '{operation,id}')::uuid), (answer ->> 'event_id')::uuid);
end;
$$;
comment on function private.rollback_agent is 'See public.rollback_agent. Definer: writes Vault and operations.';

create function public.rollback_agent(agent_id uuid, revision integer default null) returns jsonb
language sql volatile
set search_path = ''
as $$
  select private.rollback_agent(rollback_agent.agent_id, rollback_agent.revision);
$$;
comment on function public.rollback_agent is
  'Makes a running or failed agent again what it was in a revision, environment, replicas and version of the template with it, and rolls that out as a new revision. Without a revision: the last that came up well before the present one → {agent, deployment, operation, event_id, estimate}; operation.request has from_revision and to_revision. Errors: PERMISSION_DENIED 403, AGENT_NOT_FOUND, REVISION_NOT_FOUND 404, OPERATION_IN_PROGRESS, INVALID_STATE 409 (details.reason: no_revision, revision_runs, template_missing), VALIDATION_ERROR, INVALID_MODEL 400 for what is not allowed any more, SECURITY_SCAN_FAILED 422, RESOURCE_LIMIT_EXCEEDED 429.';

create function private.take_back_rollback(agent_id uuid, generation bigint) returns void
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  before public.agent_revisions;
  now_is bigint;
begin
  select * into before from public.agent_revisions r
  where r.agent_id = take_back_rollback.agent_id and r.generation = take_back_rollback.generation
  order by r.revision desc limit 1;
  if before.id is null then
    return;
  end if;
  perform private.restore_revision(before);
  select a.generation into now_is from public.agents a where a.id = before.agent_id;
  update public.deployments d set replicas_desired = (before.definition ->> 'replicas')::int where d.agent_id = before.agent_id;
  -- What runs is that again, so nothing is to be rolled out.
  update public.deployments d set observed_generation = now_is where d.agent_id = before.agent_id and d.revision = before.revision;
  if found then
    update public.agent_revisions r set generation = now_is where r.id = before.id;
  end if;
exception when sqlstate 'PGRST' then
  -- It would not be allowed any more; then it stays what it was made by the rollback.
  return;
end;
$$;
comment on function private.take_back_rollback is
  'Makes an agent again what it was at a generation, whose rollback was cancelled before it began. Definer: called by cancel_batch.';

-- Reads ----------------------------------------------------------------------------------------------------------

create function public.list_agent_revisions(agent_id uuid, row_limit integer default 10, before integer default null) returns jsonb
language plpgsql stable
set search_path = ''
as $$
declare
  running constant integer := (select d.revision from public.deployments d where d.agent_id = list_agent_revisions.agent_id);
  page jsonb;
begin
  perform private.require_permission('agents:read');
  if not exists (select from public.agents a where a.id = list_agent_revisions.agent_id) then
    perform private.raise_agent_not_found(list_agent_revisions.agent_id);
  end if;
  if row_limit is null or row_limit not between 1 and 50 then
    perform private.raise_error('VALIDATION_ERROR', 'Invalid request parameters', '{"limit": "limit must be from 1 to 50"}', 400);
  end if;
  select coalesce(jsonb_agg(to_jsonb(p) || jsonb_build_object('running', p.revision = running) order by p.revision desc), '[]') into page
  from (
    select * from public.agent_revisions r
    where r.agent_id = list_agent_revisions.agent_id and (before is null or r.revision < before)
    order by r.revision desc limit row_limit + 1
  ) p;
  return jsonb_build_object('revisions', page - row_limit, 'running', nullif(running, 0), 'limit', row_limit,
    'has_more', jsonb_array_length(page) > row_limit);
end;
$$;
comment on function public.list_agent_revisions is
  'Revisions of an agent, newest first, those before a number when one is given → {revisions: [row of agent_revisions with running], running: number of the one that runs | null, limit, has_more}. row_limit 1–50. Errors: PERMISSION_DENIED 403, AGENT_NOT_FOUND 404, VALIDATION_ERROR 400.';

-- Grants and policies --------------------------------------------------------------------------------------------

grant execute on function private.rollback_agent, private.template_faults to authenticated, service_role;
grant execute on function public.rollback_agent, public.list_agent_revisions to authenticated, service_role;
grant select, insert, update, delete on public.agent_revisions to service_role;
grant select on public.agent_revisions to authenticated;

alter table public.agent_revisions enable row level security;
create policy "Owners can read the revisions of their agents" on public.agent_revisions
  for select to authenticated
  using (user_id >= (select private.owner_bound('agents:read', 'lowest')) and user_id <= (select private.owner_bound('agents:read', 'highest')));
