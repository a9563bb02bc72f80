-- API keys (seeds 001 and 004): `alk_` + 192 random bits, shown once. The table keeps what may be shown; the digest
-- stands apart in `private`.
-- Mind: a request with a key runs as the key's owner, narrowed to the key's permissions by private.reach. Keys of agents
-- (api_keys.agent_id, create_agent_reports) run as a role that may report and nothing else.

create table public.api_keys (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null references auth.users (id) on delete cascade,
  label text not null,
  prefix text not null,
  role text not null,
  permissions text[] not null,
  rate_limit jsonb,
  made_by_key uuid references public.api_keys (id) on delete cascade,
  expires_at timestamptz not null,
  last_used_at timestamptz,
  revoked_at timestamptz,
  created_at timestamptz not null default now(),
  constraint role_is_known check (role in ('user', 'operator', 'admin')),
  constraint label_is_short check (char_length(label) between 1 and 100),
  constraint rate_limit_is_object check (rate_limit is null or jsonb_typeof(rate_limit) = 'object')
);
comment on table public.api_keys is 'API keys of users, without the secret. Made by generate_api_key, ended by revoke_api_key.';
comment on column public.api_keys.prefix is 'First characters of the key, to recognise it by.';
comment on column public.api_keys.rate_limit is
  'Own request limits of this key, any of {window_limit, window_seconds, burst_limit, burst_seconds}; null: those of the owner.';
comment on column public.api_keys.made_by_key is
  'The key whose holder made this one: it ends with that one at the latest, and is revoked with it.';
create index api_keys_user_id_idx on public.api_keys (user_id);
create index api_keys_made_by_key_idx on public.api_keys (made_by_key) where made_by_key is not null;

create table private.api_key_digests (
  key_id uuid primary key references public.api_keys (id) on delete cascade,
  digest bytea not null unique,
  constraint digest_is_sha256 check (octet_length(digest) = 32)
);
comment on table private.api_key_digests is
  'SHA-256 of each key. A fast hash is enough: with 192 random bits there is nothing to guess.';

create function private.default_key_expiry() returns timestamptz
language sql stable
set search_path = ''
as $$
  select now() + make_interval(days => (private.setting('api_keys', 'default_lifetime_days'))::int);
$$;
comment on function private.default_key_expiry is 'When a key ends that is made now without saying when.';

create function private.mint_api_key(owner uuid, label text, role text, permissions text[], expires_at timestamptz) returns jsonb
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  secret constant text := 'alk_' || encode(extensions.gen_random_bytes(24), 'hex');
  made public.api_keys;
begin
  insert into public.api_keys (user_id, label, prefix, role, permissions, expires_at)
  values (
    mint_api_key.owner, mint_api_key.label, left(secret, 12), mint_api_key.role, mint_api_key.permissions,
    coalesce(mint_api_key.expires_at, private.default_key_expiry())
  ) returning * into made;
  insert into private.api_key_digests (key_id, digest) values (made.id, extensions.digest(secret, 'sha256'));
  return jsonb_build_object(
    'api_key', secret, 'key_id', made.id, 'expires_at', made.expires_at, 'role', made.role,
    'permissions', to_jsonb(made.permissions), 'user_id', made.user_id
  );
end;
$$;
comment on function private.mint_api_key is
  'Makes a key, with the default lifetime when no expiry is given → {api_key, key_id, expires_at, role, permissions, user_id}. Definer: writes digests; callers checked the right.';

create function private.key_only_reads() returns boolean
language sql stable security definer
set search_path = ''
as $$
  select coalesce(bool_and(split_part(p.permission, ':', 2) like 'read%'), false)
  from public.api_keys k cross join unnest(k.permissions) p (permission)
  where k.id = ((select auth.jwt()) ->> 'api_key_id')::uuid;
$$;
comment on function private.key_only_reads is
  'Whether this request came with an API key whose permissions all are to read. Such a key changes nothing, also where no permission is asked for. Definer: the key of an agent reads no keys.';

create function private.require_writing_key() returns void
language plpgsql stable
set search_path = ''
as $$
begin
  if private.key_only_reads() then
    perform private.raise_error('PERMISSION_DENIED', 'An API key that may only read changes nothing.',
      '{"credential": "api_key"}', 403, 'Use an access token, or a key that may do more.');
  end if;
end;
$$;
comment on function private.require_writing_key is 'Raises PERMISSION_DENIED (403) for an API key that may only read.';

create function private.generate_api_key(
  label text, role text, permissions text[], expires_at timestamptz, email text, username text
) returns jsonb
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  owner uuid := (select auth.uid());
  maker public.api_keys;
  owner_role text;
  owner_name text;
  wanted_role text := lower(nullif(trim(generate_api_key.role), ''));
  wanted_email constant text := lower(nullif(trim(generate_api_key.email), ''));
  wanted_name constant text := lower(nullif(trim(generate_api_key.username), ''));
  granted text[];
  made jsonb;
begin
  if owner is null then
    perform private.raise_error('PERMISSION_DENIED', 'Sign in to make an API key.', null, 401);
  end if;
  -- The address says whose key it is, or else the name.
  if not exists (
    select from auth.users u join public.profiles p on p.id = u.id
    where u.id = owner and case
      when wanted_email is not null then lower(u.email) = wanted_email else coalesce(lower(p.username) = wanted_name, true) end
  ) then
    if not private.has_permission('users:write') then
      perform private.raise_error('PERMISSION_DENIED', 'A key for another user needs the permission users:write.',
        '{"permission": "users:write"}', 403, 'Leave username and email out for a key of your own.');
    end if;
    select u.id into owner from auth.users u join public.profiles p on p.id = u.id
    where case when wanted_email is not null then lower(u.email) = wanted_email else lower(p.username) = wanted_name end;
    if owner is null then
      perform private.raise_error('VALIDATION_ERROR', 'There is no such user.', case when wanted_email is not null
        then '{"email": "No user has this email address"}'::jsonb else '{"username": "No user has this name"}' end, 400);
    end if;
  end if;

  select p.role, p.username into owner_role, owner_name from public.profiles p where p.id = owner;
  if wanted_name <> lower(owner_name) then
    perform private.raise_error('VALIDATION_ERROR', 'The email address and the name are not of one user.',
      '{"username": "Is not the name of the user with this email address"}', 400);
  end if;
  wanted_role := coalesce(wanted_role, owner_role);
  if not exists (select from private.roles r where r.role = wanted_role) then
    perform private.raise_error('VALIDATION_ERROR', 'The role is not known.',
      jsonb_build_object('role', 'Role must be one of: user, operator, admin'), 400);
  end if;
  if (select r.rank from private.roles r where r.role = wanted_role)
    > coalesce((select r.rank from private.roles r where r.role = owner_role), -1)
  then
    perform private.raise_error('PERMISSION_DENIED', format('A key cannot have the role %s: its owner does not have it.', wanted_role),
      jsonb_build_object('role', wanted_role), 403, 'Ask for a role that the owner holds.');
  end if;

  granted := coalesce(generate_api_key.permissions, private.permissions_of(wanted_role));
  if exists (
    select from unnest(granted) p
    where not (array[p, split_part(p, ':', 1) || ':*'] && private.permissions_of(wanted_role))
  ) then
    perform private.raise_error('PERMISSION_DENIED', 'A key cannot hold a permission that its role lacks.',
      jsonb_build_object('permissions', to_jsonb(granted)), 403, 'Ask for permissions of the role, or leave them out.');
  end if;
  perform private.require_writing_key();
  -- A key may make keys, but none that can do more than itself, or for longer: else whoever found one would keep what it
  -- opened after it was revoked.
  select * into maker from public.api_keys k
  where k.id = (auth.jwt() ->> 'api_key_id')::uuid and k.revoked_at is null and k.expires_at > now()
  -- Who revokes it meanwhile waits, and then finds the new key too.
  for share;
  if auth.jwt() ->> 'api_key_id' is not null and (
    maker.id is null or generate_api_key.expires_at > maker.expires_at
    or exists (select from unnest(granted) p where not private.has_permission(p))
  ) then
    perform private.raise_error('PERMISSION_DENIED', 'A key cannot make a key that can do more than itself, or for longer.',
      jsonb_build_object('expires_at', maker.expires_at), 403, 'Sign in and make the key with the access token.');
  end if;
  if generate_api_key.expires_at <= now() then
    perform private.raise_error('VALIDATION_ERROR', 'The expiry lies in the past.',
      jsonb_build_object('expires_at', 'Expiry must lie in the future'), 400);
  end if;

  perform pg_advisory_xact_lock(hashtextextended('api_keys:' || owner::text, 0));
  if (
    select count(*) from public.api_keys k
    where k.user_id = owner and k.agent_id is null and k.revoked_at is null and k.expires_at > now()
  ) >= (private.setting('api_keys', 'max_per_user'))::int then
    perform private.raise_error('RESOURCE_LIMIT_EXCEEDED', 'This user holds the largest number of API keys.',
      jsonb_build_object('limit', private.setting('api_keys', 'max_per_user')), 429, 'Revoke a key that is not used any more.');
  end if;

  made := private.mint_api_key(owner, coalesce(nullif(trim(generate_api_key.label), ''), 'API key'), wanted_role, granted,
    coalesce(generate_api_key.expires_at, case when maker.id is not null then least(maker.expires_at, private.default_key_expiry()) end));
  if maker.id is not null then
    -- What binds the maker binds what it made.
    update public.api_keys k set made_by_key = maker.id, rate_limit = maker.rate_limit where k.id = (made ->> 'key_id')::uuid;
  end if;
  perform private.write_audit('api_key.create', 'api_key', made ->> 'key_id',
    jsonb_build_object('owner', owner, 'role', wanted_role, 'permissions', to_jsonb(granted)));
  return made;
end;
$$;
comment on function private.generate_api_key is 'See public.generate_api_key. Definer: writes digests, which no client reads.';

create function public.generate_api_key(
  label text default null, role text default null, permissions text[] default null,
  expires_at timestamptz default null, email text default null, username text default null
) returns jsonb
language sql volatile
set search_path = ''
as $$
  select private.generate_api_key(
    generate_api_key.label, generate_api_key.role, generate_api_key.permissions,
    generate_api_key.expires_at, generate_api_key.email, generate_api_key.username
  );
$$;
comment on function public.generate_api_key is
  'Makes an API key (seed 001) → {api_key, key_id, expires_at, role, permissions, user_id}. The key is shown this once. It is the caller''s, or of the user whom email or username names (both: the same one); naming another needs users:write. Role: the owner''s or lower. Made with a key it can do no more than that one and ends with it. Errors: PERMISSION_DENIED 403, VALIDATION_ERROR 400, RESOURCE_LIMIT_EXCEEDED 429.';

create function private.revoke_api_key(key_id uuid) returns jsonb
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  revoked public.api_keys;
  others integer;
begin
  update public.api_keys k set revoked_at = coalesce(k.revoked_at, now())
  where k.id = revoke_api_key.key_id
    and (k.user_id = (select auth.uid()) or private.has_permission('users:write'))
  returning * into revoked;
  if revoked.id is null then
    perform private.raise_error('API_KEY_NOT_FOUND', 'There is no such API key.', null, 404);
  end if;
  with recursive family as (
    select k.id from public.api_keys k where k.made_by_key = revoked.id
    union select k.id from public.api_keys k join family f on k.made_by_key = f.id
  )
  update public.api_keys k set revoked_at = now() where k.id in (select f.id from family f) and k.revoked_at is null;
  get diagnostics others = row_count;
  perform private.write_audit('api_key.revoke', 'api_key', revoked.id::text, jsonb_build_object('made_by_it', others));
  return to_jsonb(revoked);
end;
$$;
comment on function private.revoke_api_key is 'See public.revoke_api_key. Definer: clients may not update the table.';

create function public.revoke_api_key(key_id uuid) returns jsonb
language sql volatile
set search_path = ''
as $$
  select private.revoke_api_key(revoke_api_key.key_id);
$$;
comment on function public.revoke_api_key is 'Ends an API key at once, and all that were made with it → the key''s row. Error: API_KEY_NOT_FOUND 404.';

create function private.authenticate_api_key(token_digest bytea) returns jsonb
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  found_key jsonb;
begin
  select jsonb_build_object(
    'key_id', k.id, 'user_id', k.user_id, 'agent_id', k.agent_id, 'role', k.role, 'permissions', to_jsonb(k.permissions),
    'expires_at', k.expires_at, 'revoked_at', k.revoked_at, 'digest', encode(d.digest, 'hex'),
    -- Auth gives such a user no more tokens.
    'owner_barred', u.deleted_at is not null or coalesce(u.banned_until > now(), false)
  ) into found_key
  from private.api_key_digests d
  join public.api_keys k on k.id = d.key_id
  join auth.users u on u.id = k.user_id
  where d.digest = token_digest;

  if found_key is not null then
    update public.api_keys k set last_used_at = now()
    where k.id = (found_key ->> 'key_id')::uuid
      and (k.last_used_at is null or k.last_used_at < now() - interval '1 minute');
  end if;
  return found_key;
end;
$$;
comment on function private.authenticate_api_key is
  'Key with this SHA-256 digest → {key_id, user_id, agent_id (of an agent''s own key, else null), role, permissions, expires_at, revoked_at, owner_barred (banned, or deleted softly, in Supabase Auth), digest (hex)}, or null. Whoever calls it judges expiry, revocation and owner. Called by the api function only. Definer: digests are readable by nobody.';

create function private.guard_api_key() returns trigger
language plpgsql volatile
set search_path = ''
as $$
begin
  if new.rate_limit is distinct from old.rate_limit and current_user = 'authenticated' then
    perform private.require_permission('users:write');
  end if;
  return new;
end;
$$;
comment on function private.guard_api_key is 'Only administrators change the request limits of a key (PERMISSION_DENIED, 403).';
create trigger api_keys_guard before update on public.api_keys
  for each row execute function private.guard_api_key();

grant execute on function private.generate_api_key, private.revoke_api_key, private.key_only_reads, private.require_writing_key
  to authenticated, service_role;
grant execute on function public.generate_api_key, public.revoke_api_key to authenticated, service_role;
grant select, insert, update, delete on public.api_keys to service_role;
grant select on public.api_keys to authenticated;
grant update (label, rate_limit) on public.api_keys to authenticated;

alter table public.api_keys enable row level security;
create policy "Users read their API keys, administrators all" on public.api_keys
  for select to authenticated
  using (user_id = (select auth.uid()) or (select private.has_permission('users:read')));
create policy "Users rename their API keys, administrators all" on public.api_keys
  for update to authenticated
  using (user_id = (select auth.uid()) or (select private.has_permission('users:write')))
  with check (user_id = (select auth.uid()) or (select private.has_permission('users:write')));
