-- The `storage` schema as Supabase Storage leaves it after its own migrations: same tables, columns, types, constraint and
-- index names, triggers and grants, so that policies, foreign keys and tools that read it behave as on the platform. Tables
-- of what the local stack does not serve (S3 multipart uploads, analytics and vector buckets) are here too and stay empty.
--
-- Runs as the superuser, safe to run again; everything is owned by supabase_storage_admin.
--
-- Where it is wider than the platform: there role postgres may write policies on these tables and no more; a bare Postgres
-- has that right for owners only, so postgres is a member of supabase_storage_admin here. Migrations must not rely on it.

create schema if not exists storage authorization supabase_storage_admin;
alter schema storage owner to supabase_storage_admin;
grant usage on schema storage to postgres, anon, authenticated, service_role;
grant create, usage on schema storage to supabase_storage_admin;
-- Storage becomes the caller for each request, as PostgREST does.
grant authenticator to supabase_storage_admin;
grant supabase_storage_admin to postgres;

set role supabase_storage_admin;
set search_path = storage;

alter default privileges for role supabase_storage_admin in schema storage
  grant all on tables to postgres, anon, authenticated, service_role;
alter default privileges for role supabase_storage_admin in schema storage
  grant all on functions to postgres, anon, authenticated, service_role;
alter default privileges for role supabase_storage_admin in schema storage
  grant all on sequences to postgres, anon, authenticated, service_role;

-- types and tables ----------------------------------------------------------------------------

do $types$
begin
  if to_regtype('storage.buckettype') is null then
    create type storage.buckettype as enum ('STANDARD', 'ANALYTICS', 'VECTOR');
  end if;
end
$types$;

create table if not exists migrations (
  id integer not null,
  name varchar(100) not null,
  hash varchar(40) not null,
  executed_at timestamp default current_timestamp,
  constraint migrations_pkey primary key (id),
  constraint migrations_name_key unique (name)
);

create table if not exists buckets (
  id text not null,
  name text not null,
  owner uuid,
  created_at timestamptz default now(),
  updated_at timestamptz default now(),
  public boolean default false,
  avif_autodetection boolean default false,
  file_size_limit bigint,
  allowed_mime_types text[],
  owner_id text,
  type buckettype not null default 'STANDARD',
  versioning_status text not null default 'DISABLED',
  constraint buckets_pkey primary key (id),
  constraint buckets_versioning_status_check check (versioning_status in ('DISABLED', 'ENABLED', 'SUSPENDED')),
  constraint buckets_versioning_standard_only_check check (type = 'STANDARD' or versioning_status = 'DISABLED'),
  constraint buckets_versioning_dark_check check (versioning_status = 'DISABLED')
);
create unique index if not exists bname on buckets (name);
comment on column buckets.owner is 'Field is deprecated, use owner_id instead';

create table if not exists objects (
  id uuid not null default gen_random_uuid(),
  bucket_id text,
  name text,
  owner uuid,
  created_at timestamptz default now(),
  updated_at timestamptz default now(),
  last_accessed_at timestamptz default now(),
  metadata jsonb,
  path_tokens text[] generated always as (string_to_array(name, '/')) stored,
  version text,
  owner_id text,
  user_metadata jsonb,
  archived_at timestamptz,
  is_delete_marker boolean not null default false,
  is_versioned boolean not null default false,
  constraint objects_pkey primary key (id),
  constraint "objects_bucketId_fkey" foreign key (bucket_id) references buckets (id)
);
create unique index if not exists bucketid_objname on objects (bucket_id, name);
create index if not exists name_prefix_search on objects (name text_pattern_ops);
create index if not exists idx_objects_bucket_id_name on objects (bucket_id, (name collate "C"));
create index if not exists idx_objects_bucket_id_name_lower on objects (bucket_id, (lower(name) collate "C"));
comment on column objects.owner is 'Field is deprecated, use owner_id instead';

create table if not exists s3_multipart_uploads (
  id text not null,
  in_progress_size bigint not null default 0,
  upload_signature text not null,
  bucket_id text not null,
  key text collate "C" not null,
  version text not null,
  owner_id text,
  created_at timestamptz not null default now(),
  user_metadata jsonb,
  metadata jsonb,
  constraint s3_multipart_uploads_pkey primary key (id),
  constraint s3_multipart_uploads_bucket_id_fkey foreign key (bucket_id) references buckets (id)
);
create index if not exists idx_multipart_uploads_list on s3_multipart_uploads (bucket_id, key, created_at);

create table if not exists s3_multipart_uploads_parts (
  id uuid not null default gen_random_uuid(),
  upload_id text not null,
  size bigint not null default 0,
  part_number integer not null,
  bucket_id text not null,
  key text collate "C" not null,
  etag text not null,
  owner_id text,
  version text not null,
  created_at timestamptz not null default now(),
  constraint s3_multipart_uploads_parts_pkey primary key (id),
  constraint s3_multipart_uploads_parts_upload_id_fkey foreign key (upload_id)
    references s3_multipart_uploads (id) on delete cascade,
  constraint s3_multipart_uploads_parts_bucket_id_fkey foreign key (bucket_id) references buckets (id)
);

create table if not exists buckets_analytics (
  name text not null,
  type buckettype not null default 'ANALYTICS',
  format text not null default 'ICEBERG',
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  id uuid not null default gen_random_uuid(),
  deleted_at timestamptz,
  constraint buckets_analytics_pkey primary key (id)
);
create unique index if not exists buckets_analytics_unique_name_idx on buckets_analytics (name) where deleted_at is null;

create table if not exists buckets_vectors (
  id text not null,
  type buckettype not null default 'VECTOR',
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint buckets_vectors_pkey primary key (id)
);

create table if not exists vector_indexes (
  id text not null default gen_random_uuid(),
  name text collate "C" not null,
  bucket_id text not null,
  data_type text not null,
  dimension integer not null,
  distance_metric text not null,
  metadata_configuration jsonb,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint vector_indexes_pkey primary key (id),
  constraint vector_indexes_bucket_id_fkey foreign key (bucket_id) references buckets_vectors (id)
);
create unique index if not exists vector_indexes_name_bucket_id_idx on vector_indexes (name, bucket_id);

-- functions -----------------------------------------------------------------------------------

create or replace function foldername(name text) returns text[]
language sql immutable
as $function$
  select (string_to_array(name, '/'))[1:array_length(string_to_array(name, '/'), 1) - 1]
$function$;

create or replace function filename(name text) returns text
language sql immutable
as $function$
  select (string_to_array(name, '/'))[array_length(string_to_array(name, '/'), 1)]
$function$;

create or replace function extension(name text) returns text
language sql immutable
as $function$
  select reverse(split_part(reverse(storage.filename(name)), '.', 1))
$function$;

create or replace function get_common_prefix(p_key text, p_prefix text, p_delimiter text) returns text
language sql immutable
as $function$
  select case when at.position > 0 then left(p_key, length(p_prefix) + at.position) end
  from (select position(p_delimiter in substring(p_key from length(p_prefix) + 1)) as position) as at
$function$;

create or replace function get_size_by_bucket() returns table (size bigint, bucket_id text)
language sql stable
as $function$
  select sum((o.metadata ->> 'size')::bigint)::bigint, o.bucket_id from storage.objects as o group by o.bucket_id
$function$;

-- What a request is doing, for policies: `storage.object.upload` and so on.
create or replace function operation() returns text
language sql stable
as $function$
  select current_setting('storage.operation', true)
$function$;

create or replace function allow_any_operation(expected_operations text[]) returns boolean
language sql stable
as $function$
  select coalesce(bool_or(regexp_replace(expected, '^storage\.', '') = regexp_replace(storage.operation(), '^storage\.', '')), false)
  from unnest(expected_operations) as expected where expected <> ''
$function$;

create or replace function allow_only_operation(expected_operation text) returns boolean
language sql stable
as $function$
  select storage.allow_any_operation(array[expected_operation])
$function$;

create or replace function can_insert_object(bucketid text, name text, owner uuid, metadata jsonb) returns void
language plpgsql
as $function$
begin
  insert into storage.objects (bucket_id, name, owner, metadata) values (bucketid, name, owner, metadata);
  -- Whoever may insert hears this and not a refusal; either way nothing stays.
  raise sqlstate 'PT200' using message = 'ROLLBACK', detail = 'rollback successful insert';
end
$function$;

create or replace function update_updated_at_column() returns trigger
language plpgsql
as $function$
begin
  new.updated_at = now();
  return new;
end
$function$;

create or replace function enforce_bucket_name_length() returns trigger
language plpgsql
as $function$
begin
  if length(new.name) > 100 then
    raise exception 'bucket name "%" is too long (% characters). Max is 100.', new.name, length(new.name);
  end if;
  return new;
end
$function$;

-- A row deleted by hand would leave its file behind.
create or replace function protect_delete() returns trigger
language plpgsql
as $function$
begin
  if current_setting('storage.allow_delete_query', true) is distinct from 'true' then
    raise exception 'Direct deletion from storage tables is not allowed. Use the Storage API instead.'
      using hint = 'This prevents accidental data loss from orphaned objects.', errcode = '42501';
  end if;
  return null;
end
$function$;

-- Folders and files right below `prefix || search`, letter case aside; names are given without `prefix`.
create or replace function search(
  prefix text, bucketname text, limits integer default 100, levels integer default 1, offsets integer default 0,
  search text default '', sortcolumn text default 'name', sortorder text default 'asc'
) returns table (
  name text, id uuid, updated_at timestamptz, created_at timestamptz, last_accessed_at timestamptz, metadata jsonb
)
language plpgsql stable
as $function$
declare
  wanted constant text := coalesce(search.prefix, '') || coalesce(search.search, '');
  direction constant text := case when lower(search.sortorder) = 'desc' then 'desc' else 'asc' end;
  sort_by constant text := case
    when lower(search.sortcolumn) in ('updated_at', 'created_at', 'last_accessed_at') then lower(search.sortcolumn) end;
begin
  return query execute format(
    $query$
      with found as (
        select o.*, storage.get_common_prefix(o.name, $1, '/') as folder
        from storage.objects as o
        where o.bucket_id = $2
          -- Nothing that begins with the prefix sorts after the prefix and the last character there is.
          and lower(o.name) collate "C" >= lower($1) and lower(o.name) collate "C" < lower($1) || chr(1114111)
          and starts_with(lower(o.name), lower($1))
      ), entries as (
        select min(rtrim(f.folder, '/')) as full_name, null::uuid as id, null::timestamptz as updated_at,
          null::timestamptz as created_at, null::timestamptz as last_accessed_at, null::jsonb as metadata
        from found as f where f.folder is not null group by lower(f.folder)
        union all
        select f.name, f.id, f.updated_at, f.created_at, f.last_accessed_at, f.metadata from found as f where f.folder is null
      )
      select substring(e.full_name from length($3) + 1), e.id, e.updated_at, e.created_at, e.last_accessed_at, e.metadata
      from entries as e order by %s lower(e.full_name) collate "C" %s limit $4 offset $5
    $query$,
    case when sort_by is not null then format('e.id is not null, %I %s,', sort_by, direction) end,
    direction
  ) using wanted, bucketname, coalesce(search.prefix, ''), least(coalesce(limits, 100), 1500), offsets;
end
$function$;

-- The same as S3 lists: letter case counts, names are whole, folders end without a slash, pages follow by the last entry.
create or replace function search_v2(
  prefix text, bucket_name text, limits integer default 100, levels integer default 1, start_after text default '',
  sort_order text default 'asc', sort_column text default 'name', sort_column_after text default ''
) returns table (
  key text, name text, id uuid, updated_at timestamptz, created_at timestamptz, last_accessed_at timestamptz, metadata jsonb
)
language plpgsql stable
as $function$
declare
  wanted constant text := coalesce(search_v2.prefix, '');
  direction constant text := case when lower(search_v2.sort_order) = 'desc' then 'desc' else 'asc' end;
  sort_by constant text := case
    when lower(search_v2.sort_column) in ('updated_at', 'created_at') then lower(search_v2.sort_column) end;
begin
  return query execute format(
    $query$
      with found as (
        select o.*, storage.get_common_prefix(o.name, $1, '/') as folder
        from storage.objects as o
        where o.bucket_id = $2 and o.name collate "C" >= $1 and o.name collate "C" < $1 || chr(1114111) and starts_with(o.name, $1)
      ), entries as (
        select rtrim(f.folder, '/') as name, null::uuid as id, min(f.created_at) as updated_at, min(f.created_at) as created_at,
          null::timestamptz as last_accessed_at, null::jsonb as metadata
        from found as f where f.folder is not null group by f.folder
        union all
        select f.name, f.id, f.updated_at, f.created_at, f.last_accessed_at, f.metadata from found as f where f.folder is null
      ), times as (
        select e.*, date_trunc('milliseconds', %1$s) as sorts_at from entries as e
      )
      select split_part(t.name, '/', $3), t.name, t.id, case when %5$s then t.updated_at end,
        case when %5$s then t.created_at end, t.last_accessed_at, t.metadata
      from times as t
      where $4 = '' or (%2$s)
      order by %3$s t.name collate "C" %4$s limit $6
    $query$,
    case when sort_by is null then 'null::timestamptz' else format('e.%I', sort_by) end,
    case
      when sort_by is null then format('t.name collate "C" %s $4', case direction when 'asc' then '>' else '<' end)
      else format('(t.sorts_at, t.name collate "C") %s (coalesce(nullif($5, '''')::timestamptz, ''epoch''), $4)',
        case direction when 'asc' then '>' else '<' end)
    end,
    case when sort_by is not null then format('t.sorts_at %s,', direction) end,
    direction,
    -- By name, a folder has no times.
    case when sort_by is null then 't.id is not null' else 'true' end
  ) using wanted, bucket_name, levels, coalesce(start_after, ''), coalesce(sort_column_after, ''), least(coalesce(limits, 100), 1500);
end
$function$;

-- triggers ------------------------------------------------------------------------------------

create or replace trigger update_objects_updated_at before update on objects
  for each row execute function update_updated_at_column();
create or replace trigger enforce_bucket_name_length_trigger before insert or update of name on buckets
  for each row execute function enforce_bucket_name_length();
create or replace trigger protect_buckets_delete before delete on buckets
  for each statement execute function protect_delete();
create or replace trigger protect_objects_delete before delete on objects
  for each statement execute function protect_delete();

-- grants and row level security ---------------------------------------------------------------

grant all on buckets, objects to postgres with grant option;
grant all on buckets, objects, buckets_analytics to anon, authenticated, service_role;
revoke all on migrations from anon, authenticated, service_role;
revoke all on s3_multipart_uploads, s3_multipart_uploads_parts from anon, authenticated;
grant all on s3_multipart_uploads, s3_multipart_uploads_parts to service_role;
grant select on s3_multipart_uploads, s3_multipart_uploads_parts to anon, authenticated;
revoke all on buckets_vectors, vector_indexes from anon, authenticated, service_role;
grant select on buckets_vectors, vector_indexes to anon, authenticated, service_role;

alter table migrations enable row level security;
alter table buckets enable row level security;
alter table objects enable row level security;
alter table s3_multipart_uploads enable row level security;
alter table s3_multipart_uploads_parts enable row level security;
alter table buckets_analytics enable row level security;
alter table buckets_vectors enable row level security;
alter table vector_indexes enable row level security;

reset search_path;
reset role;
