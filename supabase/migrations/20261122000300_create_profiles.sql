-- Profiles, roles and permissions: who a caller is and what they may do.
--
-- Adds: profiles (one per auth user), private.roles, the permission helpers that every policy asks, the
-- access-token hook and the triggers that keep a profile for each user.
-- Mind: `user_metadata.permissions` is shown to clients as the API references document it, and never read: users can
-- write it. The tables here are asked instead, so that a demotion holds at once.

create table public.profiles (
  id uuid primary key references auth.users (id) on delete cascade,
  username text not null,
  role text not null default 'user',
  notification_preferences jsonb not null default '{"email": true, "slack": false, "real_time": true, "security_alerts": true}',
  rate_limit jsonb,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint role_is_known check (role in ('user', 'operator', 'admin')),
  constraint username_is_short check (char_length(username) between 1 and 100),
  constraint notification_preferences_is_object check (jsonb_typeof(notification_preferences) = 'object'),
  constraint rate_limit_is_object check (rate_limit is null or jsonb_typeof(rate_limit) = 'object')
);
comment on table public.profiles is 'One row per user: display name, role and preferences.';
comment on column public.profiles.role is 'user, operator or admin. Only administrators change it.';
comment on column public.profiles.rate_limit is
  'Own request limits of this user, any of {window_limit, window_seconds, burst_limit, burst_seconds, query_limit, query_seconds}; null: those of the settings.';
create unique index profiles_username_key on public.profiles (lower(username));

create table private.roles (
  role text primary key,
  permissions text[] not null,
  -- 0 for the least; nobody gives a role above their own.
  rank integer not null unique,
  constraint permissions_are_scoped check (array_to_string(permissions, ' ') ~ '^([a-z_]+:([a-z_]+|\*)( |$))*$')
);
comment on table private.roles is
  'Permissions of each role. `area:*` stands for every permission of the area; `…_all` reaches the rows of other users.';
insert into private.roles (rank, role, permissions) values
  (0, 'user', '{agents:read, agents:write, containers:manage, monitoring:read}'),
  (1, 'operator', '{agents:read, agents:write, agents:read_all, containers:manage, containers:manage_all, monitoring:read, monitoring:read_all, clusters:read}'),
  (2, 'admin', '{agents:*, containers:*, monitoring:*, clusters:*, system:*, users:*}');

-- A policy that says `user_id = me or I may see all` cannot use the index on user_id. The same rule as a range of owners
-- can: for a user both ends are their own id, for an administrator the ends of all ids, without the permission null.
--
-- Every policy asks twice per statement. The body is one query for each case, because what PL/pgSQL costs here is not the
-- query (4 µs) but each further expression, which is set up anew in each transaction.
create function private.owner_bound(permission text, side text) returns uuid
language plpgsql stable security definer
set search_path = ''
as $$
declare
  claims constant jsonb := nullif(current_setting('request.jwt.claims', true), '')::jsonb;
begin
  if claims ->> 'api_key_id' is null then
    return (
      select case
        when r.permissions && array[permission || '_all', split_part(permission, ':', 1) || ':*'] then (case side
          when 'lowest' then '00000000-0000-0000-0000-000000000000' else 'ffffffff-ffff-ffff-ffff-ffffffffffff' end)::uuid
        when permission = any (r.permissions) then p.id
      end
      from public.profiles p join private.roles r on r.role = p.role
      where p.id = (claims ->> 'sub')::uuid
    );
  end if;
  return (
    select case
      when not k.permissions && reach.everywhere and permission <> all (k.permissions) then null
      when r.permissions && reach.everywhere and k.permissions && reach.everywhere then (case side
        when 'lowest' then '00000000-0000-0000-0000-000000000000' else 'ffffffff-ffff-ffff-ffff-ffffffffffff' end)::uuid
      when r.permissions && reach.everywhere or permission = any (r.permissions) then p.id
    end
    from public.profiles p
    join private.roles r on r.role = p.role
    join public.api_keys k on k.user_id = p.id
    cross join (select array[permission || '_all', split_part(permission, ':', 1) || ':*'] as everywhere) reach
    where p.id = (claims ->> 'sub')::uuid and k.id = (claims ->> 'api_key_id')::uuid
      and k.revoked_at is null and k.expires_at > now()
  );
end;
$$;
comment on function private.owner_bound is
  'Lowest or highest user id whose rows the caller reaches with a permission; null when none. A request with an API key reaches no further than the key. Definer: roles and keys are not readable by those they bind.';

create function private.reach(permission text) returns text
language plpgsql stable
set search_path = ''
as $$
declare
  highest constant uuid := private.owner_bound(permission, 'highest');
begin
  return case
    when highest is null then 'none'
    when highest = 'ffffffff-ffff-ffff-ffff-ffffffffffff' then 'all'
    else 'own'
  end;
end;
$$;
comment on function private.reach is 'How far the caller reaches with a permission: all, own or none.';

create function private.has_permission(permission text) returns boolean
language plpgsql stable
set search_path = ''
as $$
begin
  return private.owner_bound(permission, 'highest') is not null;
end;
$$;
comment on function private.has_permission is 'Whether the caller holds a permission, at least for their own rows.';

create function private.require_account() returns void
language plpgsql stable security definer
set search_path = ''
as $$
declare
  caller constant uuid := (select auth.uid());
begin
  if caller is not null and not exists (select from public.profiles p where p.id = caller) then
    perform private.raise_error('AUTHENTICATION_FAILED', 'There is no such user any more', '{"reason": "unknown user"}', 401, 'Sign in again.');
  end if;
end;
$$;
comment on function private.require_account is
  'Raises AUTHENTICATION_FAILED (401) for the token of a user who is gone: signing in again is what helps, and not a permission. Definer: a key of an agent reads no profiles.';

create function private.require_permission(permission text) returns text
language plpgsql stable
set search_path = ''
as $$
declare
  reached constant text := private.reach(permission);
begin
  if reached = 'none' then
    perform private.require_account();
    perform private.raise_error(
      'PERMISSION_DENIED',
      format('This needs the permission %s.', permission),
      jsonb_build_object('permission', permission), 403,
      'Ask an administrator for the permission, or use a credential that holds it.'
    );
  end if;
  return reached;
end;
$$;
comment on function private.require_permission is 'Reach of the caller with a permission (own or all); raises PERMISSION_DENIED (403) without it, AUTHENTICATION_FAILED (401) for a user who is gone.';

create function private.permissions_of(role text) returns text[]
language sql stable security definer
set search_path = ''
as $$
  select coalesce((select r.permissions from private.roles r where r.role = permissions_of.role), '{}');
$$;
comment on function private.permissions_of is 'Permissions of a role. Definer: the table is not readable by clients.';

create function public.my_permissions() returns text[]
language sql stable
set search_path = ''
as $$
  select private.permissions_of(p.role) from public.profiles p where p.id = (select auth.uid());
$$;
comment on function public.my_permissions is 'Permissions of the signed-in user, from their role.';

create function private.show_permissions() returns trigger
language plpgsql volatile security definer
set search_path = ''
as $$
begin
  new.raw_user_meta_data := coalesce(new.raw_user_meta_data, '{}') || jsonb_build_object('permissions',
    to_jsonb(private.permissions_of(coalesce((select p.role from public.profiles p where p.id = new.id), 'user'))));
  return new;
end;
$$;
comment on function private.show_permissions is
  'Keeps the permissions of a user where the API references show them, user_metadata.permissions, whatever was written there. Definer: runs as the auth service.';

create function private.create_profile() returns trigger
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  wanted text := left(coalesce(
    nullif(trim(new.raw_user_meta_data ->> 'username'), ''),
    nullif(split_part(new.email, '@', 1), ''), 'user'
  ), 80);
begin
  insert into public.profiles (id, username) values (new.id, wanted)
  on conflict do nothing;
  if not found then
    insert into public.profiles (id, username) values (new.id, wanted || '-' || left(new.id::text, 8))
    on conflict (id) do nothing;
  end if;
  return new;
end;
$$;
comment on function private.create_profile is 'Gives each new user a profile. Definer: runs as the auth service, which may not write public tables.';

create trigger show_permissions before insert or update of raw_user_meta_data on auth.users
  for each row execute function private.show_permissions();
create trigger create_profile after insert on auth.users
  for each row execute function private.create_profile();

create function private.show_role_change() returns trigger
language plpgsql volatile security definer
set search_path = ''
as $$
begin
  update auth.users u
  set raw_user_meta_data = coalesce(u.raw_user_meta_data, '{}')
    || jsonb_build_object('permissions', to_jsonb(private.permissions_of(new.role)))
  where u.id = new.id;
  return new;
end;
$$;
comment on function private.show_role_change is 'Keeps user_metadata.permissions in step with the role. Definer: auth.users is not writable by clients.';

create trigger profiles_touch_updated_at before update on public.profiles
  for each row execute function private.touch_updated_at();
create trigger profiles_show_role after update of role on public.profiles
  for each row when (old.role is distinct from new.role) execute function private.show_role_change();

create function private.preference_faults(preferences jsonb) returns jsonb
language sql immutable
set search_path = ''
as $$
  select case
    when jsonb_typeof(preferences) is distinct from 'object' then '{"notification_preferences": "must be an object"}'
    else coalesce((
      select jsonb_object_agg('notification_preferences.' || left(e.key, 50),
        case when e.key in ('email', 'slack', 'real_time', 'security_alerts') then 'must be true or false' else 'is not known' end)
      from jsonb_each(preferences) e
      where e.key not in ('email', 'slack', 'real_time', 'security_alerts') or jsonb_typeof(e.value) <> 'boolean'
    ), '{}')
  end;
$$;
comment on function private.preference_faults is
  'What is wrong with notification_preferences {email, slack, real_time, security_alerts: boolean} → {field: message}.';

create function private.take_preferences() returns trigger
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  given constant jsonb := new.raw_user_meta_data -> 'notification_preferences';
  chosen jsonb;
begin
  if jsonb_typeof(given) = 'object' and (tg_op = 'INSERT' or given is distinct from old.raw_user_meta_data -> 'notification_preferences') then
    -- What is no preference stays metadata: Auth takes anything there, and a sign-up must not fail for it.
    select coalesce(jsonb_object_agg(e.key, e.value), '{}') into chosen
    from jsonb_each(given) e where private.preference_faults(jsonb_build_object(e.key, e.value)) = '{}';
    update public.profiles p set notification_preferences = p.notification_preferences || chosen
    where p.id = new.id and not p.notification_preferences @> chosen;
  end if;
  return new;
end;
$$;
comment on function private.take_preferences is
  'Takes notification_preferences that a user writes into user_metadata at Auth (seed 002) over into the profile, where they are in force. Definer: runs as the auth service, which may not write public tables.';
-- By its name after create_profile.
create trigger take_preferences after insert or update of raw_user_meta_data on auth.users
  for each row execute function private.take_preferences();

create function private.guard_profile() returns trigger
language plpgsql volatile
set search_path = ''
as $$
declare
  faults jsonb := '{}';
begin
  if new.notification_preferences is distinct from old.notification_preferences then
    faults := private.preference_faults(new.notification_preferences);
  end if;
  if faults <> '{}' then
    perform private.raise_error('VALIDATION_ERROR', 'Invalid request parameters', faults, 400);
  end if;
  if current_user = 'authenticated'
    and (new.role is distinct from old.role or new.rate_limit is distinct from old.rate_limit)
  then
    perform private.require_permission('users:write');
  end if;
  return new;
end;
$$;
comment on function private.guard_profile is
  'Only administrators change roles and request limits (PERMISSION_DENIED, 403); preferences are switches that are known (VALIDATION_ERROR, 400).';

create trigger profiles_guard before update on public.profiles
  for each row execute function private.guard_profile();

create function private.custom_access_token_hook(event jsonb) returns jsonb
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  held text := (select p.role from public.profiles p where p.id = (event ->> 'user_id')::uuid);
  wait interval;
begin
  -- Whoever is signed in stays so.
  if event ->> 'authentication_method' is distinct from 'token_refresh' then
    wait := private.sign_in_wait((event ->> 'user_id')::uuid);
  end if;
  if wait is not null then
    return jsonb_build_object('error', jsonb_build_object('http_code', 429,
      'message', format('Rate limit exceeded: too many sign-ins within an hour. Try again in %s minutes.', ceil(extract(epoch from wait) / 60))));
  end if;
  perform private.count_auth_request((event ->> 'user_id')::uuid);
  if held is null then
    return jsonb_build_object('claims', event -> 'claims');
  end if;
  return jsonb_build_object('claims', (event -> 'claims') || jsonb_build_object(
    'user_role', held, 'permissions', to_jsonb(private.permissions_of(held))
  ));
end;
$$;
comment on function private.custom_access_token_hook is
  'Adds user_role and permissions to access tokens for the convenience of clients; no rule reads them. Counts the request to Auth, and refuses a sign-in beyond settings rate_limit.auth_limit with 429. Definer: called by the auth service.';

grant usage on schema private to supabase_auth_admin;
grant execute on function private.custom_access_token_hook to supabase_auth_admin;
grant execute on function
  private.owner_bound, private.reach, private.has_permission, private.require_account, private.require_permission,
  private.permissions_of, private.preference_faults
  to authenticated, service_role;
grant execute on function public.my_permissions to authenticated, service_role;

grant select, insert, update, delete on public.profiles to service_role;
grant select on private.roles to service_role;
grant select on public.profiles to authenticated;
grant update (username, notification_preferences, role, rate_limit) on public.profiles to authenticated;

alter table public.profiles enable row level security;
create policy "Users read their profile, administrators all" on public.profiles
  for select to authenticated
  using (id = (select auth.uid()) or (select private.has_permission('users:read')));
create policy "Users change their profile, administrators all" on public.profiles
  for update to authenticated
  using (id = (select auth.uid()) or (select private.has_permission('users:write')))
  with check (id = (select auth.uid()) or (select private.has_permission('users:write')));


create policy "Administrators read settings" on public.settings
  for select to authenticated using ((select private.has_permission('system:read')));
create policy "Administrators change settings" on public.settings
  for update to authenticated
  using ((select private.has_permission('system:write')))
  with check ((select private.has_permission('system:write')));
