-- The roles of a Supabase project, their memberships and their settings, as on the hosted platform.
-- Runs as the superuser (supabase_admin) on every start and may be repeated. Passwords are not
-- here: bootstrap.ts sets them.

do $roles$
declare
  wanted record;
begin
  for wanted in
    select * from (values
      -- what a request runs as
      ('anon', 'nologin noinherit'),
      ('authenticated', 'nologin noinherit'),
      ('service_role', 'nologin noinherit bypassrls'),
      ('authenticator', 'login noinherit'),
      -- whoever develops: owner of the database and of schema public, and not a superuser
      ('postgres', 'login inherit createdb createrole replication bypassrls'),
      ('dashboard_user', 'nologin inherit createdb createrole replication'),
      -- the platform's services
      ('supabase_auth_admin', 'login noinherit'),
      ('supabase_storage_admin', 'login noinherit'),
      ('supabase_realtime_admin', 'nologin noinherit'),
      ('supabase_functions_admin', 'login noinherit'),
      ('supabase_replication_admin', 'login replication'),
      ('supabase_etl_admin', 'login replication'),
      ('supabase_read_only_user', 'login bypassrls')
    ) as list (name, attributes)
  loop
    if not exists (select from pg_catalog.pg_roles where rolname = wanted.name) then
      execute format('create role %I', wanted.name);
    end if;
    execute format('alter role %I with nosuperuser %s', wanted.name, wanted.attributes);
  end loop;
end
$roles$;

grant anon, authenticated, service_role to authenticator;
grant anon, authenticated, service_role to postgres with admin option;
-- The platform lets postgres change these settings of the role by an extension.
grant authenticator to postgres with admin option;
grant set on parameter pgrst.db_pre_request, pgrst.db_schemas, pgrst.db_extra_search_path, pgrst.db_max_rows,
  pgrst.db_aggregates_enabled to postgres;
grant pg_monitor, pg_read_all_data, pg_signal_backend, pg_checkpoint, pg_create_subscription
  to postgres with admin option;
grant pg_read_all_data to supabase_read_only_user, supabase_etl_admin;
grant pg_monitor to supabase_etl_admin, supabase_read_only_user;

-- Short for whoever comes from outside; the authenticator's own holds while it sets the role.
alter role anon set statement_timeout = '3s';
alter role authenticated set statement_timeout = '8s';
alter role authenticator set statement_timeout = '8s';
alter role authenticator set lock_timeout = '8s';

alter role postgres set search_path = "$user", public, extensions;
alter role supabase_admin set search_path = "$user", public, auth, extensions;
alter role supabase_auth_admin set search_path = auth;
alter role supabase_auth_admin set idle_in_transaction_session_timeout = 60000;
alter role supabase_storage_admin set search_path = storage;
