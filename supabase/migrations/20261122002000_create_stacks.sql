-- Stacks: several services under one name, deployed from a template (seed 000). Portainer knows one account; here each
-- stack has an owner.
--
-- Adds: definitions, parameters and owners of stack_templates; stacks with their environment in Vault and the last good
-- state beside it; the commands create_stack, update_stack and delete_stack; what the worker's functions do for a stack.
-- Mind: operations on a stack are rows of `operations` with stack_id instead of agent_id, and kinds of their own
-- (deploy_stack, update_stack, rollback_stack, delete_stack). Queue, leases, retries and steps are the same.

-- Templates ------------------------------------------------------------------------------------------------------

alter table public.stack_templates
  add column user_id uuid default auth.uid() references auth.users (id) on delete cascade,
  add column description text,
  add column definition jsonb,
  add column parameters jsonb not null default '[]',
  alter column image drop not null,
  alter column version drop default,
  drop constraint name_and_version_are_unique,
  add constraint name_and_version_are_unique unique nulls not distinct (user_id, name, version),
  add constraint version_counts check (version > 0),
  add constraint describes_something check (image is not null or definition is not null);
comment on table public.stack_templates is
  'What stacks are made of, by name and version; the highest version is used. Without an owner it is the installation''s. A version is never changed: add another.';
comment on column public.stack_templates.image is 'With command, port and health_path: what an agent with this template runs.';
comment on column public.stack_templates.definition is
  '{services: {name: {image, command, replicas, ports, environment, pass_environment, health {path, interval, timeout, retries}, resources {memory, cpu}, networks, volumes ["name:/path"]}}, networks: {name: {encrypted}}, volumes: {name: {}}}. ${PARAMETER} stands in image, replicas and values of environment; null there takes the variable of the same name; pass_environment takes all.';
comment on column public.stack_templates.parameters is
  '[{name, type: string | integer | boolean, default, required, pattern, secret, description}]; secret ones stand in no image and no replicas.';

update public.stack_templates t set
  description = 'One ElizaOS agent, as many replicas as asked for.',
  definition = '{
    "services": {"eliza-agent": {
      "image": "elizaos/eliza:latest", "replicas": "${REPLICAS}", "ports": [3000], "health": {"path": "/health"},
      "environment": {"AGENT_NAME": null, "PORT": "3000"}, "pass_environment": true,
      "resources": {"memory": "512Mi", "cpu": "250m"},
      "networks": ["agent-network"], "volumes": ["agent-data:/app/data"]
    }},
    "networks": {"agent-network": {"encrypted": true}},
    "volumes": {"agent-data": {}}
  }',
  parameters = '[
    {"name": "AGENT_NAME", "type": "string", "required": true, "pattern": "[^\\n\\r]{1,100}", "description": "What the agent is called."},
    {"name": "REPLICAS", "type": "integer", "default": "1", "description": "How many of it run."}
  ]'
where t.name = 'eliza-agent-template' and t.version = 1;

create function private.parameter_faults(parameters jsonb) returns jsonb
language plpgsql immutable
set search_path = ''
as $$
declare
  faults jsonb := '{}';
  item jsonb;
  field text;
  seen text[] := '{}';
begin
  if jsonb_typeof(parameters) is distinct from 'array' or jsonb_array_length(parameters) > 100 or pg_column_size(parameters) > 65536 then
    return '{"parameters": "Parameters must be a list of at most 100, at most 64 KiB in all"}';
  end if;
  for item in select jsonb_array_elements(parameters) loop
    field := 'parameters.' || left(coalesce(item ->> 'name', '?'), 50);
    if jsonb_typeof(item) <> 'object' or coalesce(item ->> 'name', '') !~ '^[A-Za-z_][A-Za-z0-9_]{0,127}$' then
      faults := faults || jsonb_build_object(field, 'A parameter is named with letters, digits and _, and does not begin with a digit');
      continue;
    end if;
    if item ->> 'name' = any (seen) then
      faults := faults || jsonb_build_object(field, 'Each parameter is declared once');
    end if;
    seen := seen || (item ->> 'name');
    if coalesce(item ->> 'type', 'string') not in ('string', 'integer', 'boolean') then
      faults := faults || jsonb_build_object(field, 'Type must be one of: string, integer, boolean');
    end if;
    if exists (select from jsonb_object_keys(item) k where k not in ('name', 'type', 'default', 'required', 'pattern', 'secret', 'description'))
      or coalesce(jsonb_typeof(item -> 'default'), 'string') not in ('string', 'number', 'boolean')
      or coalesce(jsonb_typeof(item -> 'required'), 'boolean') <> 'boolean'
      or coalesce(jsonb_typeof(item -> 'secret'), 'boolean') <> 'boolean'
      or coalesce(jsonb_typeof(item -> 'pattern'), 'string') <> 'string'
      or char_length(item ->> 'pattern') > 200
    then
      faults := faults || jsonb_build_object(field, 'A parameter has name, type, default, required, pattern (at most 200 characters), secret and description');
      continue;
    end if;
    begin
      perform '' ~ (item ->> 'pattern');
    exception when invalid_regular_expression then
      faults := faults || jsonb_build_object(field, 'Pattern must be a regular expression');
    end;
  end loop;
  return faults;
end;
$$;
comment on function private.parameter_faults is 'All that is wrong with the declared parameters of a template → {field: message}.';

create function private.label_faults(labels jsonb) returns jsonb
language sql immutable
set search_path = ''
as $$
  select case when jsonb_typeof(labels) is distinct from 'object'
    or (select count(*) from jsonb_object_keys(labels)) > 50
    or exists (select from jsonb_each(labels) l where l.key !~ '^[A-Za-z0-9][A-Za-z0-9._/-]{0,127}$'
      or l.key ~* '^(agent-launchpad|com\.docker|io\.portainer)\.' or jsonb_typeof(l.value) <> 'string' or char_length(l.value #>> '{}') > 1024)
  then '{"labels": "Labels must be at most 50 names with texts of at most 1024 characters; agent-launchpad., com.docker. and io.portainer. are reserved"}'
  else '{}' end::jsonb;
$$;
comment on function private.label_faults is
  'What is wrong with labels of containers → {labels: message} or {}. Those by which Docker, Portainer and the platform tell whose a container is are nobody''s to set.';

create function private.service_faults(name text, service jsonb, definition jsonb, parameters jsonb) returns jsonb
language plpgsql immutable
set search_path = ''
as $$
declare
  faults jsonb := '{}';
  field constant text := 'definition.services.' || left(name, 50);
  known constant text[] := array['image', 'command', 'replicas', 'ports', 'environment', 'pass_environment', 'health', 'resources', 'networks', 'volumes'];
  open_names constant text[] := array(select p ->> 'name' from jsonb_array_elements(parameters) p where not coalesce((p ->> 'secret')::boolean, false));
  fault text;
begin
  -- Two dashes in a row would let two services share a name in the stack's variables.
  if name !~ '^[a-z][a-z0-9]*(-[a-z0-9]+)*$' or char_length(name) > 40 then
    return jsonb_build_object(field, 'A service is named with lower-case letters, digits and single dashes, at most 40');
  elsif jsonb_typeof(service) <> 'object' then
    return jsonb_build_object(field, 'A service must be an object');
  end if;
  select format('%s is not known', k) into fault from jsonb_object_keys(service) k where k <> all (known) limit 1;
  if fault is not null then
    faults := faults || jsonb_build_object(field, fault);
  end if;
  if coalesce(service ->> 'image', '') !~ '^[^\s]{1,255}$' then
    faults := faults || jsonb_build_object(field || '.image', 'Image is required');
  end if;
  if coalesce(service ->> 'replicas', '1') !~ '^([0-9]{1,5}|\$\{[A-Za-z_][A-Za-z0-9_]*\})$' then
    faults := faults || jsonb_build_object(field || '.replicas', 'Replicas must be a number or ${PARAMETER}');
  end if;
  if exists (
    select from regexp_matches(concat_ws(' ', service ->> 'image', service ->> 'replicas'), '\$\{([^}]*)\}', 'g') m
    where m[1] <> all (open_names)
  ) then
    faults := faults || jsonb_build_object(field || '.image', 'Image and replicas name declared parameters only, and no secret ones');
  end if;
  if coalesce(jsonb_typeof(service -> 'command'), 'array') <> 'array'
    or exists (select from jsonb_array_elements(case when jsonb_typeof(service -> 'command') = 'array' then service -> 'command' else '[]' end) c
      where jsonb_typeof(c) <> 'string')
  then
    faults := faults || jsonb_build_object(field || '.command', 'Command must be a list of text');
  end if;
  if coalesce(jsonb_typeof(service -> 'ports'), 'array') <> 'array'
    or exists (select from jsonb_array_elements(case when jsonb_typeof(service -> 'ports') = 'array' then service -> 'ports' else '[]' end) p
      where p::text !~ '^[0-9]{1,5}$' or p::text::int not between 1 and 65535)
  then
    faults := faults || jsonb_build_object(field || '.ports', 'Ports must be a list of numbers from 1 to 65535');
  end if;
  if coalesce(jsonb_typeof(service -> 'environment'), 'object') <> 'object'
    or exists (select from jsonb_each(case when jsonb_typeof(service -> 'environment') = 'object' then service -> 'environment' else '{}' end) e
      where e.key !~ '^[A-Za-z_][A-Za-z0-9_]{0,127}$' or jsonb_typeof(e.value) not in ('string', 'null'))
    or coalesce(jsonb_typeof(service -> 'pass_environment'), 'boolean') <> 'boolean'
  then
    faults := faults || jsonb_build_object(field || '.environment', 'Environment must be an object of names and texts or null, pass_environment true or false');
  end if;
  if service ? 'health' and (jsonb_typeof(service -> 'health') <> 'object'
    or coalesce(service #>> '{health,path}', '') !~ '^/[^\s]{0,200}$'
    or exists (select from jsonb_each_text(case when jsonb_typeof(service -> 'health') = 'object' then service -> 'health' else '{}' end) h
      where h.key not in ('path', 'interval', 'timeout', 'retries') or (h.key <> 'path' and h.value !~ '^[1-9][0-9]{0,3}$')))
  then
    faults := faults || jsonb_build_object(field || '.health', 'Health is {path, interval, timeout, retries}, times in whole seconds');
  end if;
  if service ? 'resources' and (jsonb_typeof(service -> 'resources') <> 'object'
    or exists (select from jsonb_each_text(case when jsonb_typeof(service -> 'resources') = 'object' then service -> 'resources' else '{}' end) r
      where not coalesce(private.is_quantity(r.value, r.key), false)))
  then
    faults := faults || jsonb_build_object(field || '.resources', 'Resources are quantities: {memory: 512Mi, cpu: 250m}');
  end if;
  if coalesce(jsonb_typeof(service -> 'networks'), 'array') <> 'array'
    or exists (select from jsonb_array_elements(case when jsonb_typeof(service -> 'networks') = 'array' then service -> 'networks' else '[]' end) n
      where not coalesce(definition -> 'networks', '{}') ? (n #>> '{}'))
  then
    faults := faults || jsonb_build_object(field || '.networks', 'Networks must be a list of networks that the definition has');
  end if;
  -- Named volumes only: a path of the host would be somebody else's files.
  if coalesce(jsonb_typeof(service -> 'volumes'), 'array') <> 'array'
    or exists (select from jsonb_array_elements(case when jsonb_typeof(service -> 'volumes') = 'array' then service -> 'volumes' else '[]' end) v
      where (v #>> '{}') !~ '^[a-z][a-z0-9-]{0,40}:/[^:\s]{1,200}$'
        or not coalesce(definition -> 'volumes', '{}') ? split_part(v #>> '{}', ':', 1))
  then
    faults := faults || jsonb_build_object(field || '.volumes', 'Volumes must be a list such as data:/app/data, of volumes that the definition has');
  end if;
  return faults;
end;
$$;
comment on function private.service_faults is 'All that is wrong with one service of a definition → {field: message}.';

create function private.definition_faults(definition jsonb, parameters jsonb) returns jsonb
language plpgsql immutable
set search_path = ''
as $$
declare
  faults jsonb := private.parameter_faults(parameters);
  part record;
begin
  if faults <> '{}' then
    return faults;
  elsif jsonb_typeof(definition) is distinct from 'object' or jsonb_typeof(definition -> 'services') is distinct from 'object'
    or definition -> 'services' = '{}' or (select count(*) from jsonb_object_keys(definition -> 'services')) > 20
    or coalesce(jsonb_typeof(definition -> 'networks'), 'object') <> 'object'
    or coalesce(jsonb_typeof(definition -> 'volumes'), 'object') <> 'object'
    or pg_column_size(definition) > 65536
    or exists (select from jsonb_object_keys(definition) k where k not in ('services', 'networks', 'volumes'))
  then
    return '{"definition": "A definition has services (1 to 20), networks and volumes, at most 64 KiB in all"}';
  end if;
  for part in select * from jsonb_each(coalesce(definition -> 'networks', '{}')) loop
    if part.key !~ '^[a-z][a-z0-9-]{0,40}$' or part.value not in ('{}', '{"encrypted": true}', '{"encrypted": false}') then
      faults := faults || jsonb_build_object('definition.networks.' || left(part.key, 50), 'A network is {encrypted: true or false}');
    end if;
  end loop;
  for part in select * from jsonb_each(coalesce(definition -> 'volumes', '{}')) loop
    if part.key !~ '^[a-z][a-z0-9-]{0,40}$' or part.value <> '{}' then
      faults := faults || jsonb_build_object('definition.volumes.' || left(part.key, 50), 'A volume is {}');
    end if;
  end loop;
  for part in select * from jsonb_each(definition -> 'services') loop
    faults := faults || private.service_faults(part.key, part.value, definition, parameters);
  end loop;
  return faults;
end;
$$;
comment on function private.definition_faults is
  'All that is wrong with the definition of a template → {field: message}. What is not listed is refused: nothing reaches the host.';

create function private.prepare_stack_template() returns trigger
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  most constant integer := (private.setting('stacks', 'max_templates_per_user'))::int;
  faults jsonb := private.label_faults(new.labels);
begin
  if char_length(new.description) > 5000 then
    faults := faults || '{"description": "Description must be at most 5000 characters"}';
  end if;
  if new.definition is not null then
    faults := faults || private.definition_faults(new.definition, new.parameters);
  elsif new.parameters <> '[]' then
    faults := faults || private.parameter_faults(new.parameters);
  end if;
  perform private.refuse_faults(faults);
  -- For somebody else the policy refuses it; nothing is told of how many they have.
  if new.user_id = (select auth.uid()) then
    -- Without the lock two requests at once would both count the same rows.
    perform pg_advisory_xact_lock(hashtextextended('stack_templates:' || new.user_id::text, 0));
    if (select count(*) from public.stack_templates t where t.user_id = new.user_id) >= most then
      perform private.raise_error('RESOURCE_LIMIT_EXCEEDED', 'This user has the largest number of templates.',
        jsonb_build_object('limit', most), 429, 'Remove versions that are not used any more.');
    end if;
  end if;
  if new.version is null then
    perform pg_advisory_xact_lock(hashtextextended(format('stack_template:%s:%s', new.user_id, new.name), 0));
    new.version := 1 + coalesce((
      select max(t.version) from public.stack_templates t where t.name = new.name and t.user_id is not distinct from new.user_id), 0);
  end if;
  return new;
end;
$$;
comment on function private.prepare_stack_template is
  'Checks a template and gives it the next version of its name when it says none. Errors: VALIDATION_ERROR 400 names every bad field, RESOURCE_LIMIT_EXCEEDED 429 beyond settings stacks.max_templates_per_user. Definer: versions are counted past the caller''s sight.';
create trigger stack_templates_prepare before insert on public.stack_templates
  for each row execute function private.prepare_stack_template();

grant insert (user_id, name, version, description, definition, parameters, labels), delete on public.stack_templates to authenticated;
drop policy "Everybody signed in reads stack templates" on public.stack_templates;
create policy "Everybody reads the installation's templates, owners theirs" on public.stack_templates
  for select to authenticated
  using (user_id is null
    or (user_id >= (select private.owner_bound('agents:read', 'lowest')) and user_id <= (select private.owner_bound('agents:read', 'highest'))));
create policy "Owners add templates, administrators the installation's" on public.stack_templates
  for insert to authenticated
  with check ((user_id = (select auth.uid()) and (select private.has_permission('agents:write')))
    or (user_id is null and (select private.has_permission('system:write'))));
create policy "Owners remove templates, administrators the installation's" on public.stack_templates
  for delete to authenticated
  using ((user_id >= (select private.owner_bound('agents:write', 'lowest')) and user_id <= (select private.owner_bound('agents:write', 'highest')))
    or (user_id is null and (select private.has_permission('system:write'))));

-- Stacks ---------------------------------------------------------------------------------------------------------

create table public.stacks (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null references auth.users (id) on delete cascade,
  name text not null,
  template_id uuid references public.stack_templates (id) on delete set null,
  template text not null,
  template_version integer not null,
  definition jsonb not null,
  parameters jsonb not null,
  labels jsonb not null default '{}',
  environment_keys text[] not null default '{}',
  replicas integer not null,
  cluster_id uuid references public.clusters (id) on delete set null,
  endpoint_id integer,
  orchestrator text,
  portainer_stack_id text,
  stack_name text not null,
  console_url text,
  state text not null default 'queued',
  generation bigint not null default 1,
  observed_generation bigint not null default 0,
  services jsonb not null default '[]',
  networks jsonb not null default '[]',
  volumes jsonb not null default '[]',
  error jsonb,
  deployed_at timestamptz,
  last_checked_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint state_is_known check (state in ('queued', 'deploying', 'running', 'updating', 'rolling_back', 'failed', 'deleting')),
  constraint name_is_slug check (name ~ '^[a-z0-9][a-z0-9_-]{0,62}$'),
  constraint replicas_are_counted check (replicas >= 0),
  constraint lists_are_lists check (jsonb_typeof(services) = 'array' and jsonb_typeof(networks) = 'array' and jsonb_typeof(volumes) = 'array')
);
comment on table public.stacks is 'Stacks of several services, deployed from a template (seed 000). Written by create_stack, update_stack and delete_stack only.';
comment on column public.stacks.definition is 'The template''s, as it was when it was taken.';
comment on column public.stacks.environment_keys is 'Names of the variables that were given; their values are in Vault.';
comment on column public.stacks.replicas is 'Replicas wanted of all services together.';
comment on column public.stacks.portainer_stack_id is 'Portainer''s own number of the stack.';
comment on column public.stacks.stack_name is 'What it is called in Portainer: the name, with a suffix when that is taken.';
comment on column public.stacks.services is '[{id, name, image, replicas: {running, desired}, ports: [{published, target, protocol}]}] as last seen.';
comment on column public.stacks.error is '{code, message, details} of the last failure; after a rollback it says why the update failed, with rolled_back: true.';

create unique index stacks_name_key on public.stacks (user_id, name);
create unique index stacks_stack_name_key on public.stacks (cluster_id, stack_name);
create index stacks_user_id_created_at_idx on public.stacks (user_id, created_at desc, id desc);
create index stacks_template_id_idx on public.stacks (template_id);

create table private.stack_environments (
  stack_id uuid primary key references public.stacks (id) on delete cascade,
  secret_id uuid not null
);
comment on table private.stack_environments is 'Vault secret that holds the environment of a stack, as a JSON object.';

create table private.stack_backups (
  stack_id uuid primary key references public.stacks (id) on delete cascade,
  generation bigint not null,
  template_id uuid,
  template text not null,
  template_version integer not null,
  definition jsonb not null,
  parameters jsonb not null,
  labels jsonb not null,
  environment_keys text[] not null,
  replicas integer not null,
  secret_id uuid not null
);
comment on table private.stack_backups is 'What each stack was when it last ran well, its environment in Vault; a failed update goes back to it.';

-- When each stack was last looked at. Apart from the row, so that looking is not a change that clients see.
create table private.stack_looks (
  stack_id uuid primary key references public.stacks (id) on delete cascade,
  claimed_at timestamptz not null default '-infinity',
  containers jsonb not null default '[]',
  metrics jsonb,
  measured_at timestamptz,
  constraint containers_is_list check (jsonb_typeof(containers) = 'array'),
  constraint metrics_is_object check (metrics is null or jsonb_typeof(metrics) = 'object')
);
comment on table private.stack_looks is
  'When a worker last took a stack to look at it, and what it found: the containers, and what they use together (as a row of agent_metrics).';

create function private.count_stack_containers() returns trigger
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  before constant jsonb := case when tg_op <> 'INSERT' then old.containers else '[]' end;
  after constant jsonb := case when tg_op <> 'DELETE' then new.containers else '[]' end;
begin
  insert into private.count_changes (name, change)
  select c.name, sum(c.change) from (
    select f.name, f.number as change from private.container_fates('running', after) f
    union all
    select f.name, -f.number from private.container_fates('running', before) f
  ) c group by 1 having sum(c.change) <> 0;
  return null;
end;
$$;
comment on function private.count_stack_containers is 'Trigger: keeps the counts of containers, those of stacks. Definer: the table is private.';
create trigger stack_looks_count_added after insert or delete on private.stack_looks
  for each row execute function private.count_stack_containers();
create trigger stack_looks_count_changed after update of containers on private.stack_looks
  for each row when (new.containers <> old.containers) execute function private.count_stack_containers();

insert into public.settings (category, key, value, description) values
  ('stacks', 'max_templates_per_user', '100', 'Versions of templates that one user may keep; one more is RESOURCE_LIMIT_EXCEEDED.'),
  ('collection', 'stack_seconds', '10', 'Seconds between two looks at the services of a stack.');

create trigger stacks_touch_updated_at before update on public.stacks
  for each row when (old.generation is distinct from new.generation or old.state is distinct from new.state)
  execute function private.touch_updated_at();
create trigger stack_environments_forget after delete on private.stack_environments
  for each row execute function private.forget_secret();
create trigger stack_backups_forget after delete on private.stack_backups
  for each row execute function private.forget_secret();

grant select, insert, update, delete on public.stacks to service_role;
grant select on public.stacks to authenticated;
alter table public.stacks enable row level security;
create policy "Owners can read their stacks" on public.stacks
  for select to authenticated
  using (user_id >= (select private.owner_bound('agents:read', 'lowest')) and user_id <= (select private.owner_bound('agents:read', 'highest')));

alter publication supabase_realtime add table public.stacks;
create trigger stacks_broadcast_change after insert or delete on public.stacks
  for each row execute function private.broadcast_change();
create trigger stacks_broadcast_update after update on public.stacks
  for each row when (old.state is distinct from new.state or old.services is distinct from new.services)
  execute function private.broadcast_change();

-- From template and environment to services ----------------------------------------------------------------------

create function private.parameter_values(parameters jsonb, environment jsonb) returns jsonb
language sql immutable
set search_path = ''
as $$
  select coalesce(jsonb_object_agg(p ->> 'name', p ->> 'default') filter (where p ? 'default'), '{}') || environment
  from jsonb_array_elements(parameters) p;
$$;
comment on function private.parameter_values is 'The environment with the defaults of what it leaves out.';

create function private.environment_faults(environment jsonb, definition jsonb, parameters jsonb) returns jsonb
language sql immutable
set search_path = ''
as $$
  select coalesce(jsonb_object_agg('environment.' || f.name, f.fault), '{}') from (
    select p ->> 'name' as name, case
      when v.value is null and coalesce((p ->> 'required')::boolean, false) then 'is required'
      when p ->> 'type' = 'integer' and v.value !~ '^-?[0-9]{1,9}$' then 'must be a whole number'
      when p ->> 'type' = 'boolean' and v.value not in ('true', 'false') then 'must be true or false'
      when p ? 'pattern' and v.value !~ ('^(?:' || (p ->> 'pattern') || ')$') then 'must match ' || (p ->> 'pattern')
    end as fault
    from jsonb_array_elements(parameters) p
    cross join lateral (select private.parameter_values(parameters, environment) ->> (p ->> 'name') as value) v
    union all
    select k, 'is no parameter of the template' from jsonb_object_keys(environment) k
    where not exists (select from jsonb_array_elements(parameters) p where p ->> 'name' = k)
      and not exists (select from jsonb_each(definition -> 'services') s where (s.value ->> 'pass_environment')::boolean)
  ) f where f.fault is not null;
$$;
comment on function private.environment_faults is
  'What an environment lacks or has wrong of the declared parameters → {environment.NAME: message}, never a value. Undeclared names are taken when a service passes the environment on.';

create function private.resolve_services(definition jsonb, parameters jsonb, environment jsonb) returns jsonb
language plpgsql immutable
set search_path = ''
as $$
declare
  given constant jsonb := private.parameter_values(parameters, environment);
  services jsonb := '{}';
  service record;
  parameter text;
  image text;
  replicas text;
begin
  for service in select * from jsonb_each(definition -> 'services') loop
    image := service.value ->> 'image';
    replicas := coalesce(service.value ->> 'replicas', '1');
    for parameter in select p ->> 'name' from jsonb_array_elements(parameters) p where not coalesce((p ->> 'secret')::boolean, false) loop
      image := replace(image, '${' || parameter || '}', coalesce(given ->> parameter, ''));
      replicas := replace(replicas, '${' || parameter || '}', coalesce(given ->> parameter, ''));
    end loop;
    services := services || jsonb_build_object(service.key, service.value || jsonb_build_object('image', image,
      'replicas', case when replicas ~ '^[0-9]{1,9}$' then replicas::int end));
  end loop;
  return services;
end;
$$;
comment on function private.resolve_services is
  'Services of a definition with image and replicas as they will be; replicas null where it came to no number. Values of variables are not in it.';

create function private.replicas_in_use(owner uuid, other_than_agent uuid, other_than_stack uuid) returns bigint
language sql stable security definer
set search_path = ''
as $$
  select coalesce((
    select sum(a.replicas) from public.agents a join public.deployments d on d.agent_id = a.id
    where a.user_id = owner and a.id is distinct from other_than_agent and a.deleted_at is null and d.state not in ('stopped', 'failed')
  ), 0) + coalesce((
    select sum(s.replicas) from public.stacks s
    where s.user_id = owner and s.id is distinct from other_than_stack and s.state not in ('failed', 'deleting')
  ), 0);
$$;
comment on function private.replicas_in_use is 'Replicas that a user''s other agents and stacks have. Definer: counts past the caller''s sight.';

create function private.check_services(owner uuid, stack_id uuid, services jsonb) returns integer
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  most constant integer := (private.setting('agents', 'max_replicas'))::int;
  quota constant integer := (private.setting('agents', 'max_replicas_per_user'))::int;
  faults jsonb := '{}';
  service record;
  total integer := 0;
  others bigint;
begin
  for service in select * from jsonb_each(services) loop
    if coalesce((service.value ->> 'replicas')::int, 0) not between 1 and most then
      faults := faults || jsonb_build_object('services.' || service.key || '.replicas', format('Replicas must be from 1 to %s', most));
    elsif service.value ->> 'image' !~ '^[a-zA-Z0-9][a-zA-Z0-9._:/@-]{0,254}$' then
      faults := faults || jsonb_build_object('services.' || service.key || '.image', 'Image must be a reference such as elizaos/eliza:latest');
    else
      total := total + (service.value ->> 'replicas')::int;
    end if;
  end loop;
  perform private.refuse_faults(faults);
  -- Agents are counted with the same quota.
  perform pg_advisory_xact_lock(hashtextextended('agents:' || owner::text, 0));
  others := private.replicas_in_use(owner, null, stack_id);
  if others + total > quota then
    perform private.raise_error('RESOURCE_LIMIT_EXCEEDED', 'The quota of replicas is used up.',
      jsonb_build_object('limit', quota, 'in_use', others, 'requested', total), 429, 'Scale down or remove another stack or agent.');
  end if;
  return total;
end;
$$;
comment on function private.check_services is
  'Replicas of all services together. Errors: VALIDATION_ERROR 400, RESOURCE_LIMIT_EXCEEDED 429 (settings agents.max_replicas, agents.max_replicas_per_user). Definer: reads settings and all of the owner''s stacks.';

create function private.names_changed(before jsonb, after jsonb) returns jsonb
language sql immutable
set search_path = ''
as $$
  select jsonb_build_object(
    'added', coalesce(jsonb_agg(k.name order by k.name) filter (where not before ? k.name), '[]'),
    'removed', coalesce(jsonb_agg(k.name order by k.name) filter (where not after ? k.name), '[]'),
    'changed', coalesce(jsonb_agg(k.name order by k.name) filter (where before ? k.name and after ? k.name and before -> k.name <> after -> k.name), '[]')
  )
  from (select jsonb_object_keys(before) as name union select jsonb_object_keys(after)) k;
$$;
comment on function private.names_changed is 'Names that were added to an object, removed from it or whose value changed; no values.';

create function private.stack_changes(before jsonb, after jsonb) returns jsonb
language sql immutable
set search_path = ''
as $$
  select jsonb_build_object(
    'template', case when before -> 'template' <> after -> 'template'
      then jsonb_build_object('from', before -> 'template', 'to', after -> 'template') end,
    'services', private.names_changed(before -> 'services', after -> 'services') || jsonb_build_object('changed', (
      select coalesce(jsonb_agg(jsonb_strip_nulls(jsonb_build_object('name', a.key,
          'replicas', case when a.value -> 'replicas' <> b.value -> 'replicas'
            then jsonb_build_object('from', b.value -> 'replicas', 'to', a.value -> 'replicas') end,
          'image', case when a.value -> 'image' <> b.value -> 'image'
            then jsonb_build_object('from', b.value -> 'image', 'to', a.value -> 'image') end,
          'fields', (select jsonb_agg(f order by f) from (
            select jsonb_object_keys(a.value || b.value) as f) k
            where f not in ('replicas', 'image') and a.value -> f is distinct from b.value -> f)
        )) order by a.key), '[]')
      from jsonb_each(after -> 'services') a join jsonb_each(before -> 'services') b on b.key = a.key and b.value <> a.value)),
    'environment', private.names_changed(before -> 'environment', after -> 'environment'),
    'labels', private.names_changed(before -> 'labels', after -> 'labels'),
    'networks', private.names_changed(before -> 'networks', after -> 'networks'),
    'volumes', private.names_changed(before -> 'volumes', after -> 'volumes')
  );
$$;
comment on function private.stack_changes is
  'What differs between two states of a stack {template, services, environment, labels, networks, volumes}; of the environment only names.';

-- Commands -------------------------------------------------------------------------------------------------------

create function private.stack_input_faults(input jsonb, known text[]) returns jsonb
language plpgsql immutable
set search_path = ''
as $$
declare
  faults jsonb := '{}';
  pair record;
begin
  if jsonb_typeof(input) is distinct from 'object' then
    return '{"body": "must be an object"}';
  end if;
  for pair in select * from jsonb_each(input) loop
    if pair.key <> all (known) then
      faults := faults || jsonb_build_object(left(pair.key, 50), 'This field is not known');
    elsif pair.value <> 'null' and jsonb_typeof(pair.value) <> (case when pair.key in ('environment', 'labels') then 'object'
      when pair.key = 'template_version' then 'number' else 'string' end)
    then
      faults := faults || jsonb_build_object(pair.key, 'This field is of the wrong type');
    end if;
  end loop;
  if input ? 'name' and not faults ? 'name' and (input ->> 'name') !~ '^[a-z0-9][a-z0-9_-]{0,62}$' then
    faults := faults || '{"name": "Name must be lower-case letters, digits, - and _, at most 63"}';
  end if;
  if jsonb_typeof(input -> 'labels') = 'object' then
    faults := faults || private.label_faults(input -> 'labels');
  end if;
  if not faults ? 'cluster_id' and (input ->> 'cluster_id') !~ '^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$' then
    faults := faults || '{"cluster_id": "cluster_id must be a UUID"}';
  end if;
  if not faults ? 'template_version' and ((input ->> 'template_version')::numeric not between 1 and 1000000
    or (input ->> 'template_version')::numeric % 1 <> 0)
  then
    faults := faults || '{"template_version": "template_version must be a whole number of at least 1"}';
  end if;
  return faults;
end;
$$;
comment on function private.stack_input_faults is 'Fields of a request that are unknown or of the wrong form → {field: message}.';

create function private.find_stack_template(owner uuid, name text, version integer) returns public.stack_templates
language plpgsql stable security definer
set search_path = ''
as $$
declare
  found_one public.stack_templates;
begin
  select * into found_one from public.stack_templates t
  where t.name = find_stack_template.name and (t.user_id = owner or t.user_id is null) and t.definition is not null
    and (find_stack_template.version is null or t.version = find_stack_template.version)
  order by t.user_id nulls last, t.version desc limit 1;
  if found_one.id is null then
    perform private.raise_error('VALIDATION_ERROR', 'Invalid request body', jsonb_build_object('template',
      'There is no such template' || case when version is not null then ' of this version' else '' end), 400,
      'The table stack_templates lists what is available.');
  end if;
  return found_one;
end;
$$;
comment on function private.find_stack_template is
  'Template of a name, the owner''s before the installation''s, the newest unless a version is named. VALIDATION_ERROR 400 without any. Definer: called by commands that checked the right.';

create function private.runs_stacks(cluster public.clusters) returns boolean
language sql stable security definer
set search_path = ''
as $$
  select cluster.kind = 'portainer' and not exists (
    select from public.cluster_health h where h.cluster_id = cluster.id and h.orchestrator = 'portainer-kubernetes');
$$;
comment on function private.runs_stacks is 'Whether a cluster has Docker or Swarm behind it, as far as is known. Definer: users may not read clusters.';

create function private.choose_stack_cluster(wanted uuid) returns public.clusters
language plpgsql stable security definer
set search_path = ''
as $$
declare
  chosen public.clusters := private.choose_cluster(wanted);
begin
  -- Users may not read clusters, so they could name no other when the default one runs no stacks.
  if wanted is null and not private.runs_stacks(chosen) then
    select * into chosen from public.clusters c where c.enabled and private.runs_stacks(c) order by c.created_at, c.id limit 1;
  end if;
  if chosen.id is null or not private.runs_stacks(chosen) then
    perform private.raise_error('VALIDATION_ERROR', 'Stacks need Portainer with Docker or Swarm.',
      '{"cluster_id": "Stacks run on Portainer with Docker or Swarm; this cluster is Kubernetes"}', 400,
      'Name a cluster of kind portainer, or deploy an agent, which runs on Kubernetes too.');
  end if;
  return chosen;
end;
$$;
comment on function private.choose_stack_cluster is
  'Cluster for a stack: the wanted one, the default one, or the oldest other that runs stacks. Errors: VALIDATION_ERROR 400, RESOURCE_EXHAUSTED 503. Definer: users may not read clusters.';

create function private.stack_name_faults(name text, definition jsonb) returns jsonb
language sql immutable
set search_path = ''
as $$
  -- A Swarm calls each <stack>_<name>, 63 characters at most; nine are kept for what sets two stacks of one name apart.
  select coalesce(jsonb_object_agg(format('%s.%s', p.kind, p.name), 'The names of the stack and of this must be at most 53 characters together'), '{}')
  from (
    select 'services' as kind, k as name from jsonb_object_keys(definition -> 'services') k
    union all
    select 'networks', k from jsonb_object_keys(coalesce(definition -> 'networks', '{}')) k
  ) p
  where char_length(private.slug(stack_name_faults.name)) + char_length(p.name) > 53;
$$;
comment on function private.stack_name_faults is 'Services and networks of a definition whose names are too long beside that of the stack → {field: message}.';

create function private.stack_environment(stack_id uuid) returns jsonb
language sql stable security definer
set search_path = ''
as $$
  select coalesce((
    select s.decrypted_secret::jsonb from private.stack_environments e join vault.decrypted_secrets s on s.id = e.secret_id
    where e.stack_id = stack_environment.stack_id), '{}');
$$;
comment on function private.stack_environment is 'Environment of a stack in clear: never to be answered or logged. Definer: Vault is closed to clients.';

create function private.store_stack_environment(stack_id uuid, environment jsonb) returns void
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  kept uuid := (select e.secret_id from private.stack_environments e where e.stack_id = store_stack_environment.stack_id);
begin
  if kept is not null then
    perform vault.update_secret(kept, environment::text);
  else
    kept := vault.create_secret(environment::text, 'stack-environment:' || stack_id::text, 'Environment of a stack');
    insert into private.stack_environments (stack_id, secret_id) values (store_stack_environment.stack_id, kept);
  end if;
end;
$$;
comment on function private.store_stack_environment is 'Puts the environment of a stack into Vault. Definer: Vault is closed to clients; callers check the right first.';

create function private.stack_answer(stack_id uuid, operation public.operations) returns jsonb
language sql stable security definer
set search_path = ''
as $$
  select jsonb_build_object('stack', to_jsonb(s), 'operation', case when operation.id is not null then to_jsonb(operation) end,
    'cluster', private.cluster_face(s.cluster_id))
  from public.stacks s where s.id = stack_answer.stack_id;
$$;
comment on function private.stack_answer is 'Answer of a command → {stack, operation, cluster}. Definer: callers checked the right.';

create function private.lock_stack(stack_id uuid) returns public.stacks
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  reached constant text := private.require_permission('agents:write');
  locked public.stacks;
begin
  perform private.require_permission('containers:manage');
  select * into locked from public.stacks s
  where s.id = lock_stack.stack_id and (reached = 'all' or s.user_id = (select auth.uid())) for update;
  if locked.id is null then
    perform private.raise_error('NOT_FOUND', format('Stack with ID ''%s'' not found or access denied', lock_stack.stack_id),
      jsonb_build_object('stack_id', lock_stack.stack_id), 404);
  end if;
  return locked;
end;
$$;
comment on function private.lock_stack is
  'Stack of the caller, locked for change. Errors: PERMISSION_DENIED 403, NOT_FOUND 404 (also for another user''s). Definer: checks the right itself.';

create function private.retry_stack(queued public.operations) returns void
language sql volatile security definer
set search_path = ''
as $$
  update public.operations o set request = o.request || jsonb_build_object('generation', s.generation)
  from public.stacks s where o.id = queued.id and s.id = queued.stack_id and queued.kind <> 'delete_stack';
  update public.stacks s set state = case queued.kind when 'deploy_stack' then 'queued' when 'rollback_stack' then 'rolling_back'
    when 'delete_stack' then 'deleting' else 'updating' end
  where s.id = queued.stack_id;
$$;
comment on function private.retry_stack is 'See retry_dead_letter: the stack is under way again. Definer: clients write no stacks.';

create function private.create_stack(spec jsonb) returns jsonb
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  owner constant uuid := (select auth.uid());
  faults jsonb := private.stack_input_faults(spec, array['name', 'template', 'template_version', 'environment', 'labels', 'cluster_id']);
  chosen public.clusters;
  source public.stack_templates;
  environment jsonb;
  wanted text;
  total integer;
  made public.stacks;
  queued public.operations;
begin
  perform private.require_permission('agents:write');
  perform private.require_permission('containers:manage');
  if nullif(spec ->> 'name', '') is null and not faults ?| array['name', 'body'] then
    faults := faults || '{"name": "Name is required"}';
  end if;
  if nullif(spec ->> 'template', '') is null and not faults ?| array['template', 'body'] then
    faults := faults || '{"template": "Template is required"}';
  end if;
  perform private.refuse_faults(faults);
  -- The same lock that counts replicas: two requests at once would both find the name free.
  perform pg_advisory_xact_lock(hashtextextended('agents:' || owner::text, 0));
  if exists (select from public.stacks s where s.user_id = owner and s.name = spec ->> 'name') then
    perform private.refuse_faults('{"name": "You have a stack of this name already"}');
  end if;

  chosen := private.choose_stack_cluster((spec ->> 'cluster_id')::uuid);
  source := private.find_stack_template(owner, spec ->> 'template', (spec ->> 'template_version')::int);
  environment := private.merge_environment('{}', coalesce(nullif(spec -> 'environment', 'null'), '{}'));
  perform private.refuse_faults(private.environment_faults(environment, source.definition, source.parameters)
    || private.stack_name_faults(spec ->> 'name', source.definition));
  total := private.check_services(owner, null, private.resolve_services(source.definition, source.parameters, environment));

  -- One account of Portainer's serves all users, so a taken name gets a suffix: an error would tell that it is taken.
  wanted := private.slug(spec ->> 'name');
  made.id := gen_random_uuid();
  perform pg_advisory_xact_lock(hashtextextended(format('stack_name:%s:%s', chosen.id, wanted), 0));
  if exists (select from public.deployments d where d.cluster_id = chosen.id and d.stack_name = wanted)
    or exists (select from public.stacks s where s.cluster_id = chosen.id and s.stack_name = wanted)
  then
    wanted := wanted || '-' || left(made.id::text, 8);
  end if;
  insert into public.stacks (
    id, user_id, name, template_id, template, template_version, definition, parameters, labels, environment_keys, replicas,
    cluster_id, endpoint_id, stack_name
  ) values (
    made.id, owner, spec ->> 'name', source.id, source.name, source.version, source.definition, source.parameters,
    source.labels || coalesce(nullif(spec -> 'labels', 'null'), '{}'), array(select jsonb_object_keys(environment) order by 1), total,
    chosen.id, chosen.endpoint_id, wanted
  ) returning * into made;
  perform private.store_stack_environment(made.id, environment);
  queued := private.queue_operation(null, owner, chosen.id, 'deploy_stack',
    jsonb_build_object('generation', made.generation, 'replicas', total), stack_id => made.id);
  perform private.write_audit('stack.create', 'stack', made.id::text);
  return private.stack_answer(made.id, queued);
end;
$$;
comment on function private.create_stack is 'See public.create_stack. Definer: writes Vault, stacks and operations.';

create function public.create_stack(spec jsonb) returns jsonb
language sql volatile
set search_path = ''
as $$
  select private.create_stack(create_stack.spec);
$$;
comment on function public.create_stack is
  'Deploys a stack from a template (seed 000). spec: {name, template, template_version, environment {NAME: value}, labels, cluster_id} → {stack, operation, cluster}. Errors: VALIDATION_ERROR 400 (also on Kubernetes), PERMISSION_DENIED 403, RESOURCE_LIMIT_EXCEEDED 429, RESOURCE_EXHAUSTED 503.';

create function private.update_stack(stack_id uuid, changes jsonb) returns jsonb
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  target constant public.stacks := private.lock_stack(stack_id);
  source public.stack_templates;
  old_environment constant jsonb := private.stack_environment(stack_id);
  environment jsonb;
  new_labels jsonb := target.labels;
  total integer;
  before jsonb;
  after jsonb;
  diff jsonb;
  changed public.stacks;
  queued public.operations;
begin
  perform private.refuse_faults(private.stack_input_faults(changes, array['template', 'template_version', 'environment', 'labels']));
  if target.state = 'deleting' then
    perform private.raise_error('INVALID_STATE', 'The stack is being deleted.', jsonb_build_object('state', target.state), 409);
  end if;
  perform private.refuse_while_active(stack_id);

  -- Without a word about the template it stays what it was, even when that was removed meanwhile.
  source.id := target.template_id;
  source.name := target.template;
  source.version := target.template_version;
  source.definition := target.definition;
  source.parameters := target.parameters;
  if nullif(changes -> 'template', 'null') is not null or nullif(changes -> 'template_version', 'null') is not null then
    source := private.find_stack_template(target.user_id, coalesce(changes ->> 'template', target.template), (changes ->> 'template_version')::int);
  end if;
  environment := private.merge_environment(old_environment, coalesce(nullif(changes -> 'environment', 'null'), '{}'));
  perform private.refuse_faults(private.environment_faults(environment, source.definition, source.parameters)
    || private.stack_name_faults(target.name, source.definition));
  if nullif(changes -> 'labels', 'null') is not null then
    new_labels := changes -> 'labels';
  end if;

  before := jsonb_build_object('template', jsonb_build_object('name', target.template, 'version', target.template_version),
    'services', private.resolve_services(target.definition, target.parameters, old_environment),
    'environment', private.parameter_values(target.parameters, old_environment), 'labels', target.labels,
    'networks', coalesce(target.definition -> 'networks', '{}'), 'volumes', coalesce(target.definition -> 'volumes', '{}'));
  after := jsonb_build_object('template', jsonb_build_object('name', source.name, 'version', source.version),
    'services', private.resolve_services(source.definition, source.parameters, environment),
    'environment', private.parameter_values(source.parameters, environment), 'labels', new_labels,
    'networks', coalesce(source.definition -> 'networks', '{}'), 'volumes', coalesce(source.definition -> 'volumes', '{}'));
  total := private.check_services(target.user_id, stack_id, after -> 'services');
  diff := private.stack_changes(before, after);
  -- One that failed is brought up again although nothing of it changed.
  if before = after and target.state = 'running' then
    return private.stack_answer(stack_id, null) || jsonb_build_object('changes', diff);
  end if;

  update public.stacks s set
    template_id = source.id, template = source.name, template_version = source.version, definition = source.definition,
    parameters = source.parameters, labels = new_labels, environment_keys = array(select jsonb_object_keys(environment) order by 1),
    replicas = total, generation = s.generation + 1, state = 'updating'
  where s.id = update_stack.stack_id returning * into changed;
  perform private.store_stack_environment(stack_id, environment);
  queued := private.queue_operation(null, target.user_id, target.cluster_id, 'update_stack',
    jsonb_build_object('generation', changed.generation, 'replicas', total, 'changes', diff), stack_id => stack_id);
  perform private.write_audit('stack.update', 'stack', stack_id::text,
    jsonb_build_object('fields', (select coalesce(jsonb_agg(k order by k), '[]') from jsonb_object_keys(changes) k)));
  return private.stack_answer(stack_id, queued) || jsonb_build_object('changes', diff);
end;
$$;
comment on function private.update_stack is 'See public.update_stack. Definer: writes Vault, stacks and operations.';

create function public.update_stack(stack_id uuid, changes jsonb) returns jsonb
language sql volatile
set search_path = ''
as $$
  select private.update_stack(update_stack.stack_id, update_stack.changes);
$$;
comment on function public.update_stack is
  'Changes a stack and rolls it out; when that fails it goes back to what ran before. changes: {template, template_version, environment {NAME: value | null} (merged), labels (all of them)} → {stack, operation | null when nothing differs, cluster, changes {template, services {added, removed, changed [{name, replicas, image, fields}]}, environment, labels, networks, volumes}}. Errors: VALIDATION_ERROR 400, PERMISSION_DENIED 403, NOT_FOUND 404, OPERATION_IN_PROGRESS, INVALID_STATE 409, RESOURCE_LIMIT_EXCEEDED 429.';

create function private.queue_stack_teardown(stack public.stacks) returns public.operations
language plpgsql volatile security definer
set search_path = ''
as $$
begin
  perform private.cancel_active(stack.id);
  -- The user may be gone already, when the stack goes with them.
  return private.queue_operation(null, (select u.id from auth.users u where u.id = stack.user_id), stack.cluster_id, 'delete_stack',
    jsonb_build_object('stack_id', stack.portainer_stack_id, 'stack_name', stack.stack_name, 'endpoint_id', stack.endpoint_id,
      'orchestrator', stack.orchestrator),
    stack_id => stack.id);
end;
$$;
comment on function private.queue_stack_teardown is
  'Queues the removal of a stack from its cluster; the operation itself says where that is, for the row may be gone by then. Definer: clients write no operations.';

create function private.delete_stack(stack_id uuid) returns jsonb
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  target constant public.stacks := private.lock_stack(stack_id);
  queued public.operations;
begin
  if target.state = 'deleting' then
    perform private.refuse_while_active(stack_id);
  end if;
  perform private.write_audit('stack.delete', 'stack', stack_id::text);
  delete from private.stack_environments e where e.stack_id = delete_stack.stack_id;
  delete from private.stack_backups b where b.stack_id = delete_stack.stack_id;
  update public.stacks s set state = 'deleting', environment_keys = '{}' where s.id = delete_stack.stack_id;
  queued := private.queue_stack_teardown(target);
  return private.stack_answer(stack_id, queued);
end;
$$;
comment on function private.delete_stack is 'See public.delete_stack. Definer: writes Vault, stacks and operations.';

create function public.delete_stack(stack_id uuid) returns jsonb
language sql volatile
set search_path = ''
as $$
  select private.delete_stack(delete_stack.stack_id);
$$;
comment on function public.delete_stack is
  'Removes a stack with its volumes: its environment at once, its services by an operation, which cancels one that is under way, and then the row → {stack, operation, cluster}. Errors: PERMISSION_DENIED 403, NOT_FOUND 404, OPERATION_IN_PROGRESS 409 when it is being deleted already.';

create function private.tear_down_stack_with_row() returns trigger
language plpgsql volatile security definer
set search_path = ''
as $$
begin
  if old.state <> 'deleting' then
    perform private.queue_stack_teardown(old);
    perform private.write_audit('stack.remove', 'stack', old.id::text);
  end if;
  return old;
end;
$$;
comment on function private.tear_down_stack_with_row is
  'Removes what runs of a stack whose row is deleted, with its owner for instance. Definer: clients write no operations.';
create trigger stacks_tear_down before delete on public.stacks
  for each row execute function private.tear_down_stack_with_row();

-- Reads ----------------------------------------------------------------------------------------------------------

create function public.stack_snapshot(stack_id uuid) returns jsonb
language plpgsql stable
set search_path = ''
as $$
declare
  snapshot jsonb;
begin
  select jsonb_build_object('stack', to_jsonb(s), 'cluster', private.cluster_face(s.cluster_id),
    'operation', (select to_jsonb(o) from public.operations o where o.stack_id = s.id order by o.created_at desc limit 1))
  into snapshot from public.stacks s where s.id = stack_snapshot.stack_id;
  if snapshot is null then
    perform private.require_permission('agents:read');
    perform private.raise_error('NOT_FOUND', format('Stack with ID ''%s'' not found or access denied', stack_snapshot.stack_id),
      jsonb_build_object('stack_id', stack_snapshot.stack_id), 404);
  end if;
  return snapshot;
end;
$$;
comment on function public.stack_snapshot is
  'All that is known of a stack (seed 000) → {stack, operation (last) | null, cluster}. Errors: PERMISSION_DENIED 403, NOT_FOUND 404.';

create function public.list_stacks(status text[] default null, row_limit integer default 20, row_offset integer default 0) returns jsonb
language plpgsql stable
set search_path = ''
as $$
declare
  page jsonb;
  total bigint;
begin
  perform private.require_permission('agents:read');
  if row_limit is null or row_limit not between 0 and 100 or row_offset is null or row_offset < 0 then
    perform private.raise_error('VALIDATION_ERROR', 'Invalid request parameters',
      '{"limit": "limit must be from 0 to 100 and offset at least 0"}', 400);
  end if;
  select coalesce(jsonb_agg(p.stack), '[]') into page from (
    select to_jsonb(s) - 'definition' - 'parameters' as stack from public.stacks s
    where list_stacks.status is null or s.state = any (list_stacks.status)
    order by s.created_at desc, s.id desc limit row_limit offset row_offset
  ) p;
  select count(*) into total from public.stacks s where list_stacks.status is null or s.state = any (list_stacks.status);
  return jsonb_build_object('stacks', page, 'total', total, 'limit', row_limit, 'offset', row_offset);
end;
$$;
comment on function public.list_stacks is
  'A page of stacks, newest first → {stacks: [row without definition and parameters], total, limit, offset}. status: words of stacks.state. row_limit 0–100. Errors: PERMISSION_DENIED 403, VALIDATION_ERROR 400.';

-- For the worker -------------------------------------------------------------------------------------------------

create function private.stack_plan(held public.operations) returns jsonb
language sql stable security definer
set search_path = ''
as $$
  select jsonb_build_object(
    'operation', to_jsonb(held), 'agent', null, 'template', null,
    'deployment', held.request || jsonb_build_object('containers', '[]'::jsonb) || case when s.id is null then '{}' else jsonb_build_object(
      'stack_id', s.portainer_stack_id, 'stack_name', s.stack_name, 'namespace', null, 'endpoint_id', s.endpoint_id,
      'orchestrator', s.orchestrator, 'console_url', s.console_url, 'observed_generation', s.observed_generation) end,
    'stack', case when s.id is not null then jsonb_build_object(
      'id', s.id, 'generation', s.generation, 'labels', s.labels,
      'services', private.resolve_services(s.definition, s.parameters, private.stack_environment(s.id)),
      'networks', coalesce(s.definition -> 'networks', '{}'), 'volumes', coalesce(s.definition -> 'volumes', '{}')) end,
    'cluster', (select private.cluster_connection(c) from public.clusters c where c.id = held.cluster_id),
    'environment', case when s.id is not null then private.parameter_values(s.parameters, private.stack_environment(s.id)) else '{}' end,
    'deadline', held.created_at + make_interval(secs => (private.setting('operations', 'deadline_seconds'))::int)
  )
  from (select held.stack_id as id) wanted left join public.stacks s on s.id = wanted.id;
$$;
comment on function private.stack_plan is 'See operation_plan: the same of an operation on a stack, with stack {id, generation, labels, services, networks, volumes}. Definer: called by the worker.';

create function private.observe_stack(stack_id uuid, observation jsonb) returns boolean
language plpgsql volatile security definer
set search_path = ''
as $$
begin
  -- None is left of one whose row is gone meanwhile.
  insert into private.stack_looks as l (stack_id, containers)
  select s.id, coalesce(observation -> 'containers', '[]') from public.stacks s where s.id = observe_stack.stack_id
  on conflict on constraint stack_looks_pkey do update set containers = excluded.containers
  where l.containers <> excluded.containers;
  if (observation ->> 'gone')::boolean then
    update public.stacks s set services = '[]', networks = '[]', volumes = '[]', last_checked_at = now(), state = 'failed',
      error = jsonb_build_object('code', 'DEPLOYMENT_FAILED', 'message', 'The stack is not on its cluster any more',
        'details', jsonb_build_object('component', 'portainer', 'reason', 'workload_missing'))
    where s.id = observe_stack.stack_id and s.state = 'running';
    return found;
  end if;
  update public.stacks s set
    services = coalesce(observation -> 'services', s.services), networks = coalesce(observation -> 'networks', s.networks),
    volumes = coalesce(observation -> 'volumes', s.volumes), last_checked_at = now()
  where s.id = observe_stack.stack_id and (
    (s.services, s.networks, s.volumes) is distinct from (coalesce(observation -> 'services', s.services),
      coalesce(observation -> 'networks', s.networks), coalesce(observation -> 'volumes', s.volumes))
    or s.last_checked_at is null or s.last_checked_at < now() - interval '30 seconds');
  return found;
end;
$$;
comment on function private.observe_stack is
  'Stores what was seen of a stack {containers, services, networks, volumes}, or with gone: true that one which ran is not there any more → whether there was anything to store. Definer: called by the worker.';

create function private.measure_stack(stack_id uuid, metrics jsonb) returns void
language sql volatile security definer
set search_path = ''
as $$
  update private.stack_looks l set metrics = measure_stack.metrics, measured_at = now() where l.stack_id = measure_stack.stack_id;
$$;
comment on function private.measure_stack is
  'Stores what the containers of a stack use together {cpu_usage, cpu_limit (cores), memory_usage, memory_limit, network_rx, network_tx (bytes)}. Definer: called by the worker.';

create function private.claim_stack_looks(max_stacks integer) returns setof jsonb
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  pause constant interval := make_interval(secs => (private.setting('collection', 'stack_seconds'))::double precision);
begin
  return query
  with due as (
    select s.id from public.stacks s left join private.stack_looks l on l.stack_id = s.id
    where s.state = 'running' and (l.claimed_at is null or l.claimed_at <= clock_timestamp() - pause)
      -- What is known to be dead is not asked.
      and not exists (select from public.circuit_breakers b where b.name = 'cluster:' || s.cluster_id::text and b.state <> 'closed')
    order by l.claimed_at nulls first limit max_stacks
    for no key update of s skip locked
  ), claimed as (
    insert into private.stack_looks as l (stack_id, claimed_at) select d.id, clock_timestamp() from due d
    on conflict (stack_id) do update set claimed_at = excluded.claimed_at
    returning l.stack_id
  )
  select jsonb_build_object('id', s.id, 'stack_name', s.stack_name, 'portainer_stack_id', s.portainer_stack_id,
    'environment', private.parameter_values(s.parameters, private.stack_environment(s.id)),
    'cluster', private.cluster_connection(c))
  from claimed k join public.stacks s on s.id = k.stack_id join public.clusters c on c.id = s.cluster_id;
end;
$$;
comment on function private.claim_stack_looks is
  'Takes running stacks that are due to be looked at → [{id, stack_name, portainer_stack_id, environment (to redact), cluster with credential}]. Holds secrets: never to be logged. Definer: called by the worker.';

create function private.place_stack(stack_id uuid, placement jsonb) returns void
language sql volatile security definer
set search_path = ''
as $$
  update public.stacks s set
    portainer_stack_id = coalesce(placement ->> 'stack_id', s.portainer_stack_id),
    endpoint_id = coalesce((placement ->> 'endpoint_id')::int, s.endpoint_id),
    orchestrator = coalesce(placement ->> 'orchestrator', s.orchestrator),
    console_url = coalesce(placement ->> 'console_url', s.console_url)
  where s.id = place_stack.stack_id;
$$;
comment on function private.place_stack is 'See record_placement: the same for a stack. Definer: called by the worker.';

create function private.keep_stack(stack public.stacks) returns void
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  environment constant text := private.stack_environment(stack.id)::text;
  kept uuid := (select b.secret_id from private.stack_backups b where b.stack_id = stack.id);
begin
  if kept is null then
    kept := vault.create_secret(environment, 'stack-backup:' || stack.id::text, 'Environment with which a stack last ran well');
  else
    perform vault.update_secret(kept, environment);
  end if;
  insert into private.stack_backups as b (
    stack_id, generation, template_id, template, template_version, definition, parameters, labels, environment_keys, replicas, secret_id
  ) values (
    stack.id, stack.generation, stack.template_id, stack.template, stack.template_version, stack.definition, stack.parameters,
    stack.labels, stack.environment_keys, stack.replicas, kept
  ) on conflict on constraint stack_backups_pkey do update set
    generation = excluded.generation, template_id = excluded.template_id, template = excluded.template,
    template_version = excluded.template_version, definition = excluded.definition, parameters = excluded.parameters,
    labels = excluded.labels, environment_keys = excluded.environment_keys, replicas = excluded.replicas;
end;
$$;
comment on function private.keep_stack is 'Keeps what runs well, for a later update to go back to. Definer: writes Vault.';

create function private.complete_stack(held public.operations) returns void
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  placed public.stacks;
begin
  if held.kind = 'delete_stack' then
    delete from public.stacks s where s.id = held.stack_id;
    return;
  end if;
  update public.stacks s set
    state = 'running', observed_generation = s.generation, deployed_at = clock_timestamp(),
    error = case when held.kind = 'rollback_stack' then s.error end
  where s.id = held.stack_id returning * into placed;
  if placed.id is not null and held.kind <> 'rollback_stack' then
    perform private.keep_stack(placed);
  end if;
end;
$$;
comment on function private.complete_stack is 'See complete_operation: what ends with an operation on a stack. Definer: called by the worker.';

create function private.fail_stack(held public.operations, error jsonb) returns boolean
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  kept private.stack_backups;
  target public.stacks;
begin
  select * into target from public.stacks s where s.id = held.stack_id for update;
  select * into kept from private.stack_backups b where b.stack_id = held.stack_id;
  if held.kind <> 'update_stack' or kept.stack_id is null or target.state = 'deleting' then
    update public.stacks s set state = case when s.state = 'deleting' then s.state else 'failed' end, error = fail_stack.error
    where s.id = held.stack_id;
    return false;
  end if;
  -- Back to what ran well. A generation of its own tells the cluster that this is another change.
  update public.stacks s set
    template_id = (select t.id from public.stack_templates t where t.id = kept.template_id), template = kept.template,
    template_version = kept.template_version, definition = kept.definition, parameters = kept.parameters, labels = kept.labels,
    environment_keys = kept.environment_keys, replicas = kept.replicas, generation = s.generation + 1, state = 'rolling_back',
    error = fail_stack.error || '{"rolled_back": true}'
  where s.id = held.stack_id returning * into target;
  perform private.store_stack_environment(held.stack_id,
    (select v.decrypted_secret::jsonb from vault.decrypted_secrets v where v.id = kept.secret_id));
  perform private.queue_operation(null, held.user_id, held.cluster_id, 'rollback_stack',
    jsonb_build_object('generation', target.generation, 'replicas', target.replicas, 'failed_operation_id', held.id),
    stack_id => held.stack_id);
  return true;
end;
$$;
comment on function private.fail_stack is
  'See fail_operation: what a given-up operation leaves of a stack → whether it goes back to its last good state, for which an operation is queued. Definer: called by the worker.';

grant execute on function private.create_stack, private.update_stack, private.delete_stack to authenticated, service_role;
grant execute on function public.create_stack, public.update_stack, public.delete_stack, public.stack_snapshot, public.list_stacks
  to authenticated, service_role;
