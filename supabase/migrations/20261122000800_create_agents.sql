-- Agents: what an agent is (seeds 000–004). Where it runs is in `deployments`.
--
-- Adds: models, stack_templates, agents with their validation, limits and Vault-kept environment.
-- Mind: clients write agents directly through PostgREST (seed 003); the triggers here hold for them exactly as for the
-- RPCs and /api. Values of environment variables are never in this table, only their names.

create table public.models (
  framework text not null,
  id text not null,
  is_default boolean not null default false,
  created_at timestamptz not null default now(),
  primary key (framework, id),
  constraint framework_is_known check (framework in ('openai', 'anthropic', 'google'))
);
comment on table public.models is 'Models an agent may use, per framework; administrators add to it.';
create unique index models_one_default_idx on public.models (framework) where is_default;
insert into public.models (framework, id, is_default) values
  ('openai', 'gpt-4o', true), ('openai', 'gpt-4o-mini', false), ('openai', 'gpt-4-turbo', false), ('openai', 'gpt-4', false),
  ('openai', 'gpt-4.1', false), ('openai', 'gpt-4.1-mini', false), ('openai', 'o3', false), ('openai', 'o4-mini', false),
  ('openai', 'gpt-5', false), ('openai', 'gpt-5-mini', false), ('openai', 'gpt-3.5-turbo', false),
  ('anthropic', 'claude-sonnet-4-20250514', true), ('anthropic', 'claude-opus-4-20250514', false),
  ('anthropic', 'claude-sonnet-4-5-20250929', false), ('anthropic', 'claude-haiku-4-5-20251001', false),
  ('anthropic', 'claude-3-7-sonnet-20250219', false), ('anthropic', 'claude-3-5-haiku-20241022', false),
  ('google', 'gemini-2.5-pro', true), ('google', 'gemini-2.5-flash', false), ('google', 'gemini-2.0-flash', false),
  ('google', 'gemini-1.5-pro', false);

create table public.stack_templates (
  id uuid primary key default gen_random_uuid(),
  name text not null,
  version integer not null default 1,
  image text not null,
  command text[],
  port integer,
  health_path text,
  labels jsonb not null default '{}',
  created_at timestamptz not null default now(),
  constraint name_and_version_are_unique unique (name, version),
  constraint name_is_slug check (name ~ '^[a-z0-9][a-z0-9_-]{0,62}$'),
  constraint port_is_port check (port between 1 and 65535),
  constraint labels_is_object check (jsonb_typeof(labels) = 'object')
);
comment on table public.stack_templates is 'What a stack is made of: image, command, port and health endpoint. The highest version of a name is used.';
insert into public.stack_templates (name, image, port, health_path) values
  ('eliza-agent-template', 'elizaos/eliza:latest', 3000, '/health');

create table public.agents (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null default auth.uid() references auth.users (id) on delete cascade,
  name text not null,
  description text,
  role text,
  avatar text,
  framework text not null default 'openai',
  model text,
  system_prompt text,
  settings jsonb not null default '{}',
  status text not null default 'idle',
  character jsonb not null default '{}',
  plugins text[] not null default '{}',
  platforms text[] not null default '{}',
  resources jsonb not null default '{"memory": "512Mi", "cpu": "250m"}',
  replicas integer not null default 1,
  scaling jsonb,
  environment_keys text[] not null default '{}',
  portainer jsonb not null default '{}',
  supabase_config jsonb not null default '{}',
  enabled_tools text[] not null default '{}',
  cluster_id uuid references public.clusters (id) on delete set null,
  generation bigint not null default 1,
  last_activity_at timestamptz,
  deleted_at timestamptz,
  purge_after timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint status_is_known check (status in (
    'idle', 'thinking', 'responding', 'error', 'offline', 'updated',
    'queued', 'deploying', 'deployed', 'scaling', 'updating', 'restarting', 'stopping', 'stopped', 'failed', 'deleting'
  )),
  constraint purged_only_when_deleted check (purge_after is null or deleted_at is not null)
);
comment on table public.agents is
  'AI agents. Clients list, read, create, change and delete their own (seed 003); deploying and scaling go through create_agent, scale_agent … or /api.';
comment on column public.agents.status is
  'Headline. Clients set what an agent is doing: idle, thinking, responding, error, offline, updated. The system sets queued, deploying, deployed, scaling, updating, restarting, stopping, stopped, failed, deleting.';
comment on column public.agents.framework is 'AI provider: openai, anthropic or google.';
comment on column public.agents.settings is 'Model settings: temperature 0–2, max_tokens, presence_penalty and frequency_penalty −2–2, top_p 0–1, stop.';
comment on column public.agents.resources is 'Per replica, as Kubernetes quantities: {"memory": "512Mi", "cpu": "250m"}.';
comment on column public.agents.replicas is 'Replicas wanted; deployments.replicas_ready says how many there are.';
comment on column public.agents.scaling is 'Autoscaling: {minReplicas, maxReplicas, targetCPU, targetMemory}, targets in percent of the containers'' limits; null: none. What is left out: 1, settings agents.max_replicas, no target.';
comment on column public.agents.environment_keys is 'Names of the environment variables; their values are in Vault.';
comment on column public.agents.portainer is '{template, stack_name, deployment_strategy: rolling | recreate | blue-green, health_checks {enabled, interval, timeout: 1s to 1h, retries: 1 to 100}}.';
comment on column public.agents.supabase_config is
  '{project_ref, real_time: {enabled, channels: [name]}, storage}. Each channel is the private topic agent:{id}:{name}.';
comment on column public.agents.generation is 'Counts changes of what is deployed; deployments.observed_generation says which one runs.';
comment on column public.agents.deleted_at is 'When it was deleted over /api; its personal data is gone, the row follows at purge_after.';

create index agents_user_id_created_at_idx on public.agents (user_id, created_at desc, id desc);
-- For those who list all users' agents. On an expression, because on the bare column the planner would take it for a
-- user's `order by created_at desc limit 20` too, and walk through the agents of all others (measured with a million:
-- 36 ms instead of 0.4).
create index agents_age_idx on public.agents ((created_at at time zone 'UTC') desc, id desc) where deleted_at is null;
create index agents_cluster_id_idx on public.agents (cluster_id);
create index agents_purge_after_idx on public.agents (purge_after) where purge_after is not null;

create table private.agent_environments (
  agent_id uuid primary key references public.agents (id) on delete cascade,
  secret_id uuid not null
);
comment on table private.agent_environments is 'Vault secret that holds the environment of an agent, as a JSON object; without a row it is empty.';
comment on column private.agent_environments.secret_id is 'A secret is never changed, for revisions refer to it too: another environment is another secret.';
create index agent_environments_secret_id_idx on private.agent_environments (secret_id);

-- Validation -----------------------------------------------------------------------------------------------------

create function private.is_quantity(value text, kind text) returns boolean
language sql immutable
set search_path = ''
as $$
  select case kind
    when 'memory' then value ~ '^[0-9]{1,16}(\.[0-9]{1,3})?(Ki|Mi|Gi|Ti|k|M|G|T)?$'
    when 'cpu' then value ~ '^([0-9]{1,6}m|[0-9]{1,3}(\.[0-9]{1,3})?)$'
  end and value ~ '^[0.]*[1-9]';
$$;
comment on function private.is_quantity is 'Whether a text is a Kubernetes quantity above zero, of memory (512Mi, 1Gi) or cpu (250m, 1.5).';

create function private.memory_bytes(quantity text) returns numeric
language sql immutable
set search_path = ''
as $$
  select substring(quantity from '^[0-9.]+')::numeric * case substring(quantity from '[A-Za-z]+$')
    when 'Ki' then 1024 when 'Mi' then 1024 ^ 2 when 'Gi' then 1024 ^ 3 when 'Ti' then 1024 ^ 4
    when 'k' then 1e3 when 'M' then 1e6 when 'G' then 1e9 when 'T' then 1e12
    else 1
  end;
$$;
comment on function private.memory_bytes is 'Bytes of a quantity of memory that private.is_quantity accepts.';

create function private.number_fault(settings jsonb, key text, lowest numeric, highest numeric) returns jsonb
language sql immutable
set search_path = ''
as $$
  select case
    when settings -> key is null or settings -> key = 'null' then '{}'
    when jsonb_typeof(settings -> key) <> 'number' or (settings ->> key)::numeric not between lowest and highest
      then jsonb_build_object('settings.' || key, format('%s must be a number from %s to %s', key, lowest, highest))
    else '{}'
  end::jsonb;
$$;
comment on function private.number_fault is 'Fault {field: message} of a number in settings that is out of its bounds, or {}.';

create function private.duration_seconds(duration text) returns integer
language sql immutable
set search_path = ''
as $$
  select case when duration ~ '^[0-9]{1,5}[smh]$'
    then left(duration, -1)::int * case right(duration, 1) when 's' then 1 when 'm' then 60 else 3600 end end;
$$;
comment on function private.duration_seconds is 'Seconds of a duration such as 30s, 1m or 1h; null for any other text.';

create function private.rollout_faults(portainer jsonb) returns jsonb
language plpgsql immutable
set search_path = ''
as $$
declare
  checks constant jsonb := portainer -> 'health_checks';
  faults jsonb := '{}';
  part text;
begin
  if portainer -> 'deployment_strategy' not in ('"rolling"', '"recreate"', '"blue-green"', 'null') then
    faults := '{"portainer.deployment_strategy": "Deployment strategy must be one of: rolling, recreate, blue-green"}';
  end if;
  if coalesce(jsonb_typeof(checks), 'null') = 'null' then
    return faults;
  elsif jsonb_typeof(checks) <> 'object' then
    return faults || '{"portainer.health_checks": "Health checks must be an object"}';
  end if;
  select k into part from jsonb_object_keys(checks) k where k not in ('enabled', 'interval', 'timeout', 'retries') limit 1;
  if part is not null then
    faults := faults || jsonb_build_object('portainer.health_checks.' || left(part, 50), 'Health checks have enabled, interval, timeout and retries');
  end if;
  if coalesce(jsonb_typeof(checks -> 'enabled'), 'null') not in ('boolean', 'null') then
    faults := faults || '{"portainer.health_checks.enabled": "enabled must be true or false"}';
  end if;
  foreach part in array array['interval', 'timeout'] loop
    if coalesce(jsonb_typeof(checks -> part), 'null') <> 'null'
      and coalesce(private.duration_seconds(checks ->> part), 0) not between 1 and 3600
    then
      faults := faults || jsonb_build_object('portainer.health_checks.' || part, format('%s must be from 1s to 1h, such as 30s', part));
    end if;
  end loop;
  if not faults ?| array['portainer.health_checks.interval', 'portainer.health_checks.timeout']
    and private.duration_seconds(checks ->> 'timeout') > coalesce(private.duration_seconds(checks ->> 'interval'), 30)
  then
    faults := faults || jsonb_build_object('portainer.health_checks.timeout',
      format('timeout must not be longer than the interval, %s', coalesce(checks ->> 'interval', '30s')));
  end if;
  if coalesce(jsonb_typeof(checks -> 'retries'), 'null') <> 'null' and (checks ->> 'retries') !~ '^([1-9][0-9]?|100)$' then
    faults := faults || '{"portainer.health_checks.retries": "retries must be a whole number from 1 to 100"}';
  end if;
  return faults;
end;
$$;
comment on function private.rollout_faults is
  'What is wrong with deployment_strategy and health_checks of agents.portainer → {field: message}. Without a word the interval is 30s.';

create function private.agent_faults(agent public.agents) returns jsonb
language plpgsql stable security definer
set search_path = ''
as $$
declare
  faults jsonb := '{}';
  item text;
  lowest numeric;
  highest numeric;
begin
  if agent.name is null or trim(agent.name) = '' then
    faults := faults || '{"name": "Name is required"}';
  elsif char_length(agent.name) > 100 then
    faults := faults || '{"name": "Name must be 1 to 100 characters"}';
  end if;
  if agent.framework is null or agent.framework not in ('openai', 'anthropic', 'google') then
    faults := faults || '{"framework": "Framework must be one of: openai, anthropic, google"}';
  elsif agent.model is not null
    and not exists (select from public.models m where m.framework = agent.framework and m.id = agent.model)
  then
    faults := faults || jsonb_build_object('model', format('Model %s is not available for %s', left(agent.model, 100), agent.framework));
  end if;
  if char_length(agent.description) > 5000 then
    faults := faults || '{"description": "Description must be at most 5000 characters"}';
  end if;
  if char_length(agent.role) > 200 then
    faults := faults || '{"role": "Role must be at most 200 characters"}';
  end if;
  if char_length(agent.avatar) > 2048 then
    faults := faults || '{"avatar": "Avatar must be a URL of at most 2048 characters"}';
  end if;
  if char_length(agent.system_prompt) > 100000 then
    faults := faults || '{"system_prompt": "System prompt must be at most 100000 characters"}';
  end if;

  if jsonb_typeof(agent.settings) is distinct from 'object' then
    faults := faults || '{"settings": "Settings must be an object"}';
  else
    faults := faults
      || private.number_fault(agent.settings, 'temperature', 0, 2)
      || private.number_fault(agent.settings, 'max_tokens', 1, 10000000)
      || private.number_fault(agent.settings, 'presence_penalty', -2, 2)
      || private.number_fault(agent.settings, 'frequency_penalty', -2, 2)
      || private.number_fault(agent.settings, 'top_p', 0, 1);
    if coalesce(jsonb_typeof(agent.settings -> 'stop'), 'null') not in ('null', 'array') then
      faults := faults || '{"settings.stop": "stop must be a list of strings"}';
    end if;
  end if;

  if jsonb_typeof(agent.character) is distinct from 'object' then
    faults := faults || '{"character": "Character must be an object"}';
  elsif pg_column_size(agent.character) > 262144 then
    faults := faults || '{"character": "Character must be at most 256 KiB"}';
  end if;
  foreach item in array array['settings', 'resources', 'scaling', 'portainer', 'supabase_config'] loop
    if jsonb_typeof(to_jsonb(agent) -> item) is distinct from 'object' then
      if item in ('portainer', 'supabase_config') then
        faults := faults || jsonb_build_object(item, format('%s must be an object', item));
      end if;
    elsif pg_column_size(to_jsonb(agent) -> item) > 65536 then
      faults := faults || jsonb_build_object(item, format('%s must be at most 64 KiB', item));
    end if;
  end loop;
  if not faults ? 'portainer' then
    faults := faults || private.rollout_faults(agent.portainer);
  end if;
  if coalesce(jsonb_typeof(agent.supabase_config -> 'reporting'), 'null') not in ('null', 'boolean') then
    faults := faults || '{"supabase_config.reporting": "Reporting must be true or false"}';
  end if;
  if agent.supabase_config ? 'database_url' then
    faults := faults || '{"supabase_config.database_url": "This holds a password: give it as the environment variable SUPABASE_DATABASE_URL"}';
  end if;
  faults := faults || private.real_time_faults(agent.supabase_config) || private.storage_faults(agent.supabase_config);
  if coalesce(array_length(agent.plugins, 1), 0) > 100
    or exists (select from unnest(agent.plugins) p where p is null or p !~ '^(@[a-z0-9~._-]+/)?[A-Za-z0-9~._-]{1,200}(@[A-Za-z0-9.^~*_-]+)?$')
  then
    faults := faults || '{"plugins": "Plugins must be at most 100 package names"}';
  end if;
  if coalesce(array_length(agent.enabled_tools, 1), 0) > 200
    or exists (select from unnest(agent.enabled_tools) t where t is null or char_length(t) not between 1 and 200)
  then
    faults := faults || '{"enabled_tools": "Enabled tools must be at most 200 names of at most 200 characters"}';
  end if;
  if coalesce(array_length(agent.platforms, 1), 0) > 20
    or exists (select from unnest(agent.platforms) p where p is null or p !~ '^[a-z0-9][a-z0-9_-]{0,49}$')
  then
    faults := faults || '{"platforms": "Platforms must be at most 20 names such as discord, telegram, twitter"}';
  end if;

  if jsonb_typeof(agent.resources) is distinct from 'object' then
    faults := faults || '{"resources": "Resources must be an object"}';
  else
    if agent.resources ? 'memory' and not coalesce(private.is_quantity(agent.resources ->> 'memory', 'memory'), false) then
      faults := faults || '{"resources.memory": "Memory must be a quantity such as 512Mi or 1Gi"}';
    -- No engine starts a container with less, so 512 for 512Mi would fail long after it was asked for.
    elsif private.memory_bytes(agent.resources ->> 'memory') < 6 * 1024 * 1024 then
      faults := faults || '{"resources.memory": "Memory must be at least 6Mi; a number without a unit is bytes"}';
    end if;
    if agent.resources ? 'cpu' and not coalesce(private.is_quantity(agent.resources ->> 'cpu', 'cpu'), false) then
      faults := faults || '{"resources.cpu": "CPU must be a quantity such as 250m or 1.5"}';
    end if;
  end if;
  if agent.replicas is null or agent.replicas not between 1 and (private.setting('agents', 'max_replicas'))::int then
    faults := faults || jsonb_build_object('replicas', format('Replicas must be from 1 to %s', private.setting('agents', 'max_replicas')));
  end if;

  if agent.scaling is not null then
    if jsonb_typeof(agent.scaling) <> 'object' then
      faults := faults || '{"scaling": "Scaling must be an object"}';
    else
      foreach item in array array['minReplicas', 'maxReplicas', 'targetCPU', 'targetMemory'] loop
        if coalesce(jsonb_typeof(agent.scaling -> item), 'null') not in ('null', 'number')
          or (agent.scaling ->> item)::numeric not between 1
            and (case when item like 'target%' then 100 else (private.setting('agents', 'max_replicas'))::int end)
          or (agent.scaling ->> item)::numeric % 1 <> 0
        then
          faults := faults || jsonb_build_object('scaling.' || item, format('%s must be a whole number from 1 to %s', item,
            case when item like 'target%' then '100' else private.setting('agents', 'max_replicas')::text end));
        end if;
      end loop;
      if not faults ?| array['scaling.minReplicas', 'scaling.maxReplicas'] then
        lowest := (agent.scaling ->> 'minReplicas')::numeric;
        highest := (agent.scaling ->> 'maxReplicas')::numeric;
        if lowest > highest then
          faults := faults || '{"scaling.maxReplicas": "maxReplicas must not be below minReplicas"}';
        end if;
      end if;
    end if;
  end if;
  return faults;
end;
$$;
comment on function private.agent_faults is
  'All that is wrong with an agent → {field: message}, {} when nothing is. Definer: reads settings and models.';

create function private.refuse_faults(faults jsonb) returns void
language plpgsql stable
set search_path = ''
as $$
declare
  fields constant text[] := array(select jsonb_object_keys(faults));
begin
  if fields = array['framework'] then
    perform private.raise_error('INVALID_FRAMEWORK', faults ->> 'framework', faults, 400);
  elsif fields = array['model'] then
    perform private.raise_error('INVALID_MODEL', faults ->> 'model', faults, 400, 'The table models lists what is available.');
  elsif cardinality(fields) > 0 then
    perform private.raise_error('VALIDATION_ERROR', 'Invalid request body', faults, 400);
  end if;
end;
$$;
comment on function private.refuse_faults is
  'Raises what agent_faults found: INVALID_FRAMEWORK or INVALID_MODEL when that is all (seed 003), else VALIDATION_ERROR naming every field; 400.';

create function private.raise_agent_not_found(agent_id uuid) returns void
language plpgsql stable
set search_path = ''
as $$
begin
  perform private.raise_error('AGENT_NOT_FOUND', format('Agent with ID ''%s'' not found or access denied', agent_id),
    jsonb_build_object('agent_id', agent_id), 404);
end;
$$;
comment on function private.raise_agent_not_found is
  'Raises AGENT_NOT_FOUND (404), the same for an agent that does not exist and for another user''s.';

create function private.check_agent_limit(owner uuid) returns void
language plpgsql volatile security definer
set search_path = ''
as $$
begin
  -- Without the lock two requests at once would both count the same rows.
  perform pg_advisory_xact_lock(hashtextextended('agents:' || owner::text, 0));
  if (select count(*) from public.agents a where a.user_id = owner and a.deleted_at is null)
    >= (private.setting('agents', 'max_per_user'))::int
  then
    perform private.raise_error('AGENT_LIMIT_REACHED', 'The largest number of agents is reached.',
      jsonb_build_object('limit', private.setting('agents', 'max_per_user')), 403, 'Delete an agent that is not used any more.');
  end if;
end;
$$;
comment on function private.check_agent_limit is 'Raises AGENT_LIMIT_REACHED (403) when a user owns as many agents as allowed. Definer: reads settings.';

create function private.is_scaled_by_us(agent_id uuid) returns boolean
language plpgsql stable security definer
set search_path = ''
as $$
begin
  return exists (
    select from public.deployments d
    where d.agent_id = is_scaled_by_us.agent_id and d.orchestrator in ('portainer-compose', 'portainer-swarm')
  );
end;
$$;
comment on function private.is_scaled_by_us is
  'Whether an agent''s scaling policy stays with us, because its orchestrator has no autoscaler. Definer: called for whoever writes the agent.';

create function private.prepare_agent() returns trigger
language plpgsql volatile
set search_path = ''
as $$
declare
  by_client constant boolean := current_user in ('authenticated', 'anon');
  deployable_changed boolean;
  policy_changed boolean;
begin
  if tg_op = 'INSERT' then
    new.framework := coalesce(new.framework, 'openai');
    new.model := coalesce(new.model, (select m.id from public.models m where m.framework = new.framework and m.is_default));
  else
    new.updated_at := now();
    if by_client and old.status = 'deleting' then
      perform private.raise_error('INVALID_STATE', 'The agent is being deleted.', jsonb_build_object('status', old.status), 409);
    end if;
    if new.framework is distinct from old.framework and new.model is not distinct from old.model then
      new.model := (select m.id from public.models m where m.framework = new.framework and m.is_default);
    end if;
  end if;

  -- `replicas` inside resources is how the API references write it.
  if jsonb_typeof(new.resources) = 'object' and new.resources ? 'replicas' then
    if jsonb_typeof(new.resources -> 'replicas') = 'number' then
      new.replicas := (new.resources ->> 'replicas')::numeric::int;
    end if;
    new.resources := new.resources - 'replicas';
  end if;

  if by_client and (tg_op = 'INSERT' or new.status is distinct from old.status)
    and new.status not in ('idle', 'thinking', 'responding', 'error', 'offline', 'updated')
  then
    perform private.raise_error('VALIDATION_ERROR', 'The system sets this status.',
      jsonb_build_object('status', 'Status must be one of: idle, thinking, responding, error, offline, updated'), 400,
      'Use scale_agent, restart_agent, stop_agent, start_agent or delete_agent to change where an agent runs.');
  end if;

  if tg_op = 'INSERT' then
    perform private.refuse_faults(private.agent_faults(new) || private.template_faults(new));
    -- For somebody else the policy refuses it; nothing is told of how many they have.
    if by_client and new.user_id = (select auth.uid()) then
      perform private.check_agent_limit(new.user_id);
    end if;
    return new;
  end if;
  -- What an autoscaler set runs already.
  if current_setting('launchpad.replicas_run', true) = 'true' then
    return new;
  end if;
  deployable_changed := (new.name, new.framework, new.model, new.system_prompt, new.settings, new.character, new.plugins,
      new.platforms, new.resources, new.replicas, new.environment_keys, new.portainer, new.supabase_config,
      new.enabled_tools)
    is distinct from (old.name, old.framework, old.model, old.system_prompt, old.settings, old.character, old.plugins,
      old.platforms, old.resources, old.replicas, old.environment_keys, old.portainer, old.supabase_config,
      old.enabled_tools);
  policy_changed := new.scaling is distinct from old.scaling;
  -- A mere change of status, the most frequent one, has nothing to check.
  if deployable_changed or policy_changed or (new.description, new.role, new.avatar) is distinct from (old.description, old.role, old.avatar) then
    perform private.refuse_faults(private.agent_faults(new)
      -- What runs from a template may go on to when that was removed.
      || case when new.portainer -> 'template' is distinct from old.portainer -> 'template' then private.template_faults(new) else '{}' end);
  end if;
  if deployable_changed or policy_changed and not private.is_scaled_by_us(new.id) then
    new.generation := greatest(new.generation, old.generation + 1);
  end if;
  return new;
end;
$$;
comment on function private.prepare_agent is
  'Fills defaults, checks every field, keeps system statuses to the system and counts generations. Errors: VALIDATION_ERROR, INVALID_FRAMEWORK, INVALID_MODEL 400; AGENT_LIMIT_REACHED 403; INVALID_STATE 409.';

create trigger agents_prepare before insert or update on public.agents
  for each row execute function private.prepare_agent();

-- Environment ----------------------------------------------------------------------------------------------------

create function private.merge_environment(before jsonb, changes jsonb) returns jsonb
language plpgsql stable
set search_path = ''
as $$
declare
  after jsonb;
  faults jsonb := '{}';
  pair record;
begin
  if jsonb_typeof(changes) <> 'object' then
    perform private.raise_error('VALIDATION_ERROR', 'Invalid request body', '{"environment": "Environment must be an object of names and values"}', 400);
  end if;
  for pair in select * from jsonb_each(changes) loop
    if pair.key !~ '^[A-Za-z_][A-Za-z0-9_]{0,127}$' then
      faults := faults || jsonb_build_object('environment.' || left(pair.key, 50), 'Names are letters, digits and _, and do not begin with a digit');
    elsif jsonb_typeof(pair.value) not in ('string', 'number', 'boolean', 'null') then
      faults := faults || jsonb_build_object('environment.' || pair.key, 'Values must be text, a number or true or false');
    elsif octet_length(pair.value #>> '{}') > 32768 then
      faults := faults || jsonb_build_object('environment.' || pair.key, 'Values must be at most 32 KiB');
    end if;
  end loop;
  perform private.refuse_faults(faults);

  select coalesce(jsonb_object_agg(m.key, m.value #>> '{}'), '{}') into after
  from jsonb_each(before || changes) m where m.value <> 'null';
  if (select count(*) from jsonb_object_keys(after)) > 200 or octet_length(after::text) > 262144 then
    perform private.raise_error('VALIDATION_ERROR', 'Invalid request body', '{"environment": "At most 200 variables and 256 KiB in all"}', 400);
  end if;
  return after;
end;
$$;
comment on function private.merge_environment is
  'An environment with changes {NAME: value | null} in it, all values as text. VALIDATION_ERROR 400 names every bad field, never a value.';

create function private.store_environment(agent_id uuid, changes jsonb) returns text[]
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  before constant jsonb := coalesce((
    select s.decrypted_secret::jsonb from private.agent_environments e join vault.decrypted_secrets s on s.id = e.secret_id
    where e.agent_id = store_environment.agent_id), '{}');
  after constant jsonb := private.merge_environment(before, changes);
  changed bigint;
begin
  -- A changed value under an old name is a change of what is deployed, though no column shows it.
  update public.agents a
  set environment_keys = array(select k from jsonb_object_keys(after) k order by k),
      generation = a.generation + case when after is distinct from before then 1 else 0 end
  where a.id = store_environment.agent_id
  returning a.generation into changed;
  if after = '{}' then
    delete from private.agent_environments e where e.agent_id = store_environment.agent_id;
  elsif after is distinct from before then
    insert into private.agent_environments (agent_id, secret_id) values (store_environment.agent_id,
      vault.create_secret(after::text, format('agent-environment:%s:%s', agent_id, changed), 'Environment of an agent'))
    on conflict on constraint agent_environments_pkey do update set secret_id = excluded.secret_id;
  end if;
  return array(select k from jsonb_object_keys(after) k order by k);
end;
$$;
comment on function private.store_environment is
  'Merges changes {NAME: value | null} into the environment of an agent in Vault → the names it has now. Definer: Vault is closed to clients; callers check the right first.';

create trigger agent_environments_forget after delete or update of secret_id on private.agent_environments
  for each row execute function private.forget_secret();

-- Grants and policies --------------------------------------------------------------------------------------------

grant execute on function private.agent_faults, private.is_scaled_by_us, private.rollout_faults, private.duration_seconds, private.refuse_faults,
  private.raise_agent_not_found, private.check_agent_limit, private.number_fault,
  private.is_quantity, private.memory_bytes
  to authenticated, service_role;
grant select, insert, update, delete on public.models, public.stack_templates, public.agents to service_role;
grant select on public.models, public.stack_templates to authenticated;
grant select, delete on public.agents to authenticated;
-- No id: whoever took that of a deleted agent would be sent what Realtime still keeps on its topics.
grant insert (user_id, name, description, role, avatar, framework, model, system_prompt, settings, status, character, plugins,
  platforms, resources, replicas, scaling, portainer, supabase_config, enabled_tools) on public.agents to authenticated;
grant update (name, description, role, avatar, framework, model, system_prompt, settings, status, character, plugins,
  platforms, resources, replicas, scaling, portainer, supabase_config, enabled_tools, updated_at) on public.agents to authenticated;

alter table public.models enable row level security;
alter table public.stack_templates enable row level security;
alter table public.agents enable row level security;

create policy "Everybody signed in reads models" on public.models for select to authenticated using (true);
create policy "Everybody signed in reads stack templates" on public.stack_templates for select to authenticated using (true);

create policy "Owners can read their agents" on public.agents
  for select to authenticated
  using (
    user_id >= (select private.owner_bound('agents:read', 'lowest')) and user_id <= (select private.owner_bound('agents:read', 'highest'))
    and deleted_at is null
  );
create policy "Owners can create agents" on public.agents
  for insert to authenticated
  with check (user_id = (select auth.uid()) and (select private.has_permission('agents:write')));
create policy "Owners can change their agents" on public.agents
  for update to authenticated
  using (user_id >= (select private.owner_bound('agents:write', 'lowest')) and user_id <= (select private.owner_bound('agents:write', 'highest')))
  with check (user_id >= (select private.owner_bound('agents:write', 'lowest')) and user_id <= (select private.owner_bound('agents:write', 'highest')));
create policy "Owners can delete their agents" on public.agents
  for delete to authenticated
  using (user_id >= (select private.owner_bound('agents:write', 'lowest')) and user_id <= (select private.owner_bound('agents:write', 'highest')));

alter publication supabase_realtime add table public.agents;
