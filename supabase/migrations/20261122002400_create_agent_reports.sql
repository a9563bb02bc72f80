-- Reports of agents: what an agent says of itself. Log lines, figures of its requests, its status and its conversations.
--
-- Adds: keys that belong to an agent, the role they run as, the functions that take reports (for such a key, and for
-- owners with agents:write), agent_reports and agent_conversations.
-- Mind: a request with an agent's key runs as agent_reporter, which is granted these functions and nothing else: no
-- table, no other function. What a key may do therefore never depends on a policy.

insert into public.settings (category, key, value, description) values
  ('reports', 'max_lines', '1000', 'Log lines that one report may hold.'),
  ('reports', 'max_messages', '200', 'Messages of a conversation that one report may hold.'),
  ('reports', 'max_instances', '200', 'Instances of one agent that may report figures at a time.'),
  ('reports', 'max_age_hours', '24', 'Hours that what is reported may lie in the past; at most 144 are possible.'),
  ('reports', 'max_skew_seconds', '300', 'Seconds that what is reported may lie in the future, for clocks that are ahead.'),
  ('reports', 'fresh_seconds', '120', 'Seconds for which reported figures are taken to be present.'),
  ('reports', 'activity_seconds', '30', 'Least seconds between two moves of agents.last_activity_at by reports.'),
  ('reports', 'batch_hours', '48', 'Hours for which a repeated report is recognised by its batch_id.'),
  ('reports', 'url', 'null', 'Where agents with supabase_config.reporting report to, up to /api; null: the project''s URL with /functions/v1.'),
  ('report_rate_limit', 'window_limit', '1800', 'Requests an agent''s key may make in one window; they do not count for its owner.'),
  ('report_rate_limit', 'window_seconds', '900', 'Length of the window in seconds.'),
  ('report_rate_limit', 'burst_limit', '240', 'Requests an agent''s key may make in one burst window.'),
  ('report_rate_limit', 'burst_seconds', '60', 'Length of the burst window in seconds.'),
  ('api_keys', 'max_per_agent', '10', 'Keys in force that one agent may have.'),
  ('api_keys', 'reporting_lifetime_days', '3650', 'Days until the key expires that an agent with supabase_config.reporting is given.'),
  ('retention', 'conversations_days', '90', 'Days that messages of conversations are kept.');

-- Roles belong to the server and not to a database: it may be there already.
do $$
begin
  if not exists (select from pg_catalog.pg_roles r where r.rolname = 'agent_reporter') then
    create role agent_reporter nologin noinherit;
  end if;
end;
$$;
grant agent_reporter to current_user;
grant usage on schema public, private to agent_reporter;

-- Keys -----------------------------------------------------------------------------------------------------------

alter table public.api_keys
  add column agent_id uuid references public.agents (id) on delete cascade,
  add constraint agent_keys_only_report check (agent_id is null or permissions = '{reports:write}');
comment on column public.api_keys.agent_id is
  'The agent that the key belongs to: it may write reports of this agent and do nothing else. Null: a key of the user.';
create index api_keys_agent_id_idx on public.api_keys (agent_id) where agent_id is not null;

create function private.create_agent_key(agent_id uuid, label text, expires_at timestamptz) returns jsonb
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  target public.agents := private.lock_agent(agent_id, 'agents:write');
  most constant integer := (private.setting('api_keys', 'max_per_agent'))::int;
  made jsonb;
begin
  if target.status = 'deleting' then
    perform private.raise_error('INVALID_STATE', 'The agent is being deleted.', jsonb_build_object('status', target.status), 409);
  end if;
  if char_length(trim(create_agent_key.label)) > 100 then
    perform private.raise_error('VALIDATION_ERROR', 'The label is too long.', '{"label": "Label must be at most 100 characters"}', 400);
  end if;
  if create_agent_key.expires_at <= now() then
    perform private.raise_error('VALIDATION_ERROR', 'The expiry lies in the past.', '{"expires_at": "Expiry must lie in the future"}', 400);
  end if;
  if (
    select count(*) from public.api_keys k where k.agent_id = target.id and k.revoked_at is null and k.expires_at > now()
  ) >= most then
    perform private.raise_error('RESOURCE_LIMIT_EXCEEDED', 'This agent has the largest number of keys.',
      jsonb_build_object('limit', most), 429, 'Revoke a key that is not used any more.');
  end if;
  made := private.mint_api_key(target.user_id, coalesce(nullif(trim(create_agent_key.label), ''), 'Agent key'), 'user', '{reports:write}',
    create_agent_key.expires_at);
  update public.api_keys k set agent_id = target.id where k.id = (made ->> 'key_id')::uuid;
  perform private.write_audit('agent_key.create', 'api_key', made ->> 'key_id', jsonb_build_object('agent_id', target.id));
  return made || jsonb_build_object('agent_id', target.id);
end;
$$;
comment on function private.create_agent_key is 'See public.create_agent_key. Definer: writes digests, which no client reads.';

create function public.create_agent_key(agent_id uuid, label text default null, expires_at timestamptz default null) returns jsonb
language sql volatile
set search_path = ''
as $$
  select private.create_agent_key(create_agent_key.agent_id, create_agent_key.label, create_agent_key.expires_at);
$$;
comment on function public.create_agent_key is
  'Makes a key with which an agent reports of itself → {api_key, key_id, agent_id, expires_at, role, permissions, user_id}. The key is shown this once, listed in api_keys, ended by revoke_api_key, and gone with the agent; it works whether the agent runs or not. Needs agents:write. Errors: PERMISSION_DENIED 403, AGENT_NOT_FOUND 404, VALIDATION_ERROR 400, INVALID_STATE 409, RESOURCE_LIMIT_EXCEEDED 429.';

grant execute on function private.create_agent_key, public.create_agent_key to authenticated, service_role;

-- The key that a deployment is given -----------------------------------------------------------------------------

create table private.reporting_keys (
  agent_id uuid primary key references public.agents (id) on delete cascade,
  key_id uuid not null references public.api_keys (id) on delete cascade,
  secret_id uuid not null
);
comment on table private.reporting_keys is 'Vault secret that holds the key of an agent with supabase_config.reporting, for its environment.';
create index reporting_keys_key_id_idx on private.reporting_keys (key_id);

create trigger reporting_keys_forget after delete on private.reporting_keys
  for each row execute function private.forget_secret();

create function private.agent_environment(agent_id uuid) returns jsonb
language plpgsql stable security definer
set search_path = ''
as $$
begin
  return coalesce((
      select jsonb_strip_nulls(jsonb_build_object(
        'AGENT_LAUNCHPAD_URL', coalesce(private.setting('reports', 'url') #>> '{}',
          (select max(u.decrypted_secret) || '/functions/v1' from vault.decrypted_secrets u where u.name = 'project_url')),
        'AGENT_LAUNCHPAD_AGENT_ID', r.agent_id, 'AGENT_LAUNCHPAD_KEY', s.decrypted_secret))
      from private.reporting_keys r join vault.decrypted_secrets s on s.id = r.secret_id
      where r.agent_id = agent_environment.agent_id
    ), '{}')
    || coalesce((
      select s.decrypted_secret::jsonb from private.agent_environments e join vault.decrypted_secrets s on s.id = e.secret_id
      where e.agent_id = agent_environment.agent_id
    ), '{}');
end;
$$;
comment on function private.agent_environment is
  'Environment of an agent''s containers: what its owner set, over the variables by which it reports. Holds secrets: never to be logged. Definer: Vault is closed to clients.';

create function private.agent_secrets(agent_id uuid) returns jsonb
language sql stable security definer
set search_path = ''
as $$
  select private.agent_environment(agent_secrets.agent_id) - array['AGENT_LAUNCHPAD_URL', 'AGENT_LAUNCHPAD_AGENT_ID'];
$$;
comment on function private.agent_secrets is
  'What of an agent''s environment is taken out of its logs and reports: all but where it reports to and its id, which say nothing. Holds secrets: never to be logged. Definer: Vault is closed to clients.';

create function private.environment_to_deploy(target public.agents) returns jsonb
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  wanted constant boolean := target.supabase_config -> 'reporting' = 'true';
  kept private.reporting_keys;
  made jsonb;
begin
  if target.id is null then
    return '{}';
  end if;
  select r.* into kept from private.reporting_keys r join public.api_keys k on k.id = r.key_id
  where r.agent_id = target.id and k.revoked_at is null and k.expires_at > now() + interval '30 days';
  -- A deployment is planned again after each failure: the key stays the same for as long as it is good.
  if coalesce(wanted, false) is distinct from (kept.agent_id is not null) then
    delete from public.api_keys k using private.reporting_keys r
    where r.agent_id = target.id and k.id = r.key_id;
    if wanted then
      made := private.mint_api_key(target.user_id, 'Reports of the deployment', 'user', '{reports:write}',
        now() + make_interval(days => (private.setting('api_keys', 'reporting_lifetime_days'))::int));
      update public.api_keys k set agent_id = target.id where k.id = (made ->> 'key_id')::uuid;
      insert into private.reporting_keys (agent_id, key_id, secret_id)
      values (target.id, (made ->> 'key_id')::uuid,
        vault.create_secret(made ->> 'api_key', 'reporting-key:' || (made ->> 'key_id'), 'Key by which an agent reports'));
    end if;
  end if;
  return private.agent_environment(target.id);
end;
$$;
comment on function private.environment_to_deploy is
  'Environment for a rollout of an agent; with supabase_config.reporting it has AGENT_LAUNCHPAD_URL, _AGENT_ID and _KEY, the key made when there is none that is good, and taken away when it is no longer wanted. Definer: Vault is closed to clients.';

-- Whose report it is ---------------------------------------------------------------------------------------------

create function private.reporting_agent(agent_id uuid) returns public.agents
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  key_agent constant uuid := (
    select k.agent_id from public.api_keys k
    where k.id = (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'api_key_id')::uuid
      and k.revoked_at is null and k.expires_at > now()
  );
  target public.agents;
begin
  if key_agent is null then
    perform private.require_permission('agents:write');
  end if;
  -- Shared with other reports; who deletes the agent waits for them, and they find it gone.
  select * into target from public.agents a
  where a.id = reporting_agent.agent_id and a.deleted_at is null and a.status <> 'deleting' and (
    a.id = key_agent or key_agent is null
    and a.user_id >= private.owner_bound('agents:write', 'lowest') and a.user_id <= private.owner_bound('agents:write', 'highest')
  )
  for key share;
  if target.id is null then
    perform private.raise_agent_not_found(reporting_agent.agent_id);
  end if;
  return target;
end;
$$;
comment on function private.reporting_agent is
  'The agent that a report is about, when the caller may report for it: the key''s own agent, or one that is reached with agents:write. Errors: PERMISSION_DENIED 403, AGENT_NOT_FOUND 404. Definer: checks the right itself.';

create function private.note_activity(agent_id uuid) returns void
language sql volatile security definer
set search_path = ''
as $$
  update public.agents a set last_activity_at = now()
  where a.id = note_activity.agent_id and (
    a.last_activity_at is null
    or a.last_activity_at < now() - make_interval(secs => (private.setting('reports', 'activity_seconds'))::double precision)
  );
$$;
comment on function private.note_activity is 'Moves an agent''s last activity to now, not more often than the settings say. Definer: clients may not.';

create table private.report_batches (
  agent_id uuid not null,
  kind text not null,
  batch_id text not null,
  answer jsonb,
  received_at timestamptz not null default now(),
  primary key (agent_id, kind, batch_id)
);
comment on table private.report_batches is 'Reports that were stored, by the id that their sender gave them, so that a repeated one is not stored twice.';
create index report_batches_received_at_idx on private.report_batches (received_at);

create function private.begin_batch(agent_id uuid, kind text, batch_id text) returns jsonb
language plpgsql volatile security definer
set search_path = ''
as $$
begin
  if begin_batch.batch_id is null then
    return null;
  elsif begin_batch.batch_id !~ '^[\x21-\x7e]{1,100}$' then
    perform private.raise_error('VALIDATION_ERROR', 'Invalid report: batch_id',
      '{"batch_id": "batch_id must be 1 to 100 visible ASCII characters"}', 400);
  end if;
  -- Waits for the same batch when it is being stored just now.
  insert into private.report_batches (agent_id, kind, batch_id)
  values (begin_batch.agent_id, begin_batch.kind, begin_batch.batch_id)
  on conflict on constraint report_batches_pkey do nothing;
  if found then
    return null;
  end if;
  return (
    select b.answer || '{"duplicate": true}' from private.report_batches b
    where (b.agent_id, b.kind, b.batch_id) = (begin_batch.agent_id, begin_batch.kind, begin_batch.batch_id)
  );
end;
$$;
comment on function private.begin_batch is 'The answer that a batch of this id was given before, or null when it is to be stored. Definer: nobody reads the table.';

create function private.end_batch(agent_id uuid, kind text, batch_id text, answer jsonb) returns jsonb
language sql volatile security definer
set search_path = ''
as $$
  update private.report_batches b set answer = end_batch.answer
  where (b.agent_id, b.kind, b.batch_id) = (end_batch.agent_id, end_batch.kind, end_batch.batch_id);
  select end_batch.answer || '{"duplicate": false}';
$$;
comment on function private.end_batch is 'Keeps the answer of a batch with it → the answer. Definer: nobody writes the table.';

-- Checks ---------------------------------------------------------------------------------------------------------

create function private.report_time_fault(moment jsonb) returns text
language plpgsql stable security definer
set search_path = ''
as $$
declare
  hours constant integer := least((private.setting('reports', 'max_age_hours'))::int, 144);
  seconds constant integer := (private.setting('reports', 'max_skew_seconds'))::int;
  said constant text := moment #>> '{}';
begin
  return case
    when coalesce(jsonb_typeof(moment), 'null') = 'null' then null
    when jsonb_typeof(moment) <> 'string'
      or said !~ '^\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d{1,9})?)?(Z|[+-]\d\d(:?\d\d)?)$' or not pg_input_is_valid(said, 'timestamptz')
      then 'must be an ISO 8601 time with its zone'
    when said::timestamptz < now() - make_interval(hours => hours) then format('must not lie more than %s hours back', hours)
    when said::timestamptz > now() + make_interval(secs => seconds) then format('must not lie more than %s seconds ahead', seconds)
  end;
end;
$$;
comment on function private.report_time_fault is 'What is wrong with the time of something reported, or null. Definer: reads settings.';

create function private.text_fault(value jsonb, least_length integer, most_length integer) returns text
language sql immutable
set search_path = ''
as $$
  select case
    when coalesce(jsonb_typeof(value), 'null') = 'null' then case when least_length > 0 then 'is required' end
    when jsonb_typeof(value) <> 'string' then 'must be text'
    when char_length(value #>> '{}') not between least_length and most_length
      then format('must be %s to %s characters', least_length, most_length)
  end;
$$;
comment on function private.text_fault is 'What is wrong with a text, or null. Absent is an empty one.';

create function private.object_fault(value jsonb, most_bytes integer) returns text
language sql immutable
set search_path = ''
as $$
  select case
    when coalesce(jsonb_typeof(value), 'null') = 'null' then null
    when jsonb_typeof(value) <> 'object' then 'must be an object'
    when octet_length(value::text) > most_bytes then format('must be at most %s bytes', most_bytes)
  end;
$$;
comment on function private.object_fault is 'What is wrong with an object, or null. Absent is none.';

create function private.number_in_report_fault(value jsonb, highest numeric, whole boolean) returns text
language sql immutable
set search_path = ''
as $$
  select case
    when coalesce(jsonb_typeof(value), 'null') = 'null' then null
    when jsonb_typeof(value) <> 'number' then 'must be a number'
    when value::numeric not between 0 and highest then format('must be from 0 to %s', highest)
    when whole and value::numeric % 1 <> 0 then 'must be a whole number'
  end;
$$;
comment on function private.number_in_report_fault is 'What is wrong with a figure, or null. Absent is none.';

create function private.refuse_report(faults jsonb) returns void
language plpgsql stable
set search_path = ''
as $$
begin
  if coalesce(faults, '{}') <> '{}' then
    perform private.raise_error('VALIDATION_ERROR',
      'Invalid report: nothing of it was stored', faults, 400, 'Correct what is named, at most 50 faults are, and send the whole report again.');
  end if;
end;
$$;
comment on function private.refuse_report is 'Raises VALIDATION_ERROR 400 naming what is wrong with a report {path: fault}; does nothing without.';

create function private.list_faults(list jsonb, name text, most integer) returns jsonb
language sql immutable
set search_path = ''
as $$
  select case when jsonb_typeof(list) is distinct from 'array' or jsonb_array_length(list) not between 1 and most
    then jsonb_build_object(name, format('must be a list of 1 to %s', most))
    when octet_length(list::text) > 2097152 then jsonb_build_object(name, 'must be at most 2 MiB') else '{}' end;
$$;
comment on function private.list_faults is
  'What is wrong with a list as such → {name: fault} or {}. /api takes bodies of 1 MiB; over PostgREST nothing else bounds them.';

-- Redaction ------------------------------------------------------------------------------------------------------

create function private.percent_encoded(value text) returns text
language sql immutable
set search_path = ''
as $$
  select string_agg(case when c.letter ~ '^[A-Za-z0-9_.!~*''()-]$' then c.letter
    else regexp_replace(upper(encode(convert_to(c.letter, 'UTF8'), 'hex')), '(..)', '%\1', 'g') end, '' order by c.position)
  from regexp_split_to_table(value, '') with ordinality c (letter, position);
$$;
comment on function private.percent_encoded is 'Text as a URL has it.';

create function private.secret_forms(agent_id uuid) returns text[]
language sql stable security definer
set search_path = ''
as $$
  -- The collector takes the same forms out of what it reads.
  with secrets as (
    select trim(v.value) as value from jsonb_each_text(private.agent_secrets(secret_forms.agent_id)) v
    where char_length(trim(v.value)) >= 6
  ), forms as (
    select s.value as form from secrets s
    union
    select trim(l.line) from secrets s cross join regexp_split_to_table(s.value, '\r?\n') l (line)
    where s.value like E'%\n%' and char_length(trim(l.line)) >= 16
  )
  select array_agg(distinct w.written order by w.written desc) from forms f cross join lateral (values
    (f.form),
    (substr(to_jsonb(f.form)::text, 2, char_length(to_jsonb(f.form)::text) - 2)),
    (private.percent_encoded(f.form)),
    -- Without the padding and the last characters, which depend on what follows the value.
    (left(translate(encode(convert_to(f.form, 'UTF8'), 'base64'), E'\n', ''), greatest(octet_length(f.form) / 3 * 4, 8)))
  ) w (written);
$$;
comment on function private.secret_forms is
  'The values of an agent''s environment as they might be written: plain, in JSON, in a URL, in base64, line by line. Holds secrets. Definer: Vault is closed to clients.';

create function private.redact_json(value jsonb, secrets text[]) returns jsonb
language plpgsql immutable
set search_path = ''
as $$
declare
  words text;
  secret text;
begin
  case jsonb_typeof(value)
    when 'string' then
      words := value #>> '{}';
      -- Longest first, so that a secret that contains another goes whole.
      foreach secret in array secrets loop
        words := replace(words, secret, '[redacted]');
      end loop;
      return to_jsonb(words);
    when 'array' then
      return (select coalesce(jsonb_agg(private.redact_json(e.value, secrets) order by e.position), '[]')
        from jsonb_array_elements(value) with ordinality e (value, position));
    when 'object' then
      return (select coalesce(jsonb_object_agg(private.redact_json(to_jsonb(e.key), secrets) #>> '{}', private.redact_json(e.value, secrets)), '{}')
        from jsonb_each(value) e);
    else
      return value;
  end case;
end;
$$;
comment on function private.redact_json is 'A value with every given secret taken out of its strings, keys too.';

create function private.redact_report(agent_id uuid, report jsonb) returns jsonb
language plpgsql stable security definer
set search_path = ''
as $$
declare
  secrets text[] := private.secret_forms(agent_id);
  written constant text := report::text;
begin
  -- Nearly always there is nothing to take out, and one look at the whole text says so. In it a secret stands as JSON
  -- writes it, once more so where the report quotes JSON.
  if secrets is null or not exists (
    select from unnest(secrets) s where strpos(written, s) > 0 or strpos(written, substr(to_jsonb(s)::text, 2, char_length(to_jsonb(s)::text) - 2)) > 0
  ) then
    return report;
  end if;
  return private.redact_json(report, array(select s from unnest(secrets) s order by char_length(s) desc));
end;
$$;
comment on function private.redact_report is 'A report without the values of the agent''s environment. Definer: Vault is closed to clients.';

-- Logs -----------------------------------------------------------------------------------------------------------

create function private.log_level(word text) returns text
language sql immutable
set search_path = ''
as $$
  select case
    when lower(word) in ('debug', 'trace', 'verbose') then 'DEBUG'
    when lower(word) in ('info', 'information', 'notice', 'log') then 'INFO'
    when lower(word) in ('warn', 'warning') then 'WARN'
    when lower(word) in ('error', 'err', 'fatal', 'critical', 'panic') then 'ERROR'
  end;
$$;
comment on function private.log_level is 'A logger''s word for a level as agent_logs has it; null for any other word.';

create function private.line_faults(lines jsonb) returns jsonb
language sql stable security definer
set search_path = ''
as $$
  select jsonb_object_agg(f.at, f.fault) from (
    select format('lines.%s%s', e.position - 1, c.field) as at, c.fault
    from jsonb_array_elements(lines) with ordinality e (line, position)
    cross join lateral (
      values ('', case when jsonb_typeof(e.line) <> 'object' then 'must be an object' end),
        ('.timestamp', private.report_time_fault(e.line -> 'timestamp')),
        ('.level', case when coalesce(e.line ->> 'level', 'INFO') is not null and private.log_level(coalesce(e.line ->> 'level', 'INFO')) is null
          then 'must be one of DEBUG, INFO, WARN, ERROR' end),
        ('.message', private.text_fault(e.line -> 'message', 1, 1000000)),
        ('.source', private.text_fault(e.line -> 'source', 0, 120)),
        ('.metadata', private.object_fault(e.line -> 'metadata', 4096))
      union all
      select '.' || left(k.key, 50), 'is not known'
      from jsonb_object_keys(case when jsonb_typeof(e.line) = 'object' then e.line else '{}' end) k (key)
      where k.key not in ('timestamp', 'level', 'message', 'source', 'metadata')
    ) c (field, fault)
    where c.fault is not null
    order by e.position limit 50
  ) f;
$$;
comment on function private.line_faults is 'All that is wrong with reported log lines, at most 50 faults → {lines.N.field: fault}. Definer: reads settings.';

create function private.report_logs(agent_id uuid, lines jsonb, instance text, batch_id text) returns jsonb
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  target public.agents := private.reporting_agent(agent_id);
  most constant integer := (private.setting('reports', 'max_lines'))::int;
  place constant text := nullif(trim(instance), '');
  answer jsonb := private.begin_batch(target.id, 'logs', batch_id);
  faults jsonb := '{}';
  clean jsonb;
  counts jsonb;
begin
  if answer is not null then
    return answer;
  end if;
  if char_length(place) > 200 then
    faults := '{"instance": "must be at most 200 characters"}';
  end if;
  faults := faults || private.list_faults(lines, 'lines', most);
  if not faults ? 'lines' then
    faults := faults || coalesce(private.line_faults(lines), '{}');
  end if;
  perform private.refuse_report(faults);

  clean := private.redact_report(target.id, lines);
  perform private.order_log_writers(target.id);
  with written as (
    insert into public.agent_logs as l (agent_id, user_id, timestamp, level, message, source, container_name, metadata)
    select target.id, target.user_id, coalesce((e.line ->> 'timestamp')::timestamptz, now()),
      private.log_level(coalesce(e.line ->> 'level', 'INFO')),
      case when char_length(e.line ->> 'message') <= 16384 then e.line ->> 'message'
        else format('%s… [%s more characters]', left(e.line ->> 'message', 16384), char_length(e.line ->> 'message') - 16384) end,
      nullif(e.line ->> 'source', ''), place,
      case when jsonb_typeof(e.line -> 'metadata') = 'object' then e.line -> 'metadata' else '{}' end
    from jsonb_array_elements(clean) with ordinality e (line, position)
    order by e.position
    returning l.id, l.timestamp, l.level
  ), counted as (
    select private.log_hour(w.timestamp) as hour, w.level, count(*) as lines, max(w.id) as last_id from written w group by 1, 2
  )
  select jsonb_agg(jsonb_build_object('hour', c.hour, 'level', c.level, 'container_id', null, 'container_name', place, 'lines', c.lines)),
    jsonb_build_object('agent_id', target.id, 'accepted', sum(c.lines), 'last_id', max(c.last_id))
  into counts, answer from counted c;
  perform private.add_log_counts(target.id, target.user_id, counts);
  perform private.note_activity(target.id);
  return private.end_batch(target.id, 'logs', batch_id, answer);
end;
$$;
comment on function private.report_logs is 'See public.report_logs. Definer: clients write no logs.';

create function public.report_logs(agent_id uuid, lines jsonb, instance text default null, batch_id text default null) returns jsonb
language sql volatile
set search_path = ''
as $$
  select private.report_logs(report_logs.agent_id, report_logs.lines, report_logs.instance, report_logs.batch_id);
$$;
comment on function public.report_logs is
  'Stores log lines of an agent: 1 to reports.max_lines of {message, level (DEBUG, INFO, WARN, ERROR or a logger''s usual word; default INFO), timestamp (default now; not older than reports.max_age_hours), source, metadata (object, 4 KiB)} → {agent_id, accepted, last_id, duplicate}. All or none: every bad line is named. Messages are cut at 16,384 characters, values of the agent''s environment taken out. instance: which of its processes wrote them, shown as the container''s name. A batch_id that was stored before is answered as then, with duplicate true. Errors: PERMISSION_DENIED 403, AGENT_NOT_FOUND 404, VALIDATION_ERROR 400.';

-- Figures --------------------------------------------------------------------------------------------------------

create table public.agent_reports (
  agent_id uuid not null references public.agents (id) on delete cascade,
  instance text not null,
  user_id uuid not null references auth.users (id) on delete cascade,
  timestamp timestamptz not null,
  received_at timestamptz not null default now(),
  requests_total bigint,
  requests_failed bigint,
  requests_per_minute double precision,
  error_rate double precision,
  response_time_ms double precision,
  checks jsonb not null default '[]',
  window_began timestamptz,
  window_total bigint,
  window_failed bigint,
  next_began timestamptz,
  next_total bigint,
  next_failed bigint,
  primary key (agent_id, instance)
);
comment on table public.agent_reports is 'What each instance of an agent last reported of its requests; written by report_metrics.';
comment on column public.agent_reports.instance is 'Which of the agent''s processes, as it says itself; empty when it does not.';
comment on column public.agent_reports.requests_total is 'Requests served since the instance started; a counter.';
comment on column public.agent_reports.requests_failed is 'Of these the failed ones; a counter.';
comment on column public.agent_reports.requests_per_minute is 'Of late: as reported, else from the counters of the last one to two minutes.';
comment on column public.agent_reports.error_rate is 'Failed requests per request, 0 to 1; as reported, else from the counters.';
comment on column public.agent_reports.window_began is
  'Since when rates are taken from the counters, which then were window_total and window_failed. Once next_began is a minute ago it takes its place.';
comment on column public.agent_reports.checks is '[{name, status: passing | failing, response_time_ms | null}].';
create index agent_reports_user_id_idx on public.agent_reports (user_id);

create function private.reported_figures(
  agent_id uuid, moment timestamptz,
  out instances integer, out requests_total bigint, out requests_failed bigint, out requests_per_minute double precision,
  out error_rate double precision, out response_time_ms double precision
) returns record
language sql stable security definer
set search_path = ''
as $$
  -- Rates weigh by requests, over the instances that say how many they have; when none does, all weigh the same.
  select count(*), sum(r.requests_total), sum(r.requests_failed), sum(r.requests_per_minute),
    coalesce(
      sum(r.error_rate * r.requests_per_minute) / nullif(sum(r.requests_per_minute) filter (where r.error_rate is not null), 0),
      avg(r.error_rate)),
    coalesce(
      sum(r.response_time_ms * r.requests_per_minute) / nullif(sum(r.requests_per_minute) filter (where r.response_time_ms is not null), 0),
      avg(r.response_time_ms))
  from public.agent_reports r
  where r.agent_id = reported_figures.agent_id and r.received_at <= moment + interval '5 minutes'
    and r.received_at > moment - make_interval(secs => (private.setting('reports', 'fresh_seconds'))::double precision);
$$;
comment on function private.reported_figures is
  'What the instances of an agent say of its requests around a time, together; nulls when none has reported freshly. Definer: runs for the worker and within reads that checked the right.';

create function private.reported_now(agent_id uuid) returns jsonb
language sql stable
set search_path = ''
as $$
  -- The figures are found by a definer; the rows themselves say whether the caller may see them.
  select case when f.instances > 0 and exists (select from public.agent_reports r where r.agent_id = reported_now.agent_id) then to_jsonb(f) || jsonb_build_object('checks', (
    select coalesce(jsonb_agg(c.worst order by c.name), '[]') from (
      select distinct on (e.value ->> 'name') e.value ->> 'name' as name, e.value as worst
      from public.agent_reports r cross join jsonb_array_elements(r.checks) e
      where r.agent_id = reported_now.agent_id
        and r.received_at > now() - make_interval(secs => (private.setting('reports', 'fresh_seconds'))::double precision)
      order by e.value ->> 'name', e.value ->> 'status', (e.value ->> 'response_time_ms')::numeric desc nulls last
    ) c
  )) end
  from private.reported_figures(reported_now.agent_id, now()) f;
$$;
comment on function private.reported_now is
  'Fresh reports of an agent → {instances, requests_total, requests_failed, requests_per_minute, error_rate, response_time_ms, checks (of each name the worst)}, or null.';

create function private.add_reports() returns trigger
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  said record;
begin
  select * into said from private.reported_figures(new.agent_id, new.timestamp);
  if said.instances > 0 then
    if said.requests_total is not null then
      -- Both counters from one hand.
      new.requests_total := said.requests_total;
      new.requests_failed := said.requests_failed;
    end if;
    new.requests_per_minute := coalesce(said.requests_per_minute, new.requests_per_minute);
    new.error_rate := coalesce(said.error_rate, new.error_rate);
    new.response_time_ms := coalesce(said.response_time_ms, new.response_time_ms);
  end if;
  return new;
end;
$$;
comment on function private.add_reports is 'A measurement has what the agent reports of its requests, as far as it does; else what its health endpoint said. Definer: reads reports for the worker.';
create trigger agent_metrics_add_reports before insert on public.agent_metrics
  for each row execute function private.add_reports();

create function private.metric_faults(metrics jsonb) returns jsonb
language sql stable security definer
set search_path = ''
as $$
  select jsonb_object_agg(f.field, f.fault) from (
    select c.field, c.fault from (
      values ('timestamp', private.report_time_fault(metrics -> 'timestamp')),
        ('requests_total', private.number_in_report_fault(metrics -> 'requests_total', 1e15, true)),
        ('requests_failed', coalesce(
          private.number_in_report_fault(metrics -> 'requests_failed', 1e15, true),
          case
            when jsonb_typeof(metrics -> 'requests_failed') is distinct from 'number' then null
            when coalesce(jsonb_typeof(metrics -> 'requests_total'), 'null') = 'null' then 'needs requests_total beside it'
            when jsonb_typeof(metrics -> 'requests_total') = 'number'
              and (metrics -> 'requests_failed')::numeric > (metrics -> 'requests_total')::numeric
              then 'must not be more than requests_total'
          end)),
        ('requests_per_minute', private.number_in_report_fault(metrics -> 'requests_per_minute', 1e9, false)),
        ('error_rate', private.number_in_report_fault(metrics -> 'error_rate', 1, false)),
        ('response_time_ms', private.number_in_report_fault(metrics -> 'response_time_ms', 1e9, false)),
        ('checks', case when coalesce(jsonb_typeof(metrics -> 'checks'), 'null') not in ('null', 'array')
          or jsonb_typeof(metrics -> 'checks') = 'array' and jsonb_array_length(metrics -> 'checks') > 20
          then 'must be a list of at most 20' end)
    ) c (field, fault)
    union all
    select left(k.key, 50), 'is not known' from jsonb_object_keys(metrics) k (key)
    where k.key not in ('timestamp', 'requests_total', 'requests_failed', 'requests_per_minute', 'error_rate', 'response_time_ms', 'checks')
    union all
    select format('checks.%s.%s', e.position - 1, c.field), c.fault
    from jsonb_array_elements(case when jsonb_typeof(metrics -> 'checks') = 'array' then metrics -> 'checks' else '[]' end)
      with ordinality e (item, position)
    cross join lateral (values
      ('name', private.text_fault(e.item -> 'name', 1, 100)),
      ('status', case when coalesce(e.item ->> 'status', '') not in ('passing', 'failing') then 'must be passing or failing' end),
      ('response_time_ms', private.number_in_report_fault(e.item -> 'response_time_ms', 1e9, false))
    ) c (field, fault)
  ) f where f.fault is not null;
$$;
comment on function private.metric_faults is 'All that is wrong with reported figures → {field: fault}. Definer: reads settings.';

create function private.report_metrics(agent_id uuid, metrics jsonb, instance text) returns jsonb
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  target public.agents := private.reporting_agent(agent_id);
  place constant text := coalesce(trim(instance), '');
  cadence constant double precision := (private.setting('collection', 'metrics_seconds'))::double precision;
  fresh constant interval := make_interval(secs => (private.setting('reports', 'fresh_seconds'))::double precision);
  before public.agent_reports;
  said public.agent_reports;
  latest public.agent_metrics_latest;
  served bigint;
begin
  if jsonb_typeof(metrics) is distinct from 'object' then
    perform private.refuse_report('{"metrics": "must be an object"}');
  end if;
  perform private.refuse_report(coalesce(private.metric_faults(metrics), '{}')
    || case when char_length(place) > 200 then '{"instance": "must be at most 200 characters"}' else '{}' end::jsonb
    || case when metrics - 'timestamp' = '{}' then '{"metrics": "must have at least one figure"}' else '{}' end::jsonb);

  said.agent_id := target.id;
  said.instance := place;
  said.user_id := target.user_id;
  said.timestamp := coalesce((metrics ->> 'timestamp')::timestamptz, clock_timestamp());
  said.received_at := clock_timestamp();
  said.requests_total := (metrics ->> 'requests_total')::numeric::bigint;
  said.requests_failed := (metrics ->> 'requests_failed')::numeric::bigint;
  said.requests_per_minute := (metrics ->> 'requests_per_minute')::double precision;
  said.error_rate := (metrics ->> 'error_rate')::double precision;
  said.response_time_ms := (metrics ->> 'response_time_ms')::double precision;
  said.checks := private.redact_report(target.id, (
    select coalesce(jsonb_agg(jsonb_build_object('name', e.item ->> 'name', 'status', e.item ->> 'status', 'response_time_ms', e.item -> 'response_time_ms')
      order by e.position), '[]')
    from jsonb_array_elements(coalesce(nullif(metrics -> 'checks', 'null'), '[]')) with ordinality e (item, position)
  ));

  -- Reports of one agent come one after the other: each reads what all have said.
  perform pg_advisory_xact_lock(hashtextextended('agent_reports:' || target.id::text, 0));
  select * into before from public.agent_reports r where r.agent_id = target.id and r.instance = place;
  if before.timestamp >= said.timestamp then
    return jsonb_build_object('agent_id', target.id, 'stored', false, 'reported', private.reported_now(target.id));
  end if;
  if before.agent_id is null and (
    select count(*) from public.agent_reports r where r.agent_id = target.id and r.received_at > said.received_at - fresh
  ) >= (private.setting('reports', 'max_instances'))::int then
    perform private.raise_error('RESOURCE_LIMIT_EXCEEDED', 'Too many instances report for this agent.',
      jsonb_build_object('limit', private.setting('reports', 'max_instances')), 429, 'Report under a name that stays the same.');
  end if;
  if before.requests_total <= said.requests_total then
    -- Over a minute or two, whatever the pace of the reports: a burst between two measurements is seen by the next one.
    if before.next_began <= said.timestamp - interval '1 minute' then
      select before.next_began, before.next_total, before.next_failed, said.timestamp, said.requests_total, said.requests_failed
      into said.window_began, said.window_total, said.window_failed, said.next_began, said.next_total, said.next_failed;
    else
      select before.window_began, before.window_total, before.window_failed, before.next_began, before.next_total, before.next_failed
      into said.window_began, said.window_total, said.window_failed, said.next_began, said.next_total, said.next_failed;
    end if;
    served := said.requests_total - said.window_total;
    said.requests_per_minute := coalesce(said.requests_per_minute, served * 60 / extract(epoch from said.timestamp - said.window_began));
    said.error_rate := coalesce(said.error_rate,
      case when served > 0 and said.requests_failed >= said.window_failed
        then least(1, (said.requests_failed - said.window_failed) / served::double precision) end);
  elsif said.requests_total is not null then
    -- The first report, or a counter that fell, as it does with a restart: nothing can be said of the time before.
    select said.timestamp, said.requests_total, said.requests_failed, said.timestamp, said.requests_total, said.requests_failed
    into said.window_began, said.window_total, said.window_failed, said.next_began, said.next_total, said.next_failed;
  end if;
  delete from public.agent_reports r where r.agent_id = target.id and (r.instance = place or r.received_at < said.received_at - interval '1 day');
  insert into public.agent_reports values (said.*);

  -- The next measurement has these figures in it. Where nothing measures the agent, the report is the measurement.
  select * into latest from public.agent_metrics_latest l where l.agent_id = target.id;
  if latest.timestamp > said.received_at - make_interval(secs => cadence)
    or latest.metrics ->> 'memory_usage' is not null and latest.timestamp > said.received_at - make_interval(secs => greatest(30, 3 * cadence))
  then
    update public.agent_metrics_latest l set metrics = l.metrics || jsonb_strip_nulls(to_jsonb(f) - 'instances')
    from private.reported_figures(target.id, said.received_at) f
    where l.agent_id = target.id;
  else
    insert into public.agent_metrics (agent_id, user_id, timestamp, replicas)
    select target.id, target.user_id, said.received_at, f.instances from private.reported_figures(target.id, said.received_at) f;
  end if;
  perform private.note_activity(target.id);
  return jsonb_build_object('agent_id', target.id, 'stored', true, 'reported', private.reported_now(target.id));
end;
$$;
comment on function private.report_metrics is 'See public.report_metrics. Definer: clients write no measurements.';

create function public.report_metrics(agent_id uuid, metrics jsonb, instance text default '') returns jsonb
language sql volatile
set search_path = ''
as $$
  select private.report_metrics(report_metrics.agent_id, report_metrics.metrics, report_metrics.instance);
$$;
comment on function public.report_metrics is
  'Takes figures of an agent''s requests, any of {requests_total, requests_failed (counters since the process started), requests_per_minute, error_rate (0–1), response_time_ms (of late), checks [{name, status: passing | failing, response_time_ms}], timestamp} → {agent_id, stored, reported {instances, …the figures of all instances together}}. Rates that are not given follow from the counters of the last one to two minutes. The last report of each instance counts, for reports.fresh_seconds, and then goes before what the health endpoint says; an older or repeated one is not stored. Errors: PERMISSION_DENIED 403, AGENT_NOT_FOUND 404, VALIDATION_ERROR 400, RESOURCE_LIMIT_EXCEEDED 429.';

-- Status ---------------------------------------------------------------------------------------------------------

create function private.report_status(agent_id uuid, status text) returns jsonb
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  target public.agents := private.reporting_agent(agent_id);
begin
  if coalesce(report_status.status, '') not in ('idle', 'thinking', 'responding', 'error', 'offline') then
    perform private.refuse_report('{"status": "must be one of idle, thinking, responding, error, offline"}');
  end if;
  update public.agents a set status = report_status.status, last_activity_at = now()
  where a.id = target.id and a.status in ('idle', 'thinking', 'responding', 'error', 'offline', 'updated', 'deployed')
  returning * into target;
  if target.id is null then
    select a.* into target from public.agents a where a.id = report_status.agent_id;
    perform private.raise_error('INVALID_STATE', format('The agent is %s: the system sets its status now.', target.status),
      jsonb_build_object('status', target.status), 409, 'Report again when the operation is over.');
  end if;
  return jsonb_build_object('agent_id', target.id, 'status', target.status, 'last_activity_at', target.last_activity_at);
end;
$$;
comment on function private.report_status is 'See public.report_status. Definer: the key of an agent may not write agents.';

create function public.report_status(agent_id uuid, status text) returns jsonb
language sql volatile
set search_path = ''
as $$
  select private.report_status(report_status.agent_id, report_status.status);
$$;
comment on function public.report_status is
  'Sets what an agent is doing: idle, thinking, responding, error or offline → {agent_id, status, last_activity_at}. Never over a status that the system has set, but deployed. Errors: PERMISSION_DENIED 403, AGENT_NOT_FOUND 404, VALIDATION_ERROR 400, INVALID_STATE 409 while it is queued, deploying, scaling, updating, restarting, stopping, stopped or failed.';

-- Conversations --------------------------------------------------------------------------------------------------

create table public.agent_conversations (
  id uuid not null default gen_random_uuid(),
  agent_id uuid not null,
  user_id uuid not null,
  conversation_id text not null,
  timestamp timestamptz not null,
  role text not null,
  sender text,
  content text not null,
  platform text,
  metadata jsonb not null default '{}',
  received_at timestamptz not null default now(),
  primary key (agent_id, timestamp, id),
  constraint role_is_known check (role in ('user', 'assistant', 'system', 'tool'))
) partition by range (timestamp);
comment on table public.agent_conversations is
  'Messages that agents exchanged, as they report them; kept retention.conversations_days. Personal data: gone with the agent. Filter by agent_id: that is what is indexed.';
comment on column public.agent_conversations.conversation_id is 'Which conversation, as the platform names it: a channel, a thread, a chat.';
comment on column public.agent_conversations.role is 'user, assistant, system or tool.';
comment on column public.agent_conversations.sender is 'Who said it, as the platform names them.';
create index agent_conversations_conversation_idx on public.agent_conversations (agent_id, conversation_id, timestamp desc);
insert into private.partitioned_tables (table_name, span, retention_key) values ('agent_conversations', '7 days', 'conversations_days');
select private.ensure_partitions(now() - interval '7 days', '16 days');

create function private.message_faults(messages jsonb) returns jsonb
language sql stable security definer
set search_path = ''
as $$
  select jsonb_object_agg(f.at, f.fault) from (
    select format('messages.%s%s', e.position - 1, c.field) as at, c.fault
    from jsonb_array_elements(messages) with ordinality e (message, position)
    cross join lateral (
      values ('', case when jsonb_typeof(e.message) <> 'object' then 'must be an object' end),
        ('.id', case
          when coalesce(jsonb_typeof(e.message -> 'id'), 'null') = 'null' then null
          when not pg_input_is_valid(e.message ->> 'id', 'uuid') then 'must be a UUID'
          when e.message ->> 'timestamp' is null then 'needs the timestamp beside it'
        end),
        ('.timestamp', private.report_time_fault(e.message -> 'timestamp')),
        ('.role', case when coalesce(e.message ->> 'role', '') not in ('user', 'assistant', 'system', 'tool')
          then 'must be one of user, assistant, system, tool' end),
        ('.content', private.text_fault(e.message -> 'content', 1, 65536)),
        ('.sender', private.text_fault(e.message -> 'sender', 0, 200)),
        ('.metadata', private.object_fault(e.message -> 'metadata', 16384))
      union all
      select '.' || left(k.key, 50), 'is not known'
      from jsonb_object_keys(case when jsonb_typeof(e.message) = 'object' then e.message else '{}' end) k (key)
      where k.key not in ('id', 'timestamp', 'role', 'content', 'sender', 'metadata')
    ) c (field, fault)
    where c.fault is not null
    order by e.position limit 50
  ) f;
$$;
comment on function private.message_faults is 'All that is wrong with reported messages, at most 50 faults → {messages.N.field: fault}. Definer: reads settings.';

create function private.report_conversation(agent_id uuid, conversation_id text, messages jsonb, platform text, batch_id text) returns jsonb
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  target public.agents := private.reporting_agent(agent_id);
  most constant integer := (private.setting('reports', 'max_messages'))::int;
  answer jsonb := private.begin_batch(target.id, 'conversations', batch_id);
  faults jsonb := '{}';
  stored integer;
begin
  if answer is not null then
    return answer;
  end if;
  if coalesce(char_length(trim(conversation_id)), 0) not between 1 and 200 then
    faults := faults || '{"conversation_id": "must be 1 to 200 characters"}';
  end if;
  if platform is not null and platform !~ '^[a-z0-9][a-z0-9_-]{0,49}$' then
    faults := faults || '{"platform": "must be a name such as discord, telegram, twitter"}';
  end if;
  faults := faults || private.list_faults(messages, 'messages', most);
  if not faults ? 'messages' then
    faults := faults || coalesce(private.message_faults(messages), '{}');
  end if;
  perform private.refuse_report(faults);

  insert into public.agent_conversations (id, agent_id, user_id, conversation_id, timestamp, role, sender, content, platform, metadata)
  select coalesce((e.message ->> 'id')::uuid, gen_random_uuid()), target.id, target.user_id, trim(report_conversation.conversation_id),
    -- Those without a time follow each other in the order given.
    coalesce((e.message ->> 'timestamp')::timestamptz, now() + e.position * interval '1 microsecond'),
    e.message ->> 'role', nullif(e.message ->> 'sender', ''), e.message ->> 'content', report_conversation.platform,
    case when jsonb_typeof(e.message -> 'metadata') = 'object' then e.message -> 'metadata' else '{}' end
  from jsonb_array_elements(private.redact_report(target.id, messages)) with ordinality e (message, position)
  order by e.position
  on conflict do nothing;
  get diagnostics stored = row_count;
  perform private.note_activity(target.id);
  return private.end_batch(target.id, 'conversations', batch_id, jsonb_build_object('agent_id', target.id,
    'conversation_id', trim(report_conversation.conversation_id), 'accepted', stored, 'already_known', jsonb_array_length(messages) - stored));
end;
$$;
comment on function private.report_conversation is 'See public.report_conversation. Definer: clients write no conversations.';

create function public.report_conversation(
  agent_id uuid, conversation_id text, messages jsonb, platform text default null, batch_id text default null
) returns jsonb
language sql volatile
set search_path = ''
as $$
  select private.report_conversation(report_conversation.agent_id, report_conversation.conversation_id, report_conversation.messages,
    report_conversation.platform, report_conversation.batch_id);
$$;
comment on function public.report_conversation is
  'Stores messages of a conversation: 1 to reports.max_messages of {role (user, assistant, system, tool), content (1–65,536 characters), sender, timestamp (default now), id (UUID, with the timestamp: sent again it is stored once), metadata (object, 16 KiB)} → {agent_id, conversation_id, accepted, already_known, duplicate}. All or none: every bad message is named. Values of the agent''s environment are taken out. batch_id as report_logs. Errors: PERMISSION_DENIED 403, AGENT_NOT_FOUND 404, VALIDATION_ERROR 400.';

-- Erasure and retention ------------------------------------------------------------------------------------------

create function private.erase_reports(agent_id uuid) returns void
language sql volatile security definer
set search_path = ''
as $$
  delete from public.agent_logs l where l.agent_id = erase_reports.agent_id;
  delete from public.agent_conversations c where c.agent_id = erase_reports.agent_id;
  delete from public.agent_reports r where r.agent_id = erase_reports.agent_id;
  delete from private.report_batches b where b.agent_id = erase_reports.agent_id;
  -- Not revoked but gone: the last words of its containers are no misuse of a key.
  delete from public.api_keys k where k.agent_id = erase_reports.agent_id;
$$;
comment on function private.erase_reports is
  'Removes logs, conversations, reports and keys of an agent that is being deleted. Definer: called by what deletes agents, which checked the right.';

create function private.forget_reports() returns void
language sql volatile security definer
set search_path = ''
as $$
  delete from private.report_batches b
  where b.received_at < now() - make_interval(hours => (private.setting('reports', 'batch_hours'))::int);
  delete from public.agent_reports r where r.received_at < now() - interval '1 day';
$$;
comment on function private.forget_reports is 'Removes what reports leave behind when it is no longer needed. Definer: runs from cron.';
select cron.schedule('forget-reports', '37 * * * *', 'select private.forget_reports()');

-- Grants and policies --------------------------------------------------------------------------------------------

grant execute on function private.report_logs, private.report_metrics, private.report_status, private.report_conversation
  to authenticated, service_role, agent_reporter;
grant execute on function public.report_logs, public.report_metrics, public.report_status, public.report_conversation
  to authenticated, service_role, agent_reporter;
grant execute on function private.reported_figures, private.reported_now to authenticated, service_role;

grant select, delete on public.agent_reports, public.agent_conversations to service_role;
grant select on public.agent_reports to authenticated;
grant select, delete on public.agent_conversations to authenticated;
alter table public.agent_reports enable row level security;
alter table public.agent_conversations enable row level security;
create policy "Owners can read reports of their agents" on public.agent_reports
  for select to authenticated
  using (user_id >= (select private.owner_bound('monitoring:read', 'lowest')) and user_id <= (select private.owner_bound('monitoring:read', 'highest')));
-- By the right to change the agent: operators may see all agents, but not what people said to them.
create policy "Owners can read conversations of their agents" on public.agent_conversations
  for select to authenticated
  using (user_id >= (select private.owner_bound('agents:write', 'lowest')) and user_id <= (select private.owner_bound('agents:write', 'highest')));
create policy "Owners can delete conversations of their agents" on public.agent_conversations
  for delete to authenticated
  using (user_id >= (select private.owner_bound('agents:write', 'lowest')) and user_id <= (select private.owner_bound('agents:write', 'highest')));

alter publication supabase_realtime add table public.agent_conversations;
