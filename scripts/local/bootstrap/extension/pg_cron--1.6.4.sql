-- pg_cron's tables, functions and rules. The scheduler itself is scripts/local/cron.ts, which is told
-- of every change to cron.job. Safe to run again: bootstrap.ts does when this file changed.

create schema if not exists cron;

create sequence if not exists cron.jobid_seq;
create table if not exists cron.job (
  jobid bigint primary key default nextval('cron.jobid_seq'),
  schedule text not null,
  command text not null,
  nodename text not null default 'localhost',
  nodeport int not null default pg_catalog.current_setting('port')::int,
  database text not null default pg_catalog.current_database(),
  username text not null default current_user,
  active boolean not null default true,
  jobname text,
  constraint jobname_username_uniq unique (jobname, username)
);

create sequence if not exists cron.runid_seq;
create table if not exists cron.job_run_details (
  jobid bigint,
  runid bigint primary key default nextval('cron.runid_seq'),
  job_pid int,
  database text,
  username text,
  command text,
  status text,
  return_message text,
  start_time timestamptz,
  end_time timestamptz
);

alter table cron.job enable row level security;
alter table cron.job_run_details enable row level security;
drop policy if exists cron_job_policy on cron.job;
create policy cron_job_policy on cron.job using (username = current_user);
drop policy if exists cron_job_run_details_policy on cron.job_run_details;
create policy cron_job_run_details_policy on cron.job_run_details using (username = current_user);

create or replace function cron.job_cache_invalidate() returns trigger
language plpgsql
set search_path = ''
as $$
begin
  notify cron, 'jobs';
  return null;
end
$$;
drop trigger if exists cron_job_cache_invalidate on cron.job;
create trigger cron_job_cache_invalidate
  after insert or update or delete or truncate on cron.job
  for each statement execute function cron.job_cache_invalidate();

-- Five cron fields (numbers, names, lists, ranges, steps, `$` for the last day of the month),
-- `@hourly` and its like, or `[1-59] seconds`.
create or replace function cron._is_schedule(schedule text) returns boolean
language plpgsql
immutable
set search_path = ''
as $$
declare
  fields text[] := pg_catalog.regexp_split_to_array(pg_catalog.btrim(schedule), '\s+');
  lowest int[] := array[0, 0, 1, 1, 0];
  highest int[] := array[59, 23, 31, 12, 7];
  month_names text[] := '{jan,feb,mar,apr,may,jun,jul,aug,sep,oct,nov,dec}';
  day_names text[] := '{sun,mon,tue,wed,thu,fri,sat}';
  item text;
  parts text[];
  bound text;
  bounds int[];
begin
  if schedule ~* '^\s*@(yearly|annually|monthly|weekly|daily|midnight|hourly|reboot)\s*$'
    or schedule ~* '^\s*([1-9]|[1-5][0-9])\s+seconds?\s*$' then
    return true;
  end if;
  if pg_catalog.array_length(fields, 1) is distinct from 5 then
    return false;
  end if;
  for field in 1..5 loop
    foreach item in array pg_catalog.string_to_array(pg_catalog.lower(fields[field]), ',') loop
      continue when field = 3 and item = '$';
      parts := pg_catalog.regexp_match(item, '^(\*|[a-z0-9]+)(?:-([a-z0-9]+))?(?:/([1-9][0-9]?))?$');
      -- `*-5` and `5/2` mean nothing.
      if parts is null
        or (parts[1] = '*' and parts[2] is not null)
        or (parts[1] <> '*' and parts[2] is null and parts[3] is not null) then
        return false;
      end if;
      bounds := '{}';
      foreach bound in array pg_catalog.array_remove(array[nullif(parts[1], '*'), parts[2]], null) loop
        if field = 4 and bound = any (month_names) then
          bound := pg_catalog.array_position(month_names, bound)::text;
        elsif field = 5 and bound = any (day_names) then
          bound := (pg_catalog.array_position(day_names, bound) - 1)::text;
        end if;
        if bound !~ '^[0-9]{1,2}$' or bound::int not between lowest[field] and highest[field] then
          return false;
        end if;
        bounds := bounds || bound::int;
      end loop;
      if bounds[1] > bounds[2] then
        return false;
      end if;
    end loop;
  end loop;
  return true;
end
$$;

create or replace function cron._assert_schedule(schedule text) returns void
language plpgsql
immutable
set search_path = ''
as $$
begin
  if schedule is null or not cron._is_schedule(schedule) then
    raise exception 'invalid schedule: %', schedule
      using
        errcode = '22023',
        hint = 'Use cron format (e.g. 5 4 * * *), or interval format ''[1-59] seconds''';
  end if;
end
$$;

-- A job belongs to the role that scheduled it, which is the definer's inside a definer function, so
-- the public functions are invoker's and name it to the definer functions that write cron.job, which
-- role postgres may only read. Those refuse to act for a superuser: nobody gains rights by a lie.
create or replace function cron._assert_caller(caller text) returns void
language plpgsql
stable
set search_path = ''
as $$
begin
  if exists (select from pg_catalog.pg_roles where rolname = caller and rolsuper)
    and not exists (select from pg_catalog.pg_roles where rolname = session_user and rolsuper) then
    raise exception 'must be superuser to create or alter a job of another role'
      using errcode = '42501';
  end if;
end
$$;

create or replace function cron._put_job(
  caller text,
  job_name text,
  schedule text,
  command text,
  database text,
  active boolean
) returns bigint
language plpgsql
security definer
set search_path = ''
as $$
#variable_conflict use_variable
declare
  id bigint;
begin
  perform cron._assert_caller(caller);
  perform cron._assert_schedule(schedule);
  insert into cron.job as j (jobname, schedule, command, database, username, active)
  values (job_name, schedule, command, database, caller, active)
  on conflict on constraint jobname_username_uniq do update
  set
    schedule = excluded.schedule,
    command = excluded.command,
    database = excluded.database,
    active = excluded.active
  returning j.jobid into id;
  return id;
end
$$;

create or replace function cron._change_job(
  caller text,
  job_id bigint,
  schedule text,
  command text,
  database text,
  active boolean
) returns void
language plpgsql
security definer
set search_path = ''
as $$
#variable_conflict use_variable
begin
  perform cron._assert_caller(caller);
  if schedule is not null then
    perform cron._assert_schedule(schedule);
  end if;
  update cron.job as j
  set
    schedule = coalesce(schedule, j.schedule),
    command = coalesce(command, j.command),
    database = coalesce(database, j.database),
    active = coalesce(active, j.active)
  where j.jobid = job_id and j.username = caller;
  if not found then
    raise exception 'Job % does not exist or you don''t own it', job_id;
  end if;
end
$$;

create or replace function cron._remove_job(caller text, job_id bigint, job_name text)
returns boolean
language plpgsql
security definer
set search_path = ''
as $$
begin
  perform cron._assert_caller(caller);
  delete from cron.job as j
  where j.username = caller and (j.jobid = job_id or j.jobname = job_name);
  if not found then
    raise exception 'could not find valid entry for job ''%''', coalesce(job_name, job_id::text);
  end if;
  return true;
end
$$;

create or replace function cron.schedule(job_name text, schedule text, command text) returns bigint
language sql
set search_path = ''
as $$
  select cron._put_job(
    current_user::text, job_name, schedule, command, pg_catalog.current_database()::text, true
  )
$$;

create or replace function cron.schedule(schedule text, command text) returns bigint
language sql
set search_path = ''
as $$
  select cron._put_job(
    current_user::text, null, schedule, command, pg_catalog.current_database()::text, true
  )
$$;

create or replace function cron.schedule_in_database(
  job_name text,
  schedule text,
  command text,
  database text,
  username text default null,
  active boolean default true
) returns bigint
language sql
set search_path = ''
as $$
  select cron._put_job(
    coalesce(username, current_user::text), job_name, schedule, command, database, active
  )
$$;

create or replace function cron.unschedule(job_id bigint) returns boolean
language sql
set search_path = ''
as $$ select cron._remove_job(current_user::text, job_id, null) $$;

create or replace function cron.unschedule(job_name text) returns boolean
language sql
set search_path = ''
as $$ select cron._remove_job(current_user::text, null, job_name) $$;

create or replace function cron.alter_job(
  job_id bigint,
  schedule text default null,
  command text default null,
  database text default null,
  username text default null,
  active boolean default null
) returns void
language sql
set search_path = ''
as $$
  select cron._change_job(
    coalesce(username, current_user::text), job_id, schedule, command, database, active
  )
$$;

revoke all on all functions in schema cron from public;
grant usage on schema cron to postgres with grant option;
grant execute on all functions in schema cron to postgres with grant option;
grant select on cron.job to postgres with grant option;
grant all on cron.job_run_details to postgres with grant option;
grant all on all sequences in schema cron to postgres with grant option;
