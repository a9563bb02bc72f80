-- Foundation: the `private` schema, default privileges and the two helpers every other file uses.
--
-- `public` is what PostgREST exposes. `private` is not exposed: it holds the definer-rights helpers and the tables that
-- no client may read (digests, Vault references, queues, counters).
-- Mind: functions are executable by nobody until a migration grants them. Tables in `private` have no row security: no
-- client role is granted any of them.

create extension if not exists pgcrypto with schema extensions;
create extension if not exists pg_trgm with schema extensions;
create extension if not exists supabase_vault;
create extension if not exists pg_net with schema extensions;
create extension if not exists pg_cron;

create schema private;
comment on schema private is 'Helpers and tables that the API does not expose.';

revoke all on schema private from public;
grant usage on schema private to authenticated, service_role;

-- PostgreSQL lets everybody execute new functions, and older Supabase projects also grant them to the API roles.
alter default privileges revoke execute on functions from public;
alter default privileges in schema public revoke execute on functions from anon, authenticated, service_role;
alter default privileges in schema public revoke all on tables from anon, authenticated, service_role;

create function private.raise_error(
  code text,
  message text,
  details jsonb default null,
  status integer default 400,
  hint text default null,
  headers jsonb default '{}'
) returns void
language plpgsql volatile
set search_path = ''
as $$
begin
  -- PostgREST takes status, headers and body from an error of this state. It reads `details` as text, so an object
  -- travels as its JSON text.
  raise sqlstate 'PGRST' using
    message = jsonb_build_object(
      'code', raise_error.code, 'message', raise_error.message,
      'details', raise_error.details::text, 'hint', raise_error.hint
    )::text,
    detail = jsonb_build_object('status', raise_error.status, 'headers', raise_error.headers)::text;
end;
$$;
comment on function private.raise_error is
  'Raises an error whose HTTP status, headers and body {code, message, details, hint} PostgREST and the Edge Functions pass to the caller. `details` arrives as JSON text.';

create function private.touch_updated_at() returns trigger
language plpgsql volatile
set search_path = ''
as $$
begin
  new.updated_at := now();
  return new;
end;
$$;
comment on function private.touch_updated_at is 'Keeps updated_at the time of the last change, whatever the client sent.';

grant execute on function private.raise_error to authenticated, service_role;
