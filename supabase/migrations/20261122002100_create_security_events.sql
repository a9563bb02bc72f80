-- Security events (seeds 001 and 002): repeated sign-in failures with their lock-out, misused API keys, refused requests
-- and changes of policy, each written by what saw it.
--
-- Adds: security_events, list_security_events, the hook by which Supabase Auth reports password attempts, and the
-- functions and triggers that write events.
-- Mind: whoever causes events must not be able to fill the table with them. A lock-out is one event; what the api function
-- reports is one event per key or user and minute, which counts.

create table public.security_events (
  id uuid primary key default gen_random_uuid(),
  event_type text not null,
  severity text not null,
  user_id uuid references auth.users (id) on delete cascade,
  agent_id uuid,
  message text not null,
  timestamp timestamptz not null default clock_timestamp(),
  ip_address inet,
  user_agent text,
  details jsonb not null default '{}',
  automated_response jsonb,
  constraint event_type_is_upper_case check (event_type ~ '^[A-Z][A-Z_]*$'),
  constraint severity_is_known check (severity in ('LOW', 'MEDIUM', 'HIGH', 'CRITICAL')),
  constraint details_is_object check (jsonb_typeof(details) = 'object'),
  constraint automated_response_is_object check (automated_response is null or jsonb_typeof(automated_response) = 'object')
);
comment on table public.security_events is
  'What happened that bears on security: AUTH_FAILURE, API_KEY_MISUSE, PERMISSION_DENIED, RATE_LIMIT_REACHED, POLICY_CHANGE. Users read what concerns them, administrators all.';
comment on column public.security_events.user_id is 'Whom it concerns; null when that is nobody in particular.';
comment on column public.security_events.agent_id is 'Agent that it concerns; not a foreign key, because events outlive agents.';
comment on column public.security_events.ip_address is 'Address the request came from, as proxies told it; null when nobody did.';
comment on column public.security_events.automated_response is 'What was done about it: {action_taken, duration, until}; null: nothing.';

create index security_events_user_id_idx on public.security_events (user_id, timestamp desc);
-- On an expression for the reason that agents_age_idx gives.
create index security_events_age_idx on public.security_events ((timestamp at time zone 'UTC') desc);

insert into public.settings (category, key, value, description) values
  ('security', 'lockout_failures', '5', 'Failed sign-ins to an account from one address that lock that address out; 0: none do.'),
  ('security', 'lockout_failures_everywhere', '50', 'Failed sign-ins to an account from all addresses together that lock all of them out; 0: none do.'),
  ('security', 'lockout_window_seconds', '300', 'Time within which failed sign-ins count together.'),
  ('security', 'lockout_seconds', '900', 'Length of a lock-out.'),
  ('retention', 'security_events_days', '365', 'Days that security events are kept.');

create function private.security_bound(side text) returns uuid
language plpgsql stable
set search_path = ''
as $$
begin
  return coalesce(
    private.owner_bound('system:read', side),
    case when private.has_permission('monitoring:read') then (select auth.uid()) end
  );
end;
$$;
comment on function private.security_bound is
  'Lowest or highest user id whose security events the caller reads: with system:read all, with monitoring:read their own, else null.';

create function private.to_address(value text) returns inet
language plpgsql immutable
set search_path = ''
as $$
begin
  -- No expression: the planner would try the cast of a constant beforehand.
  if pg_input_is_valid(trim(value), 'inet') then
    return trim(value)::inet;
  end if;
  return null;
end;
$$;
comment on function private.to_address is 'Text as an address, null when it is none.';

create function private.write_security_event(
  event_type text, severity text, user_id uuid, message text, details jsonb default '{}', agent_id uuid default null,
  ip_address text default null, user_agent text default null, automated_response jsonb default null
) returns uuid
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  -- PostgREST leaves the headers of the request here.
  headers constant jsonb := coalesce(nullif(current_setting('request.headers', true), ''), '{}')::jsonb;
  written uuid;
begin
  insert into public.security_events as e (event_type, severity, user_id, agent_id, message, ip_address, user_agent, details, automated_response)
  values (
    write_security_event.event_type, write_security_event.severity,
    (select u.id from auth.users u where u.id = write_security_event.user_id),
    write_security_event.agent_id, write_security_event.message,
    private.to_address(coalesce(write_security_event.ip_address, split_part(headers ->> 'x-forwarded-for', ',', 1))),
    left(coalesce(write_security_event.user_agent, headers ->> 'user-agent'), 500),
    write_security_event.details, write_security_event.automated_response
  ) returning e.id into written;
  return written;
end;
$$;
comment on function private.write_security_event is 'Writes a security event → its id. Definer: nobody may write the table itself.';

-- Sign-in failures -----------------------------------------------------------------------------------------------

create table private.sign_in_failures (
  user_id uuid not null references auth.users (id) on delete cascade,
  -- Where the attempts came from; empty: all addresses together, those that nobody told among them.
  address text not null,
  failures integer not null,
  since timestamptz not null,
  locked_until timestamptz,
  primary key (user_id, address)
);
comment on table private.sign_in_failures is 'Failed sign-ins of late to each account, by address and over all. Deleting the rows of a user ends their lock-out.';

create function private.security_number(key text, fallback integer) returns integer
language sql stable
set search_path = ''
as $$
  select private.whole_number(private.setting('security', security_number.key), fallback);
$$;
comment on function private.security_number is 'A number of the settings of category security, or the fallback when it is none.';

create function private.duration_text(seconds integer) returns text
language sql immutable
set search_path = ''
as $$
  select case
    when seconds % 60 <> 0 then seconds || ' seconds'
    when seconds = 60 then '1 minute'
    else seconds / 60 || ' minutes'
  end;
$$;
comment on function private.duration_text is 'Seconds in words, as seed 002 writes them: 15 minutes.';

create function private.count_sign_in_failure(user_id uuid, address text, most integer) returns timestamptz
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  moment constant timestamptz := clock_timestamp();
  span constant integer := private.security_number('lockout_window_seconds', 300);
  pause constant integer := private.security_number('lockout_seconds', 900);
  counted private.sign_in_failures;
begin
  insert into private.sign_in_failures as f (user_id, address, failures, since)
  values (count_sign_in_failure.user_id, count_sign_in_failure.address, 1, moment)
  on conflict on constraint sign_in_failures_pkey do update set
    failures = case when f.since + make_interval(secs => span) <= moment then 1 else f.failures + 1 end,
    since = case when f.since + make_interval(secs => span) <= moment then moment else f.since end,
    locked_until = null
  returning * into counted;
  if most <= 0 or counted.failures < most then
    return null;
  end if;

  update private.sign_in_failures f
  set failures = 0, since = moment, locked_until = moment + make_interval(secs => pause)
  where f.user_id = count_sign_in_failure.user_id and f.address = count_sign_in_failure.address
  returning * into counted;
  return counted.locked_until;
end;
$$;
comment on function private.count_sign_in_failure is
  'Counts a failed sign-in to an account from an address (empty: from anywhere) → until when that is locked out if this was the last one allowed, else null. Definer: called by the auth service.';

create function private.password_verification_hook(event jsonb) returns jsonb
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  subject constant uuid := (event ->> 'user_id')::uuid;
  -- Older releases of Auth tell no address: then all attempts are from the same one.
  origin constant text := coalesce(host(private.to_address(event #>> '{metadata,ip_address}')), '');
  nearby constant integer := private.security_number('lockout_failures', 5);
  everywhere constant integer := private.security_number('lockout_failures_everywhere', 50);
  locked_until timestamptz;
  scope text := 'address';
  at_home boolean;
begin
  -- Attempts on one account wait for each other, so that many at once are no way around the count.
  perform pg_advisory_xact_lock(hashtextextended('sign_in:' || subject::text, 0));
  -- Where the user is signed in, failures from elsewhere do not lock them out: else anybody who knows an address could
  -- keep its owner out for good.
  at_home := exists (
    select from auth.sessions s
    where s.user_id = subject and host(s.ip) = origin and (s.not_after is null or s.not_after > now())
      and coalesce(s.refreshed_at at time zone 'UTC', s.created_at) > now() - interval '30 days'
  );
  select max(f.locked_until) into locked_until from private.sign_in_failures f
  where f.user_id = subject and (f.address = origin or f.address = '' and not at_home) and f.locked_until > clock_timestamp();

  if locked_until is not null or not (event ->> 'valid')::boolean then
    -- The others get a token, and the hook for that counts them.
    perform private.count_auth_request(subject, refused => true);
  end if;
  if locked_until is null then
    if (event ->> 'valid')::boolean then
      delete from private.sign_in_failures f where f.user_id = subject and f.address = origin;
      return '{"decision": "continue"}';
    end if;

    if origin <> '' then
      locked_until := private.count_sign_in_failure(subject, origin, nearby);
    end if;
    if (origin = '' or locked_until is null) and not at_home then
      scope := 'account';
      locked_until := private.count_sign_in_failure(subject, '', case when origin = '' then nearby else everywhere end);
    end if;
    if locked_until is null then
      return '{"decision": "continue"}';
    end if;
    perform private.write_security_event(
      'AUTH_FAILURE', case when scope = 'account' and origin <> '' then 'CRITICAL' else 'HIGH' end, subject,
      'Multiple authentication failures detected',
      jsonb_build_object(
        'failure_count', case when scope = 'account' and origin <> '' then everywhere else nearby end,
        'time_window', private.duration_text(private.security_number('lockout_window_seconds', 300)),
        -- An attempt that failed opened none.
        'supabase_session_id', null, 'scope', scope
      ),
      ip_address => origin,
      automated_response => jsonb_build_object(
        'action_taken', 'TEMPORARY_LOCKOUT', 'duration', private.duration_text(private.security_number('lockout_seconds', 900)),
        'until', locked_until
      )
    );
  end if;
  -- Sessions that are open stay: else strangers could end them by guessing.
  return jsonb_build_object(
    'decision', 'reject', 'should_logout_user', false,
    'message', format('Too many failed sign-ins. Try again in %s minutes.',
      greatest(1, ceil(extract(epoch from locked_until - clock_timestamp()) / 60))::integer)
  );
end;
$$;
comment on function private.password_verification_hook is
  'Hook of Supabase Auth (password_verification_attempt): refuses sign-ins while an account is locked out, and locks it after too many failures: for the address they came from, or for all of them when failures come from many, but for those where the user was signed in of late. Attempts made meanwhile do not lengthen it. Definer: called by the auth service.';

grant execute on function private.password_verification_hook to supabase_auth_admin;

-- What the api function reports ----------------------------------------------------------------------------------

create table private.security_signals (
  event_type text not null,
  -- key:<id> or user:<id>
  subject text not null,
  event_id uuid not null,
  since timestamptz not null,
  primary key (event_type, subject)
);
comment on table private.security_signals is 'The event to which further signals of the same kind from the same key or user are added for a minute.';

create function private.record_security_signals(signals jsonb) returns void
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  signal record;
  running private.security_signals;
  written uuid;
begin
  -- In the order of the key, so that two instances cannot wait for each other.
  for signal in
    select * from jsonb_to_recordset(signals) s (
      event_type text, severity text, subject text, user_id uuid, agent_id uuid, message text, count integer, details jsonb,
      ip_address text, user_agent text, automated_response jsonb
    ) order by s.event_type, s.subject
  loop
    perform pg_advisory_xact_lock(hashtextextended('signal:' || signal.event_type || signal.subject, 0));
    select * into running from private.security_signals s
    where s.event_type = signal.event_type and s.subject = signal.subject and s.since > clock_timestamp() - interval '1 minute';
    if running.event_id is not null then
      update public.security_events e
      set details = e.details || jsonb_build_object('count', (e.details ->> 'count')::integer + signal.count)
      where e.id = running.event_id;
    else
      written := private.write_security_event(signal.event_type, signal.severity, signal.user_id, signal.message,
        signal.details || jsonb_build_object('count', signal.count), signal.agent_id, signal.ip_address, signal.user_agent,
        signal.automated_response);
      insert into private.security_signals as s (event_type, subject, event_id, since)
      values (signal.event_type, signal.subject, written, clock_timestamp())
      on conflict on constraint security_signals_pkey do update set event_id = excluded.event_id, since = excluded.since;
    end if;
  end loop;
end;
$$;
comment on function private.record_security_signals is
  'Writes what an instance of the api function saw: [{event_type, severity, subject, user_id, agent_id, message, count, details, ip_address, user_agent, automated_response}]. One event per kind, subject and minute; what comes within it raises details.count. Definer: called by the api function.';

-- Changes of policy ----------------------------------------------------------------------------------------------

create function private.report_policy_change() returns trigger
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  subject constant jsonb := case when tg_op = 'DELETE' then to_jsonb(old) else to_jsonb(new) end;
  before constant jsonb := case when tg_op = 'UPDATE' then to_jsonb(old) end;
  change constant text := tg_argv[0];
  actor constant uuid := (select auth.uid());
  details jsonb := jsonb_build_object('change', change, 'actor_id', actor,
    'request_id', nullif(current_setting('launchpad.request_id', true), ''));
  concerned uuid := actor;
  severity text := 'HIGH';
  message text;
begin
  case change
    when 'role' then
      concerned := (subject ->> 'id')::uuid;
      message := format('The role changed from %s to %s', before ->> 'role', subject ->> 'role');
      details := details || jsonb_build_object('from', before -> 'role', 'to', subject -> 'role');
      if coalesce((select r.rank from private.roles r where r.role = subject ->> 'role'), 0)
        < coalesce((select r.rank from private.roles r where r.role = before ->> 'role'), 0)
      then
        severity := 'MEDIUM';
      end if;
    when 'setting' then
      message := format('The setting %s.%s changed', subject ->> 'category', subject ->> 'key');
      details := details || jsonb_build_object('category', subject -> 'category', 'key', subject -> 'key');
      if subject ->> 'category' <> 'security' then
        severity := 'MEDIUM';
      end if;
    when 'cluster_credential' then
      message := 'The credential of a cluster was set';
      details := details || jsonb_build_object('cluster_id', subject -> 'cluster_id');
    when 'admin_key' then
      concerned := (subject ->> 'user_id')::uuid;
      message := 'An API key with the role admin was made';
      details := details || jsonb_build_object('key_id', subject -> 'id', 'prefix', subject -> 'prefix');
    when 'email' then
      -- Whoever holds the address can have a new password sent there.
      concerned := (subject ->> 'id')::uuid;
      severity := 'MEDIUM';
      message := 'The email address of the account changed';
  end case;
  perform private.write_security_event('POLICY_CHANGE', severity, concerned, message, details);
  return null;
end;
$$;
comment on function private.report_policy_change is
  'Trigger: writes POLICY_CHANGE; the argument says of what (role, setting, cluster_credential, admin_key, email). Never with a secret, an address or the value of a setting. Definer: nobody may write the table itself.';

create trigger profiles_security after update of role on public.profiles
  for each row when (old.role is distinct from new.role) execute function private.report_policy_change('role');
create trigger settings_security_update after update of value on public.settings
  for each row when (old.value is distinct from new.value) execute function private.report_policy_change('setting');
create trigger settings_security_delete after delete on public.settings
  for each row execute function private.report_policy_change('setting');
create trigger cluster_credentials_security after insert or update of changed_at on private.cluster_credentials
  for each row execute function private.report_policy_change('cluster_credential');
create trigger api_keys_security after insert on public.api_keys
  for each row when (new.role = 'admin') execute function private.report_policy_change('admin_key');
create trigger users_security after update of email on auth.users
  for each row when (old.email is not null and old.email is distinct from new.email)
  execute function private.report_policy_change('email');

-- Reading --------------------------------------------------------------------------------------------------------

create function public.list_security_events(
  severity text default null, event_type text default null, since timestamptz default null, row_limit integer default 50
) returns jsonb
language plpgsql stable
set search_path = ''
as $$
declare
  highest constant uuid := private.security_bound('highest');
  caller constant uuid := (select auth.uid());
  page jsonb;
  total bigint;
begin
  if highest is null then
    perform private.require_permission('monitoring:read');
  end if;
  if row_limit is null or row_limit not between 1 and 500 then
    perform private.raise_error('VALIDATION_ERROR', 'Invalid request parameters', '{"limit": "limit must be from 1 to 500"}', 400);
  end if;
  -- Two branches with plans of their own: one plan for both could not use an index.
  if highest = caller then
    select coalesce(jsonb_agg(to_jsonb(p)), '[]') into page from (
      select * from public.security_events e
      where e.user_id = caller
        and (list_security_events.severity is null or e.severity = list_security_events.severity)
        and (list_security_events.event_type is null or e.event_type = list_security_events.event_type)
        and (list_security_events.since is null or e.timestamp >= list_security_events.since)
      order by e.timestamp desc limit row_limit
    ) p;
    select count(*) into total from public.security_events e
    where e.user_id = caller
      and (list_security_events.severity is null or e.severity = list_security_events.severity)
      and (list_security_events.event_type is null or e.event_type = list_security_events.event_type)
      and (list_security_events.since is null or e.timestamp >= list_security_events.since);
  else
    select coalesce(jsonb_agg(to_jsonb(p)), '[]') into page from (
      select * from public.security_events e
      where (list_security_events.severity is null or e.severity = list_security_events.severity)
        and (list_security_events.event_type is null or e.event_type = list_security_events.event_type)
        and (list_security_events.since is null or (e.timestamp at time zone 'UTC') >= (list_security_events.since at time zone 'UTC'))
      order by (e.timestamp at time zone 'UTC') desc limit row_limit
    ) p;
    select count(*) into total from public.security_events e
    where (list_security_events.severity is null or e.severity = list_security_events.severity)
      and (list_security_events.event_type is null or e.event_type = list_security_events.event_type)
      and (list_security_events.since is null or (e.timestamp at time zone 'UTC') >= (list_security_events.since at time zone 'UTC'));
  end if;
  return jsonb_build_object('events', page, 'total', total);
end;
$$;
comment on function public.list_security_events is
  'Security events, the last ones first (seeds 001 and 002: GET /api/security/events) → {events: [row of security_events], total (all that fit)}. Own ones for monitoring:read, everybody''s for system:read. row_limit 1–500. Errors: PERMISSION_DENIED 403, VALIDATION_ERROR 400.';

grant execute on function private.security_bound to authenticated, service_role;
grant execute on function public.list_security_events to authenticated, service_role;
grant select, insert, update, delete on public.security_events to service_role;
grant select on public.security_events to authenticated;

alter table public.security_events enable row level security;
-- What concerns nobody in particular is in no range of owners.
create policy "Users read their security events, administrators all" on public.security_events
  for select to authenticated
  using (
    user_id between (select private.security_bound('lowest')) and (select private.security_bound('highest'))
    or (user_id is null and (select private.has_permission('system:read')))
  );

alter publication supabase_realtime add table public.security_events;

select cron.schedule('remove-security-events', '37 3 * * *', $$
  delete from public.security_events
  where (timestamp at time zone 'UTC') < (now() - make_interval(days => (private.setting('retention', 'security_events_days'))::int)) at time zone 'UTC'
$$);
select cron.schedule('forget-security-signals', '*/10 * * * *', $$
  delete from private.security_signals where since < now() - interval '1 minute';
  delete from private.sign_in_failures where since < now() - interval '1 day' and coalesce(locked_until, since) < now();
$$);
