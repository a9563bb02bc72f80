-- The profile of the signed-in user as one answer (seeds 001 and 002): what the auth service knows, what the application
-- knows, and what the user has stored.
--
-- Adds: user_profile and update_profile for clients, private.caller_permissions.
-- Mind: the address itself is changed by the auth service only: PUT /auth/v1/user has the new one confirmed. With an API key
-- there is no token to ask that with, so the api function sets it as administrators do.

create function private.caller_permissions() returns text[]
language sql stable security definer
set search_path = ''
as $$
  with held as (
    select unnest(private.permissions_of(p.role)) as permission from public.profiles p where p.id = (select auth.uid())
  ), given as (
    select unnest(k.permissions) as permission from public.api_keys k
    where k.id = ((select auth.jwt()) ->> 'api_key_id')::uuid and k.user_id = (select auth.uid())
      and k.revoked_at is null and k.expires_at > now()
  ), found as (
    select h.permission from held h
    where ((select auth.jwt()) ->> 'api_key_id') is null
      or exists (select from given g where g.permission in (h.permission, h.permission || '_all', split_part(h.permission, ':', 1) || ':*'))
    union
    select g.permission from given g
    where exists (select from held h where h.permission in (g.permission, g.permission || '_all', split_part(g.permission, ':', 1) || ':*'))
  )
  select coalesce(array_agg(f.permission order by f.permission), '{}') from found f;
$$;
comment on function private.caller_permissions is
  'Permissions that hold for this request: those of the role, narrowed to those of the API key. Definer: roles are not readable by clients.';

create function private.stored_bytes(owner uuid default null) returns bigint
language plpgsql stable security definer
set search_path = ''
as $$
declare
  total bigint;
begin
  -- A project may have no Storage; then nothing was measured.
  if to_regclass('storage.objects') is null then
    return null;
  end if;
  execute $query$
    select coalesce(sum((o.metadata ->> 'size')::bigint) filter (where jsonb_typeof(o.metadata -> 'size') = 'number'), 0)
    from storage.objects o where $1 is null or o.owner_id = $1::text
  $query$ into total using owner;
  return total;
end;
$$;
comment on function private.stored_bytes is
  'Bytes of the objects in Storage, of one owner or of all; null without Storage. Definer: clients see only what Storage''s own policies show.';

create function private.account() returns jsonb
language sql stable security definer
set search_path = ''
as $$
  select jsonb_build_object(
    'id', u.id, 'email', u.email, 'new_email', nullif(u.email_change, ''), 'role', u.role,
    'created_at', coalesce(u.created_at, p.created_at), 'last_sign_in_at', u.last_sign_in_at, 'app_metadata', coalesce(u.raw_app_meta_data, '{}'),
    'user_metadata', coalesce(u.raw_user_meta_data, '{}')
  )
  from auth.users u left join public.profiles p on p.id = u.id where u.id = (select auth.uid());
$$;
comment on function private.account is 'What the auth service knows of the caller. Definer: auth.users is closed to clients.';

create function private.merge_user_metadata(changes jsonb) returns void
language sql volatile security definer
set search_path = ''
as $$
  update auth.users u
  set raw_user_meta_data = (
      select coalesce(jsonb_object_agg(m.key, m.value), '{}')
      from jsonb_each(coalesce(u.raw_user_meta_data, '{}') || (merge_user_metadata.changes - 'permissions')) m
      where m.value <> 'null'
    ),
    updated_at = now()
  where u.id = (select auth.uid());
$$;
comment on function private.merge_user_metadata is
  'Merges into the caller''s user_metadata as PUT /auth/v1/user does: null removes. Definer: auth.users is not writable by clients.';

create function public.user_profile() returns jsonb
language plpgsql stable
set search_path = ''
as $$
declare
  account constant jsonb := private.account();
  profile public.profiles;
begin
  select * into profile from public.profiles p where p.id = (select auth.uid());
  if account is null or profile.id is null then
    perform private.raise_error('AUTHENTICATION_FAILED', 'There is no such user any more', '{"reason": "unknown user"}', 401);
  end if;
  return jsonb_build_object(
    'user', account || jsonb_build_object('user_metadata',
      (account -> 'user_metadata') || jsonb_build_object('permissions', to_jsonb(private.permissions_of(profile.role)))),
    'profile', jsonb_build_object(
      'username', profile.username, 'role', profile.role, 'permissions', to_jsonb(private.caller_permissions()),
      'notification_preferences', profile.notification_preferences,
      'agent_count', private.agent_count(), 'storage_used', private.stored_bytes(profile.id)
    )
  );
end;
$$;
comment on function public.user_profile is
  'The caller''s account and profile (seeds 001 and 002) → {user {id, email, new_email (waits for confirmation) | null, role, created_at, last_sign_in_at, app_metadata, user_metadata}, profile {username, role, permissions (of this request), notification_preferences, agent_count, storage_used (bytes) | null}}. Error: AUTHENTICATION_FAILED 401.';

create function private.agent_count() returns bigint
language sql stable security definer
set search_path = ''
as $$
  select count(*) from public.agents a where a.user_id = (select auth.uid()) and a.deleted_at is null;
$$;
comment on function private.agent_count is
  'Agents that the caller owns. Definer: an API key without agents:read belongs to somebody who has as many all the same.';

create function private.check_profile_changes(changes jsonb) returns boolean
language plpgsql stable
set search_path = ''
as $$
declare
  by_key constant boolean := ((select auth.jwt()) ->> 'api_key_id') is not null;
  account constant jsonb := private.account();
  preferences constant jsonb := check_profile_changes.changes -> 'notification_preferences';
  metadata constant jsonb := check_profile_changes.changes -> 'user_metadata';
  other_email constant boolean :=
    coalesce(lower(trim(check_profile_changes.changes ->> 'email')) is distinct from lower(account ->> 'email')
      and check_profile_changes.changes ->> 'email' is not null, false);
  faults jsonb := '{}';
begin
  if jsonb_typeof(check_profile_changes.changes) is distinct from 'object' then
    faults := '{"changes": "must be an object"}';
  else
    select faults || coalesce(jsonb_object_agg(k, 'is not known'), '{}') into faults
    from jsonb_object_keys(check_profile_changes.changes) k where k not in ('notification_preferences', 'user_metadata', 'email');
    if preferences is not null then
      faults := faults || private.preference_faults(preferences);
    end if;
    if metadata is not null and jsonb_typeof(metadata) <> 'object' then
      faults := faults || '{"user_metadata": "must be an object"}';
    elsif metadata is not null and octet_length(((account -> 'user_metadata') || metadata)::text) > 16384 then
      -- It travels in every access token.
      faults := faults || '{"user_metadata": "must be at most 16 KiB of JSON"}';
    end if;
  end if;
  if faults <> '{}' then
    perform private.raise_error('VALIDATION_ERROR', 'Invalid request parameters', faults, 400);
  end if;
  if check_profile_changes.changes <> '{}' then
    perform private.require_writing_key();
  end if;
  if by_key and metadata is not null then
    perform private.raise_error('PERMISSION_DENIED', 'An API key does not change the metadata of its owner.',
      '{"credential": "api_key"}', 403, 'Sign in and send the access token instead of the key.');
  end if;
  -- Whoever holds an address can have a new password sent there. A key that may write users could do as much anyway.
  if by_key and other_email and not private.has_permission('users:write') then
    perform private.raise_error(
      'PERMISSION_DENIED', 'An API key changes the email address of its owner only with the permission users:write.',
      '{"permission": "users:write", "credential": "api_key"}', 403,
      'Sign in and send the access token instead of the key, or use a key with this permission.'
    );
  end if;
  return other_email;
end;
$$;
comment on function private.check_profile_changes is
  'Whether the email among the changes of update_profile is another than the present one. Raises what update_profile does not allow, so that the api function can ask before it has Auth change an address: VALIDATION_ERROR 400, PERMISSION_DENIED 403.';

create function public.update_profile(changes jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
as $$
declare
  preferences constant jsonb := update_profile.changes -> 'notification_preferences';
  metadata constant jsonb := update_profile.changes -> 'user_metadata';
begin
  if private.check_profile_changes(update_profile.changes) then
    perform private.raise_error('VALIDATION_ERROR', 'Invalid request parameters',
      '{"email": "is changed by PUT /auth/v1/user, which has the new address confirmed"}', 400);
  end if;
  if preferences is not null then
    update public.profiles p set notification_preferences = p.notification_preferences || preferences
    where p.id = (select auth.uid());
  end if;
  if metadata is not null then
    perform private.merge_user_metadata(metadata);
  end if;
  return public.user_profile();
end;
$$;
comment on function public.update_profile is
  'Changes what is named of {notification_preferences, user_metadata} and merges it → user_profile(). An email may stand there only when it is the present one. user_metadata.permissions has no effect. Errors: VALIDATION_ERROR 400, PERMISSION_DENIED 403 (an API key does not change metadata), AUTHENTICATION_FAILED 401.';

grant execute on function
  private.caller_permissions, private.stored_bytes, private.account, private.merge_user_metadata, private.agent_count,
  private.check_profile_changes
  to authenticated;
grant execute on function public.user_profile, public.update_profile to authenticated;
