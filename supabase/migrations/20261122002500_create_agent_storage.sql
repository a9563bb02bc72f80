-- Files of agents (seed 002: supabase_config.storage {bucket, public_access}). The bucket is shared by all agents that name
-- it and private; the folder {user_id}/{agent_id}/ in it is the agent's, and policies on storage.objects keep it apart.
--
-- Adds: agent_buckets; the trigger on agents that makes buckets and registers folders; the policies; the queue of folders
-- whose files the worker removes, which whoever has personal data to erase can use (private.queue_storage_removal).
-- Mind: SQL cannot remove files. Hosted projects refuse deletes from storage.objects, and a deleted row would leave its file.
-- On storage.* a hosted project lets role postgres write policies and rows, and nothing else: no trigger, no comment.

insert into public.settings (category, key, value, description) values
  ('storage', 'max_buckets_per_user', '10', 'Buckets that configurations of one user''s agents may make; those that are there already can be named by everybody.'),
  ('storage', 'removal_settle_seconds', '10800', 'How long after the removal of a folder it is looked at once more: an upload by a signed URL may begin two hours after it was signed.'),
  ('storage', 'removal_retry_max_seconds', '3600', 'Longest pause between two attempts at removing a folder. They never end: it is personal data.');

-- Registered folders ---------------------------------------------------------------------------------------------

create table private.agent_bucket_names (
  bucket_id text primary key,
  made_by uuid references auth.users (id) on delete set null,
  created_at timestamptz not null default now()
);
comment on table private.agent_bucket_names is 'Buckets that were made for agents. What is not here is the operator''s own and is never given to agents.';
create index agent_bucket_names_made_by_idx on private.agent_bucket_names (made_by);

create table public.agent_buckets (
  agent_id uuid not null references public.agents (id) on delete cascade,
  bucket_id text not null,
  user_id uuid not null references auth.users (id) on delete cascade,
  prefix text not null generated always as (user_id::text || '/' || agent_id::text || '/') stored,
  public_access boolean not null default false,
  retired_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint agent_buckets_pkey primary key (agent_id, bucket_id),
  constraint folders_are_apart unique (bucket_id, prefix),
  constraint retired_is_not_public check (retired_at is null or not public_access)
);
comment on table public.agent_buckets is 'Folders of agents in Storage. Written by the system as supabase_config.storage says.';
comment on column public.agent_buckets.prefix is 'Beginning of the names of the agent''s objects: {user_id}/{agent_id}/.';
comment on column public.agent_buckets.public_access is
  'Whether everybody may read the folder; through /object/authenticated/… or download(), for the bucket itself stays private.';
comment on column public.agent_buckets.retired_at is
  'The agent names another bucket since then: what is in this one can be read and removed by its owner, and nothing is added.';
create index agent_buckets_open_idx on public.agent_buckets (bucket_id) where public_access;
create index agent_buckets_user_id_idx on public.agent_buckets (user_id);
create unique index agent_buckets_one_in_use_idx on public.agent_buckets (agent_id) where retired_at is null;
create trigger agent_buckets_touch_updated_at before update on public.agent_buckets
  for each row execute function private.touch_updated_at();

create function private.storage_faults(config jsonb) returns jsonb
language sql immutable
set search_path = ''
as $$
  select case
    when coalesce(config -> 'storage', 'null') = 'null' then '{}'
    else
      -- As S3 has it, which Supabase is wider than: such a name stands in every URL as it is.
      case when config #>> '{storage,bucket}' ~ '^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$'
        and config #>> '{storage,bucket}' !~ '\.\.|^[0-9]+(\.[0-9]+){3}$|--iceberg$' then '{}'
      else '{"supabase_config.storage.bucket": "A bucket is named with 3 to 63 lower-case letters, digits, dots and hyphens, and begins and ends with a letter or digit"}' end::jsonb
      || case when coalesce(jsonb_typeof(config #> '{storage,public_access}'), 'null') in ('null', 'boolean') then '{}'
      else '{"supabase_config.storage.public_access": "public_access must be true or false"}' end::jsonb
  end;
$$;
comment on function private.storage_faults is 'Faults {field: message} of supabase_config.storage {bucket, public_access}, or {}.';

create function private.make_agent_bucket(bucket text, owner uuid) returns text
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  limit_per_user constant integer := coalesce((private.setting('storage', 'max_buckets_per_user'))::integer, 10);
  known boolean;
  is_public boolean;
begin
  if exists (select from private.agent_bucket_names n join storage.buckets b on b.id = n.bucket_id where b.id = bucket and not b.public) then
    return null;
  end if;
  -- Two agents may name a new bucket at once.
  perform pg_advisory_xact_lock(hashtextextended('agent_bucket:' || bucket, 0));
  known := exists (select from private.agent_bucket_names n where n.bucket_id = bucket);
  select b.public into is_public from storage.buckets b where b.id = bucket or b.name = bucket;
  if found and not known then
    return format('The bucket %s is there already and is not one for agents: choose another name', bucket);
  elsif is_public then
    return format('The bucket %s is public, and files of agents would be too: choose another name', bucket);
  elsif found then
    return null;
  end if;
  if not known then
    perform pg_advisory_xact_lock(hashtextextended('agent_buckets_of:' || owner::text, 0));
    if (select count(*) from private.agent_bucket_names n where n.made_by = owner) >= limit_per_user then
      return format('Your agents have made %s buckets, and more are not made: name one of those', limit_per_user);
    end if;
    insert into private.agent_bucket_names (bucket_id, made_by) values (bucket, owner);
  end if;
  insert into storage.buckets (id, name, public) values (bucket, bucket, false);
  return null;
end;
$$;
comment on function private.make_agent_bucket is
  'Makes the private bucket that an agent names unless it is there → why it cannot be used, or null. Definer: clients make no buckets.';

create function private.register_agent_bucket() returns trigger
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  bucket constant text := new.supabase_config #>> '{storage,bucket}';
  opened constant boolean := coalesce((new.supabase_config #> '{storage,public_access}') = 'true', false);
  fault text;
begin
  if new.status = 'deleting' or new.deleted_at is not null then
    delete from public.agent_buckets b where b.agent_id = new.id;
    return null;
  end if;
  update public.agent_buckets b set retired_at = now(), public_access = false
  where b.agent_id = new.id and b.bucket_id is distinct from bucket and b.retired_at is null;
  if bucket is null then
    return null;
  end if;
  fault := private.make_agent_bucket(bucket, new.user_id);
  if fault is not null then
    -- What the worker puts back after a failed rollout must not fail for a bucket.
    if nullif(current_setting('request.jwt.claims', true), '') is null then
      return null;
    end if;
    perform private.refuse_faults(jsonb_build_object('supabase_config.storage.bucket', fault));
  end if;
  insert into public.agent_buckets as b (agent_id, bucket_id, user_id, public_access)
  values (new.id, bucket, new.user_id, opened)
  on conflict (agent_id, bucket_id) do update set retired_at = null, public_access = excluded.public_access
  where (b.retired_at, b.public_access) is distinct from (null, excluded.public_access);
  return null;
end;
$$;
comment on function private.register_agent_bucket is
  'Trigger: makes supabase_config.storage take effect, whoever changed it. Error: VALIDATION_ERROR 400 naming supabase_config.storage.bucket. Definer: clients write no registrations.';
create trigger agents_register_bucket after insert on public.agents
  for each row when (new.supabase_config ? 'storage') execute function private.register_agent_bucket();
create trigger agents_change_bucket after update on public.agents
  for each row when (
    new.supabase_config -> 'storage' is distinct from old.supabase_config -> 'storage'
    or (new.status = 'deleting' and old.status <> 'deleting') or (new.deleted_at is not null and old.deleted_at is null)
  ) execute function private.register_agent_bucket();

-- Policies -------------------------------------------------------------------------------------------------------

create function private.may_use_agent_file(bucket_id text, name text, way text) returns boolean
language plpgsql stable security definer
set search_path = ''
as $$
declare
  caller constant uuid := (select auth.uid());
begin
  return exists (
    select from public.agent_buckets b
    where b.bucket_id = may_use_agent_file.bucket_id
      and b.prefix = split_part(may_use_agent_file.name, '/', 1) || '/' || split_part(may_use_agent_file.name, '/', 2) || '/'
      and length(may_use_agent_file.name) > length(b.prefix)
      and case way
        when 'read' then b.public_access or b.user_id = caller
        when 'add' then b.user_id = caller and b.retired_at is null
        else b.user_id = caller
      end
  );
end;
$$;
comment on function private.may_use_agent_file is
  'Whether the caller may read, change or add (way) an object as a file of an agent: of their own, or read one of a folder with public_access. Definer: policies ask it for every row of a list, of anonymous callers too, who may read no table.';

create function private.open_buckets() returns text[]
language sql stable security definer
set search_path = ''
as $$
  select array(select distinct b.bucket_id from public.agent_buckets b where b.public_access);
$$;
comment on function private.open_buckets is
  'Buckets in which an agent''s folder is open to everybody. Definer: anonymous callers may read no table.';

grant execute on function private.may_use_agent_file, private.open_buckets to anon, authenticated;

-- A list asks the policy about every object of the bucket, for Postgres trusts no other condition before it. The names of
-- others are turned away by their first characters, which costs a hundredth of a look into agent_buckets.
create policy "Owners read files of their agents, and everybody those that are open" on storage.objects
  for select to anon, authenticated
  using (
    (starts_with(name, (select auth.uid()::text || '/')) or bucket_id = any ((select private.open_buckets())::text[]))
    and private.may_use_agent_file(bucket_id, name, 'read')
  );
create policy "Owners add files to their agents" on storage.objects
  for insert to authenticated with check (private.may_use_agent_file(bucket_id, name, 'add'));
create policy "Owners change files of their agents" on storage.objects
  for update to authenticated
  using (starts_with(name, (select auth.uid()::text || '/')) and private.may_use_agent_file(bucket_id, name, 'change'))
  with check (private.may_use_agent_file(bucket_id, name, 'add'));
create policy "Owners remove files of their agents" on storage.objects
  for delete to authenticated
  using (starts_with(name, (select auth.uid()::text || '/')) and private.may_use_agent_file(bucket_id, name, 'change'));

grant select on public.agent_buckets to authenticated;
grant select, insert, update, delete on public.agent_buckets to service_role;
alter table public.agent_buckets enable row level security;
create policy "Owners can read the folders of their agents" on public.agent_buckets
  for select to authenticated
  using (user_id >= (select private.owner_bound('agents:read', 'lowest')) and user_id <= (select private.owner_bound('agents:read', 'highest')));

-- Removal --------------------------------------------------------------------------------------------------------

create table private.storage_removals (
  id uuid primary key default gen_random_uuid(),
  bucket_id text not null,
  prefix text not null,
  run_after timestamptz not null default now(),
  settles_at timestamptz not null,
  lease_token uuid,
  attempts integer not null default 0,
  last_error text,
  created_at timestamptz not null default now(),
  constraint one_removal_per_folder unique (bucket_id, prefix),
  -- Less would be the whole bucket, or the folder of another whose name begins the same.
  constraint prefix_is_a_folder check (prefix ~ '^[^/].*/$')
);
comment on table private.storage_removals is
  'Folders whose objects the worker removes through the Storage API: at once, and once more at settles_at. A lease that ends makes its row due again.';
comment on column private.storage_removals.attempts is 'Failures in a row.';
create index storage_removals_run_after_idx on private.storage_removals (run_after);
create trigger storage_removals_wake after insert on private.storage_removals
  for each statement execute function private.wake_worker_after_insert();

create function private.queue_storage_removal(bucket_id text, prefix text) returns void
language sql volatile security definer
set search_path = ''
as $$
  insert into private.storage_removals as r (bucket_id, prefix, settles_at)
  values (bucket_id, prefix,
    clock_timestamp() + make_interval(secs => coalesce((private.setting('storage', 'removal_settle_seconds'))::double precision, 10800)))
  -- One that is under way does not see what came behind it: its lease is taken from it, and it begins again.
  on conflict on constraint one_removal_per_folder
  do update set run_after = clock_timestamp(), settles_at = excluded.settles_at, lease_token = null, attempts = 0;
$$;
comment on function private.queue_storage_removal is
  'Queues the removal of every object of a bucket whose name begins with prefix, which ends with a slash. The same again begins anew. Definer: the queue is closed to clients.';

create function private.remove_files_with_folder() returns trigger
language plpgsql volatile security definer
set search_path = ''
as $$
begin
  perform private.queue_storage_removal(old.bucket_id, old.prefix);
  return null;
end;
$$;
comment on function private.remove_files_with_folder is
  'Trigger: the files of a folder go with its registration, and that with the agent or its owner. Definer: the queue is closed to clients.';
create trigger agent_buckets_remove_files after delete on public.agent_buckets
  for each row execute function private.remove_files_with_folder();

create function private.claim_storage_removals(most integer, lease_seconds integer) returns setof jsonb
language plpgsql volatile security definer
set search_path = ''
as $$
begin
  return query
  update private.storage_removals r
  set lease_token = gen_random_uuid(), run_after = clock_timestamp() + make_interval(secs => lease_seconds)
  from (
    select d.id from private.storage_removals d where d.run_after <= clock_timestamp()
    order by d.run_after limit most for update skip locked
  ) due
  where r.id = due.id
  returning jsonb_build_object('id', r.id, 'lease_token', r.lease_token, 'bucket_id', r.bucket_id, 'prefix', r.prefix);
end;
$$;
comment on function private.claim_storage_removals is
  'Leases removals that are due → [{id, lease_token, bucket_id, prefix}]. Definer: called by the worker.';

create function private.end_storage_removal(removal_id uuid, lease_token uuid, outcome text, reason text default null) returns text
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  held private.storage_removals;
  longest constant double precision := coalesce((private.setting('storage', 'removal_retry_max_seconds'))::double precision, 3600);
begin
  select * into held from private.storage_removals r
  where r.id = removal_id and r.lease_token = end_storage_removal.lease_token for update;
  if held.id is null then
    return 'lost';
  end if;
  if outcome = 'empty' and clock_timestamp() >= held.settles_at then
    delete from private.storage_removals r where r.id = held.id;
    return 'done';
  end if;
  update private.storage_removals r set
    lease_token = null,
    attempts = case when outcome = 'failed' then held.attempts + 1 else 0 end,
    last_error = case when outcome = 'failed' then left(reason, 300) end,
    run_after = case outcome
      when 'empty' then held.settles_at
      when 'more' then clock_timestamp()
      else clock_timestamp() + make_interval(secs => least(longest, 5 * 2 ^ least(held.attempts, 20)) * (0.75 + random() / 2))
    end
  where r.id = held.id;
  return case outcome when 'empty' then 'settling' when 'more' then 'more' else 'retrying' end;
end;
$$;
comment on function private.end_storage_removal is
  'Ends an attempt: empty (no object is left), more (the time was up) or failed, for a reason → done | settling (looked at once more at settles_at) | more | retrying | lost. Definer: called by the worker.';
