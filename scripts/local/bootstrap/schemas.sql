-- Schemas, their owners, and who may look into them. New objects in `public` are granted to nobody,
-- as on projects since 2026: migrations say themselves what the API roles may do.

do $database$
begin
  execute format('alter database %I owner to postgres', current_database());
  execute format(
    'grant create, connect, temporary on database %I to supabase_auth_admin, supabase_storage_admin, dashboard_user',
    current_database()
  );
end
$database$;

alter schema public owner to postgres;
revoke create on schema public from public;
grant usage on schema public to postgres, anon, authenticated, service_role;

create schema if not exists extensions;
grant usage on schema extensions to postgres, anon, authenticated, service_role;
grant create on schema extensions to postgres;
grant all on schema extensions to dashboard_user;

create schema if not exists auth authorization supabase_auth_admin;
create schema if not exists storage authorization supabase_storage_admin;
grant usage on schema storage to anon, authenticated, service_role;
grant usage on schema storage to postgres with grant option;
create schema if not exists realtime authorization supabase_admin;
create schema if not exists vault authorization supabase_admin;
create schema if not exists graphql_public authorization supabase_admin;
grant usage on schema graphql_public to postgres, anon, authenticated, service_role;

create schema if not exists supabase_migrations authorization postgres;

-- What the superuser makes in `public` (extensions without a schema of their own) stays reachable.
alter default privileges for role supabase_admin in schema public
  grant all on tables to postgres, anon, authenticated, service_role;
alter default privileges for role supabase_admin in schema public
  grant all on functions to postgres, anon, authenticated, service_role;
alter default privileges for role supabase_admin in schema public
  grant all on sequences to postgres, anon, authenticated, service_role;

do $publication$
begin
  if not exists (select from pg_catalog.pg_publication where pubname = 'supabase_realtime') then
    create publication supabase_realtime;
  end if;
end
$publication$;
-- Migrations add their tables to it.
alter publication supabase_realtime owner to postgres;
