-- Privacy: an account's data as a download, its erasure, and how long what remains is kept.
--
-- Adds: export_my_data and private.export_rows; erasures, erase_my_account, erase_user; the triggers that make
-- `delete from auth.users` by whomever (Supabase Auth's admin API, the dashboard, SQL) leave the same state; retention.
-- Mind: which rows belong to a user is read from the catalog: user_id, agent_id, stack_id and subject are names with a
-- meaning. A table that tells its owner in another way needs its line here; tests/database/privacy.test.ts finds it.

insert into public.settings (category, key, value, description) values
  ('privacy', 'recent_sign_in_seconds', '600', 'Age of a sign-in up to which an account can be erased without naming its address.'),
  ('privacy', 'settle_seconds', '60', 'Seconds after an erasure in which what was under way may still write; then everything is looked through for the last time.'),
  ('privacy', 'export_rows', '1000', 'Rows of each table that export_my_data gives, the newest; GET /api/users/export gives all.'),
  ('retention', 'audit_days', 'null', 'Days that the audit log is kept; null: for ever.'),
  ('retention', 'auth_audit_days', '90', 'Days that Supabase Auth''s own audit log, with addresses in it, is kept; null: for ever.'),
  ('retention', 'agent_events_days', '365', 'Days that events of agents are kept.'),
  ('retention', 'api_keys_days', '90', 'Days that revoked and expired API keys are listed.'),
  ('retention', 'image_scans_days', '30', 'Days that the scan of an image that is not used any more is kept.'),
  ('retention', 'erasures_days', '365', 'Days that finished erasures are listed.');

-- Erasures -------------------------------------------------------------------------------------------------------

create table public.erasures (
  id uuid primary key default gen_random_uuid(),
  requested_by text not null,
  state text not null default 'pending',
  agents integer not null default 0,
  stacks integer not null default 0,
  pending jsonb not null default '{}',
  refused text[] not null default '{}',
  requested_at timestamptz not null default now(),
  finished_at timestamptz,
  constraint requested_by_is_known check (requested_by in ('user', 'administrator', 'auth')),
  constraint state_is_known check (state in ('pending', 'finished')),
  constraint finished_when_over check ((finished_at is not null) = (state = 'finished'))
);
comment on table public.erasures is 'Erased accounts: how far each is, and nothing of whom it was.';
comment on column public.erasures.requested_by is 'user, administrator (erase_user), or auth: the account was deleted in Supabase Auth.';
comment on column public.erasures.agents is 'Agents that went with the account; stacks likewise.';
comment on column public.erasures.pending is
  'What is left while it is pending: {operations: removals of containers under way, failed: removals given up, to be retried by retry_dead_letter, files: removals from storage, records: rows that are looked for}.';
comment on column public.erasures.refused is
  'Tables of the platform in which role postgres may not look for what is left: there it goes as the platform forgets.';
create index erasures_requested_at_idx on public.erasures (requested_at);

create table private.erasure_jobs (
  erasure_id uuid primary key references public.erasures (id) on delete cascade,
  user_id uuid not null unique,
  emails text[] not null default '{}',
  phones text[] not null default '{}',
  agent_ids uuid[] not null default '{}',
  stack_ids uuid[] not null default '{}',
  key_ids uuid[] not null default '{}',
  words text[] not null default '{}',
  pseudonym uuid not null default gen_random_uuid(),
  settled_at timestamptz not null,
  swept_at timestamptz,
  next_at timestamptz not null default now()
);
comment on table private.erasure_jobs is
  'What to look for while an erasure is pending. Goes with its end, so that nothing tells whose pseudonym it was.';
comment on column private.erasure_jobs.pseudonym is 'Random, in place of the user in the audit log; it cannot be turned back.';
comment on column private.erasure_jobs.words is 'Words of the agents, as the vocabulary of the search may hold them.';
create index erasure_jobs_next_at_idx on private.erasure_jobs (next_at);

create table private.erasure_receipts (
  digest bytea primary key,
  erasure_id uuid not null references public.erasures (id) on delete cascade,
  expires_at timestamptz not null default now() + interval '1 day'
);
comment on table private.erasure_receipts is
  'For a day, so that who asks twice gets the same answer: SHA-256 of the user''s random id → erasure.';
create index erasure_receipts_erasure_id_idx on private.erasure_receipts (erasure_id);

create view private.personal_columns with (security_invoker = true) as
select c.oid::regclass as relation, n.nspname as schema, c.relname as name, a.attname as "column",
  case
    when a.attname = 'user_id' then 'user'
    when a.attname = 'agent_id' then 'agent'
    when a.attname = 'stack_id' then 'stack'
    when a.attname = 'subject' then 'subject'
    else 'actor'
  end as refers_to,
  c.relkind = 'p' as partitioned,
  exists (select from pg_catalog.pg_index i where i.indrelid = c.oid and i.indkey[0] = a.attnum) as indexed
from pg_catalog.pg_class c
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
where n.nspname in ('public', 'private') and c.relkind in ('r', 'p') and not c.relispartition
  and (a.attname in ('user_id', 'agent_id', 'stack_id') and a.atttypid = 'uuid'::regtype
    or a.attname = 'subject' and a.atttypid = 'text'::regtype
    or (a.attname like '%\_by' or a.attname = 'actor_id') and a.atttypid = 'uuid'::regtype)
  -- What a foreign key removes or clears goes with the account.
  and not exists (
    select from pg_catalog.pg_constraint f
    where f.contype = 'f' and f.conrelid = c.oid and f.conkey = array[a.attnum] and f.confdeltype in ('c', 'n')
  );
comment on view private.personal_columns is
  'Columns that tell whose a row is and that no foreign key looks after: refers_to user, agent, stack (uuid), subject (user:<id>, key:<id>), actor (who acted on what may be another''s). Where it is indexed an erasure looks at each step, elsewhere in its sweep.';

create function private.remove_rows(relation regclass, condition text, ids text[], most integer) returns integer
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  leaf regclass;
  removed integer;
  total integer := 0;
begin
  for leaf in
    select t.relid from pg_catalog.pg_partition_tree(relation) t where t.isleaf
    union all
    select relation where not exists (select from pg_catalog.pg_partition_tree(relation))
  loop
    exit when total >= most;
    -- By place, because a delete knows no limit; place by place only within one partition.
    execute format('delete from %s where ctid = any (array(select ctid from %s where %s limit $2))', leaf, leaf, condition)
    using ids, most - total;
    get diagnostics removed = row_count;
    total := total + removed;
  end loop;
  return total;
end;
$$;
comment on function private.remove_rows is
  'Deletes at most so many rows of a table or its partitions that meet a condition on $1 text[] → how many. Definer: nobody may delete there.';

create function private.remove_personal_rows(job private.erasure_jobs, most integer, indexed boolean) returns integer
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  item record;
  left_over integer := most;
begin
  for item in
    select p.relation, p."column",
      case p.refers_to
        when 'user' then array[job.user_id::text]
        when 'agent' then job.agent_ids::text[]
        when 'stack' then job.stack_ids::text[]
        else array(select 'user:' || job.user_id union all select 'key:' || k from unnest(job.key_ids) k
          union all select 'agent:' || a from unnest(job.agent_ids) a)
      end as ids,
      case when p.refers_to = 'subject' then 'text[]' else 'uuid[]' end as type
    from private.personal_columns p
    where p.refers_to <> 'actor' and p.indexed = remove_personal_rows.indexed
      -- Operations say where containers are that still have to go; dead letters go with them.
      and p.name not in ('operations', 'dead_letters', 'erasure_jobs', 'audit_log')
      -- Time series are found by their agents; by user there is no index.
      and not (p.partitioned and p.refers_to = 'user'
        and exists (select from private.personal_columns o where o.relation = p.relation and o.refers_to = 'agent'))
  loop
    continue when cardinality(item.ids) = 0;
    left_over := left_over - private.remove_rows(
      item.relation, format('%I = any ($1::%s)', item."column", item.type), item.ids, left_over);
    exit when left_over <= 0;
  end loop;
  return most - left_over;
end;
$$;
comment on function private.remove_personal_rows is
  'Removes at most so many rows of an erased user, wherever the catalog says there may be some, with or without an index to find them by → how many. Definer: see remove_rows.';

create function private.finished_operations(job private.erasure_jobs, most integer) returns setof uuid
language sql stable security definer
set search_path = ''
as $$
  select o.id
  from public.operations o
  where (o.agent_id = any (job.agent_ids) or o.stack_id = any (job.stack_ids))
    and o.state in ('succeeded', 'failed', 'cancelled')
    and not exists (select from private.operation_queue q where q.operation_id = o.id)
    -- A removal that was given up is needed to try it again.
    and not (o.kind in ('delete', 'delete_stack') and o.state = 'failed' and not exists (
      select from public.operations n
      where (n.agent_id = o.agent_id or n.stack_id = o.stack_id) and n.kind = o.kind and n.state = 'succeeded'
        and n.created_at >= o.created_at
    ))
  limit most;
$$;
comment on function private.finished_operations is
  'Operations of an erased user''s agents and stacks that nobody needs any more. Definer: reads every user''s operations.';

create function private.pseudonymise(job private.erasure_jobs) returns void
language sql volatile security definer
set search_path = ''
as $$
  -- The id of a request stands in the log lines of the functions too, beside the user's, and may be the caller's own words.
  update public.audit_log l set actor_id = job.pseudonym, request_id = null where l.actor_id = job.user_id;
  update public.audit_log l set target_id = job.pseudonym::text
  where l.target_type in ('profile', 'account') and l.target_id = job.user_id::text;
$$;
comment on function private.pseudonymise is
  'Puts the pseudonym in place of an erased user in the audit log. Definer: nobody may change it.';

create function private.try_platform(relation text, privilege text, statement text, marks text[]) returns text[]
language plpgsql volatile security definer
set search_path = ''
as $$
begin
  if to_regclass(relation) is null then
    return '{}';
  end if;
  if not pg_catalog.has_table_privilege(relation, privilege) then
    return array[relation];
  end if;
  execute statement using marks;
  return '{}';
exception when insufficient_privilege then
  return array[relation];
end;
$$;
comment on function private.try_platform is
  'Runs a statement with $1 text[] on a table of the platform → the table, if the platform does not allow it. Definer: writes tables of the platform.';

create function private.sweep(job private.erasure_jobs) returns text[]
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  was constant text := job.user_id::text;
  becomes constant text := job.pseudonym::text;
  marks constant text[] := array(
    select '%' || was || '%' union all
    -- As a whole JSON text: an address can be part of another's.
    select '%' || replace(replace(replace(to_json(m)::text, '\', '\\'), '%', '\%'), '_', '\_') || '%'
    from unnest(job.emails || job.phones) m);
  topics constant text[] := array(
    select '%' || id || '%' from unnest(array[job.user_id] || job.agent_ids || job.stack_ids) id);
  column_name text;
  item record;
  refused text[] := '{}';
begin
  perform private.pseudonymise(job);
  perform private.remove_personal_rows(job, 2147483647, indexed => false);
  -- What somebody else did, or what they did to what is another's, may name the user.
  for item in
    select p.relation, p."column" from private.personal_columns p where p.refers_to = 'actor' and p.name <> 'audit_log'
  loop
    execute format('update %s set %I = $2 where %I = $1', item.relation, item."column", item."column")
    using job.user_id, job.pseudonym;
  end loop;
  update public.audit_log l set details = replace(l.details::text, was, becomes)::jsonb where l.details::text like '%' || was || '%';
  update public.security_events e set details = replace(e.details::text, was, becomes)::jsonb
  where e.details::text like '%' || was || '%';

  -- Words that others use as well tell nothing of anybody.
  delete from private.vocabulary v
  where v.word = any (job.words) and not exists (
    select from private.searchable s
    where s.searched like '%' || replace(replace(replace(v.word, '\', '\\'), '%', '\%'), '_', '\_') || '%'
      and v.word in (select private.words_of(s.searched))
  );

  -- The platform's tables. Which of them role postgres may change is the platform's to say.
  for item in
    select c.relname as name, array_agg(a.attname::text) as columns
    from pg_catalog.pg_class c
    join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attname in ('user_id', 'linking_target_id', 'for_email')
    where c.relnamespace = 'auth'::regnamespace and c.relkind = 'r'
      and not exists (
        select from pg_catalog.pg_constraint f
        where f.contype = 'f' and f.conrelid = c.oid and f.conkey = array[a.attnum] and f.confdeltype = 'c'
      )
    group by c.relname
  loop
    foreach column_name in array item.columns loop
      refused := refused || private.try_platform(format('auth.%I', item.name), 'delete',
        format('delete from auth.%I where %I::text = any ($1)', item.name, column_name), array[was] || job.emails);
    end loop;
  end loop;
  -- Auth's own trail names people by their addresses.
  refused := refused || private.try_platform('auth.audit_log_entries', 'update', format(
    $sql$
      update auth.audit_log_entries e
      set payload = private.without_person(e.payload::jsonb, %1$L, %2$L, %3$L)::json,
        ip_address = case when e.payload ->> 'actor_id' = %1$L then '' else e.ip_address end
      where e.payload::text ilike any ($1)
    $sql$, was, becomes, job.emails || job.phones), marks);
  -- Files in somebody else's folder stay; whose they were goes.
  refused := refused || private.try_platform('storage.objects', 'update', format(
    'update storage.objects o set owner = null, owner_id = null where o.owner_id = any ($1) and o.name not like %L', was || '/%'),
    array[was]);
  refused := refused || private.try_platform('storage.buckets', 'update',
    'update storage.buckets b set owner = null, owner_id = null where b.owner_id = any ($1)', array[was]);
  refused := refused || private.try_platform('storage.s3_multipart_uploads', 'delete',
    'delete from storage.s3_multipart_uploads u where u.owner_id = any ($1) or split_part(u.key, ''/'', 1) = any ($1)', array[was]);
  -- Messages go with their partition after three days; they may be changed but not deleted.
  refused := refused || private.try_platform('realtime.messages', 'update',
    $sql$
      update realtime.messages m set topic = 'erased', event = 'erased', payload = '{}', binary_payload = null
      where m.topic like any ($1) or m.payload::text ilike any ($1)
    $sql$, topics || marks);
  refused := refused || private.try_platform('realtime.subscription', 'delete',
    'delete from realtime.subscription s where s.claims ->> ''sub'' = any ($1)', array[was]);
  refused := refused || private.try_platform('net._http_response', 'delete',
    'delete from net._http_response r where r.content ilike any ($1)', marks);
  return refused;
end;
$$;
comment on function private.sweep is
  'Looks through what has no index on people, once an erasure has settled: pseudonym in the audit log and in Auth''s, messages emptied, open sign-ins gone → tables where the platform does not allow it. Definer: writes what no client may.';

create function private.without_person(payload jsonb, was text, becomes text, names text[]) returns jsonb
language plpgsql immutable
set search_path = ''
as $$
declare
  words text := replace(payload::text, was, becomes);
  name text;
begin
  foreach name in array names loop
    -- Addresses are kept in lower case and named as they were typed.
    words := regexp_replace(words, '(?i)' || regexp_replace(to_json(name)::text, '([^[:alnum:]])', '\\\1', 'g'), '""', 'g');
  end loop;
  return case when payload ->> 'actor_id' = was then words::jsonb - 'actor_name' else words::jsonb end;
end;
$$;
comment on function private.without_person is 'An entry of Auth''s audit log with the pseudonym in place of the user''s id, and without addresses and name.';

create function private.begin_erasure(target auth.users) returns uuid
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  job private.erasure_jobs;
  made uuid;
begin
  select * into job from private.erasure_jobs j where j.user_id = target.id for update;
  if job.erasure_id is null then
    insert into public.erasures (requested_by)
    values (coalesce(nullif(current_setting('launchpad.erased_by', true), ''), 'auth'))
    returning id into made;
    insert into private.erasure_jobs (erasure_id, user_id, settled_at)
    values (made, target.id, now() + make_interval(secs => (private.setting('privacy', 'settle_seconds'))::double precision))
    returning * into job;
    insert into private.erasure_receipts (digest, erasure_id) values (sha256(target.id::text::bytea), made);
  end if;
  update private.erasure_jobs j set
    emails = array(select distinct lower(e) from (
      select unnest(j.emails) union all select target.email union all select target.email_change
      union all select i.email from auth.identities i where i.user_id = target.id
    ) a (e) where e <> ''),
    phones = array(select distinct p from (
      select unnest(j.phones) union all select target.phone union all select target.phone_change
    ) a (p) where p <> ''),
    agent_ids = array(select distinct id from (
      select unnest(j.agent_ids) union all select a.id from public.agents a where a.user_id = target.id
      -- Those whose row is gone already left measurements behind.
      union all select o.agent_id from public.operations o where o.user_id = target.id
      union all select e.agent_id from public.agent_events e where e.user_id = target.id
    ) a (id) where id is not null
      and not exists (select from public.agents o where o.id = a.id and o.user_id <> target.id)),
    stack_ids = array(select distinct id from (
      select unnest(j.stack_ids) union all select s.id from public.stacks s where s.user_id = target.id
      union all select o.stack_id from public.operations o where o.user_id = target.id
    ) a (id) where id is not null
      and not exists (select from public.stacks o where o.id = a.id and o.user_id <> target.id)),
    key_ids = array(select distinct id from (
      select unnest(j.key_ids) union all select k.id from public.api_keys k where k.user_id = target.id
    ) a (id)),
    words = array(select distinct w from (
      select unnest(j.words) union all
      select private.words_of(s.searched) from private.searchable s join public.agents a on a.id = s.agent_id
      where a.user_id = target.id
    ) a (w))
  where j.erasure_id = job.erasure_id;

  -- Before the account, in the order in which the worker locks; the triggers of both queue the removal of containers.
  perform set_config('launchpad.erasing', 'true', true);
  with gone as (delete from public.agents a where a.user_id = target.id returning a.deleted_at)
  update public.erasures e set agents = e.agents + (select count(*) from gone where deleted_at is null)
  where e.id = job.erasure_id;
  with gone as (delete from public.stacks s where s.user_id = target.id returning 1)
  update public.erasures e set stacks = e.stacks + (select count(*) from gone) where e.id = job.erasure_id;
  -- What is under way goes on for nobody. All else that was done is removed step by step.
  update public.operations o set user_id = null where o.user_id = target.id and o.state in ('queued', 'running');
  -- The folders of agents are on their way with the agents; this is what else stands under the user's name.
  perform private.queue_storage_removal(b.bucket_id, target.id || '/') from (
    select distinct o.bucket_id from storage.objects o where o.name like target.id || '/%'
  ) b;
  perform set_config('launchpad.erasing', '', true);
  return job.erasure_id;
end;
$$;
comment on function private.begin_erasure is
  'Writes down what to look for, queues the removal of containers and deletes agents and stacks → the erasure; again: what came since. Definer: writes what no client may.';

create function private.begin_erasure_with_user() returns trigger
language plpgsql volatile security definer
set search_path = ''
as $$
begin
  perform private.begin_erasure(old);
  return old;
end;
$$;
comment on function private.begin_erasure_with_user is
  'Trigger: makes the deletion of an account in Supabase Auth, by whomever, an erasure. Definer: runs as the auth service.';

create function private.continue_erasure(erasure_id uuid, most integer default 20000) returns boolean
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  job private.erasure_jobs;
  removed integer;
  settled boolean;
  under_way integer;
  given_up integer;
  files integer;
begin
  select * into job from private.erasure_jobs j where j.erasure_id = continue_erasure.erasure_id for update skip locked;
  if job.erasure_id is null then
    return false;
  end if;
  delete from public.operations o where o.id in (select private.finished_operations(job, most));
  get diagnostics removed = row_count;
  if removed < most then
    removed := removed + private.remove_personal_rows(job, most - removed, indexed => true);
  end if;
  if removed >= most then
    update private.erasure_jobs j set next_at = clock_timestamp() where j.erasure_id = job.erasure_id;
    return false;
  end if;
  perform private.pseudonymise(job) where job.swept_at is null;
  settled := now() >= job.settled_at;
  if settled and job.swept_at is null then
    update public.erasures e set refused = private.sweep(job) where e.id = job.erasure_id;
    update private.erasure_jobs j set swept_at = now() where j.erasure_id = job.erasure_id;
  end if;

  select count(*) filter (where o.state <> 'failed'), count(*) filter (where o.state = 'failed') into under_way, given_up
  from public.operations o where o.agent_id = any (job.agent_ids) or o.stack_id = any (job.stack_ids);
  files := private.files_to_remove(job);
  if settled and under_way + given_up + files = 0 then
    if job.swept_at is not null then
      -- Removing the containers left messages of its own.
      update public.erasures e set refused = private.sweep(job) where e.id = job.erasure_id;
    end if;
    update public.erasures e set state = 'finished', finished_at = now(), pending = '{}' where e.id = job.erasure_id;
    delete from private.erasure_jobs j where j.erasure_id = job.erasure_id;
    return true;
  end if;
  update public.erasures e
  set pending = jsonb_build_object('operations', under_way, 'failed', given_up, 'files', files, 'records', not settled)
  where e.id = job.erasure_id;
  -- Files are looked at once more after hours: until then there is nothing to see.
  update private.erasure_jobs j
  set next_at = now() + case when settled and under_way = 0 then interval '5 minutes' else interval '10 seconds' end
  where j.erasure_id = job.erasure_id;
  return false;
end;
$$;
comment on function private.continue_erasure is
  'Takes an erasure a step further → whether it is finished. Each step is a transaction and can be repeated, so nothing is lost with who takes it. Definer: runs from cron.';

create function private.files_to_remove(job private.erasure_jobs) returns integer
language sql stable security definer
set search_path = ''
as $$
  select count(*) from private.storage_removals r where r.prefix like job.user_id || '/%';
$$;
comment on function private.files_to_remove is
  'Folders of an erased user that the worker still has to empty, or to look at once more. Definer: reads the queue.';

create function private.continue_erasures(seconds integer default 5) returns integer
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  until constant timestamptz := clock_timestamp() + make_interval(secs => seconds);
  due uuid;
  finished integer := 0;
begin
  loop
    select j.erasure_id into due from private.erasure_jobs j where j.next_at <= clock_timestamp()
    order by j.next_at limit 1 for update skip locked;
    exit when due is null;
    finished := finished + private.continue_erasure(due)::int;
    exit when clock_timestamp() > until;
  end loop;
  return finished;
end;
$$;
comment on function private.continue_erasures is 'Takes pending erasures that are due further, for some seconds → how many are finished now. Definer: runs from cron.';

select cron.schedule('continue-erasures', '10 seconds', 'select private.continue_erasures()');

create function private.continue_erasure_with_user() returns trigger
language plpgsql volatile security definer
set search_path = ''
as $$
begin
  -- What is left after the foreign keys have done theirs: the name of this trigger sorts it behind them.
  perform private.continue_erasure(j.erasure_id, 5000) from private.erasure_jobs j where j.user_id = old.id;
  return null;
end;
$$;
comment on function private.continue_erasure_with_user is
  'Trigger: the first step of an erasure, with the deletion itself. Definer: runs as the auth service.';

create trigger begin_erasure before delete on auth.users
  for each row execute function private.begin_erasure_with_user();
create trigger continue_erasure after delete on auth.users
  for each row execute function private.continue_erasure_with_user();

create function private.erasure_answer(erasure_id uuid) returns jsonb
language sql stable security definer
set search_path = ''
as $$
  select jsonb_build_object('id', e.id, 'state', e.state, 'agents', e.agents, 'stacks', e.stacks, 'pending', e.pending,
    'requested_at', e.requested_at, 'finished_at', e.finished_at)
  from public.erasures e where e.id = erasure_answer.erasure_id;
$$;
comment on function private.erasure_answer is 'An erasure as its RPCs answer. Definer: only administrators read the table.';

create function private.erase_account(target uuid, erased_by text) returns jsonb
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  account auth.users;
  erasure uuid;
begin
  -- Asked twice at once, the second waits here and finds the receipt of the first.
  perform pg_advisory_xact_lock(hashtextextended('erasure:' || target::text, 0));
  select r.erasure_id into erasure from private.erasure_receipts r where r.digest = sha256(target::text::bytea);
  if erasure is null then
    select * into account from auth.users u where u.id = target;
    if account.id is null then
      return null;
    end if;
    perform set_config('launchpad.erased_by', erased_by, true);
    erasure := private.begin_erasure(account);
    perform private.write_audit('account.erase', 'account',
      (select j.pseudonym::text from private.erasure_jobs j where j.erasure_id = erasure));
    delete from auth.users u where u.id = target;
  end if;
  return private.erasure_answer(erasure);
end;
$$;
comment on function private.erase_account is 'Erases an account, or says how far its erasure is; null when there is no such account. Definer: deletes from Supabase Auth.';

create function private.refuse_api_key() returns void
language plpgsql stable
set search_path = ''
as $$
begin
  if auth.jwt() ->> 'api_key_id' is not null then
    perform private.raise_error('PERMISSION_DENIED', 'An API key cannot do this.', null, 403, 'Sign in and use the access token.');
  end if;
end;
$$;
comment on function private.refuse_api_key is 'Raises PERMISSION_DENIED (403) for a request with an API key.';

create function private.erase_my_account(confirm text) returns jsonb
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  caller constant uuid := (select auth.uid());
  account auth.users;
  signed_in_at timestamptz := to_timestamp((
    select max((a ->> 'timestamp')::double precision)
    from jsonb_array_elements(case jsonb_typeof(auth.jwt() -> 'amr') when 'array' then auth.jwt() -> 'amr' else '[]' end) a
    where jsonb_typeof(a -> 'timestamp') = 'number'
  ));
  answer jsonb;
begin
  perform private.refuse_api_key();
  select * into account from auth.users u where u.id = caller;
  -- Whoever names another account than their own is refused also shortly after signing in.
  if account.id is not null and (case
    when confirm is not null then lower(trim(confirm)) <> lower(coalesce(nullif(account.email, ''), account.id::text))
    else coalesce(signed_in_at <= now() - make_interval(secs => (private.setting('privacy', 'recent_sign_in_seconds'))::double precision), true)
  end) then
    perform private.raise_error('VALIDATION_ERROR', 'Erasing an account needs a confirmation.',
      '{"confirm": "must be the email of the account, or its id when it has none; or sign in again"}', 400);
  end if;
  answer := private.erase_account(caller, 'user');
  if answer is null then
    perform private.raise_error('AUTHENTICATION_FAILED', 'The account does not exist.', null, 401);
  end if;
  return answer;
end;
$$;
comment on function private.erase_my_account is 'See public.erase_my_account. Definer: reads and deletes from Supabase Auth.';

create function public.erase_my_account(confirm text default null) returns jsonb
language sql volatile
set search_path = ''
as $$
  select private.erase_my_account(erase_my_account.confirm);
$$;
comment on function public.erase_my_account is
  'Erases the caller''s account and all that is theirs: sessions, keys and rows at once, containers and files by what is pending; the audit log keeps a pseudonym. `confirm` is the email of the account, not needed shortly after signing in → {id, state: pending | finished, agents, stacks, pending, requested_at, finished_at}; again: the same erasure. Errors: VALIDATION_ERROR 400, AUTHENTICATION_FAILED 401, PERMISSION_DENIED 403 for an API key.';

create function private.erase_user(user_id uuid) returns jsonb
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  answer jsonb;
begin
  perform private.refuse_api_key();
  perform private.require_permission('users:write');
  answer := private.erase_account(user_id, 'administrator');
  if answer is null then
    perform private.raise_error('NOT_FOUND', 'There is no such user.', null, 404);
  end if;
  return answer;
end;
$$;
comment on function private.erase_user is 'See public.erase_user. Definer: deletes from Supabase Auth.';

create function public.erase_user(user_id uuid) returns jsonb
language sql volatile
set search_path = ''
as $$
  select private.erase_user(erase_user.user_id);
$$;
comment on function public.erase_user is
  'Erases another user''s account as erase_my_account does. Needs users:write → the erasure. Errors: PERMISSION_DENIED 403, also for an API key, NOT_FOUND 404.';

-- Export ---------------------------------------------------------------------------------------------------------

create function private.exported_tables() returns table (relation regclass, name text, condition text, newest text)
language sql stable security definer
set search_path = ''
as $$
  select c.oid::regclass, c.relname::text,
    case when c.relkind = 'p' then 't.agent_id = any (array(select a.id from public.agents a where a.user_id = $1))'
      when c.relname = 'profiles' then 't.id = $1' else 't.user_id = $1' end,
    (select a.attname::text from pg_catalog.pg_attribute a
      where a.attrelid = c.oid and a.attname in ('timestamp', 'created_at') and not a.attisdropped order by a.attname desc limit 1)
  from pg_catalog.pg_class c
  where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition
    and (c.relname = 'profiles' or exists (
      select from pg_catalog.pg_attribute a where a.attrelid = c.oid and a.attname = 'user_id' and not a.attisdropped
    ))
  order by 2;
$$;
comment on function private.exported_tables is
  'Tables of public with rows of users, from the catalog: how their rows of user $1 are found, and the column that orders them by age. Definer: reads the catalog for everybody alike.';

create function private.export_rows(row_limit integer default null) returns table (source text, data jsonb)
language plpgsql stable security definer
set search_path = ''
as $$
declare
  caller constant uuid := (select auth.uid());
  item record;
begin
  perform private.refuse_api_key();
  if not exists (select from auth.users u where u.id = caller) then
    perform private.raise_error('AUTHENTICATION_FAILED', 'The account does not exist.', null, 401);
  end if;
  return query
  select 'account', jsonb_build_object('id', u.id, 'email', u.email, 'new_email', nullif(u.email_change, ''), 'phone', u.phone,
    'created_at', u.created_at, 'confirmed_at', u.confirmed_at, 'last_sign_in_at', u.last_sign_in_at, 'banned_until', u.banned_until,
    'is_anonymous', u.is_anonymous, 'app_metadata', u.raw_app_meta_data, 'user_metadata', u.raw_user_meta_data)
  from auth.users u where u.id = caller;
  return query
  select 'identities', jsonb_build_object('provider', i.provider, 'provider_id', i.provider_id, 'identity_data', i.identity_data,
    'created_at', i.created_at, 'last_sign_in_at', i.last_sign_in_at)
  from auth.identities i where i.user_id = caller;
  return query
  select 'sessions', jsonb_build_object('created_at', s.created_at, 'refreshed_at', s.refreshed_at, 'ip', s.ip, 'user_agent', s.user_agent)
  from auth.sessions s where s.user_id = caller;
  return query
  select 'second_factors', jsonb_build_object('name', f.friendly_name, 'type', f.factor_type, 'status', f.status, 'phone', f.phone,
    'created_at', f.created_at)
  from auth.mfa_factors f where f.user_id = caller;
  return query
  select 'failed_sign_ins', to_jsonb(f) - 'user_id' from private.sign_in_failures f where f.user_id = caller;
  return query
  select 'sign_ins', jsonb_build_object('action', e.payload ->> 'action', 'at', e.created_at, 'ip', e.ip_address)
  from auth.audit_log_entries e where e.payload ->> 'actor_id' = caller::text
  order by e.created_at desc limit row_limit;
  return query
  select 'actions', jsonb_build_object('action', l.action, 'target_type', l.target_type, 'target_id', l.target_id, 'details', l.details,
    'at', l.created_at)
  from public.audit_log l where l.actor_id = caller order by l.created_at desc limit row_limit;
  return query
  select 'files', jsonb_build_object('bucket', o.bucket_id, 'name', o.name, 'created_at', o.created_at, 'updated_at', o.updated_at,
    'metadata', o.metadata, 'user_metadata', o.user_metadata)
  from storage.objects o where o.owner_id = caller::text or o.name like caller || '/%'
  order by o.created_at desc limit row_limit;
  for item in select * from private.exported_tables() loop
    return query execute format(
      'select %L, to_jsonb(t) from %s t where %s%s limit %s', item.name, item.relation, item.condition,
      case when row_limit is not null and item.newest is not null then format(' order by t.%I desc', item.newest) else '' end,
      coalesce(row_limit::text, 'all')
    ) using caller;
  end loop;
end;
$$;
comment on function private.export_rows is
  'All that is kept of the caller, row by row: account, identities, sessions, second factors, failed sign-ins, Auth''s and our record of what they did, what their files are called, and their rows of every table that has users'' rows. Values of environment variables are not in it, their names are. Definer: reads Supabase Auth and logs that users cannot read.';

create function public.export_rows() returns table (source text, data jsonb)
language sql stable
set search_path = ''
as $$
  select e.source, e.data from private.export_rows() e;
$$;
comment on function public.export_rows is
  'All that is kept of the caller, as rows {source, data}; GET /api/users/export gives them as one document. Values of environment variables are not in it, their names are. Errors: AUTHENTICATION_FAILED 401, PERMISSION_DENIED 403 for an API key.';

create function public.export_my_data() returns jsonb
language sql stable
set search_path = ''
as $$
  with bound as (
    select coalesce((private.setting('privacy', 'export_rows'))::int, 1000) as most
  ), numbered as (
    select e.source, e.data, row_number() over (partition by e.source) as place, b.most
    from bound b, private.export_rows(b.most + 1) e
  ), sources as (
    select n.source, coalesce(jsonb_agg(n.data order by n.place) filter (where n.place <= n.most), '[]') as rows,
      bool_and(n.place <= n.most) as complete
    from numbered n group by n.source
  )
  select jsonb_build_object('exported_at', now(), 'complete', bool_and(s.complete),
    'data', jsonb_object_agg(s.source, jsonb_build_object('complete', s.complete, 'rows', s.rows)))
  from sources s;
$$;
comment on function public.export_my_data is
  'What is kept of the caller, the newest rows of each table (settings privacy.export_rows) → {exported_at, complete, data: {table: {complete, rows}}}. Where complete is false, export_rows and GET /api/users/export give the rest. Errors: AUTHENTICATION_FAILED 401, PERMISSION_DENIED 403 for an API key.';

-- Retention ------------------------------------------------------------------------------------------------------

create function private.retained_since(key text) returns timestamptz
language sql stable security definer
set search_path = ''
as $$
  select now() - make_interval(days => (nullif(private.setting('retention', retained_since.key), 'null'))::int);
$$;
comment on function private.retained_since is 'From when on the rows of a retention setting are kept; null: from the beginning. Definer: reads settings.';

create function private.remove_expired_records() returns jsonb
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  counts jsonb := '{}';
  removed integer;
  item record;
begin
  delete from public.audit_log l where l.created_at < private.retained_since('audit_days');
  get diagnostics removed = row_count;
  counts := counts || jsonb_build_object('audit_log', removed);
  delete from auth.audit_log_entries e where e.created_at < private.retained_since('auth_audit_days');
  get diagnostics removed = row_count;
  counts := counts || jsonb_build_object('auth_audit_log', removed);
  delete from public.agent_events e where e.timestamp < private.retained_since('agent_events_days');
  get diagnostics removed = row_count;
  counts := counts || jsonb_build_object('agent_events', removed);
  delete from public.api_keys k where least(k.revoked_at, k.expires_at) < private.retained_since('api_keys_days');
  get diagnostics removed = row_count;
  counts := counts || jsonb_build_object('api_keys', removed);
  delete from private.image_scans s where s.scanned_at < private.retained_since('image_scans_days');
  get diagnostics removed = row_count;
  counts := counts || jsonb_build_object('image_scans', removed);
  delete from public.erasures e where e.finished_at < private.retained_since('erasures_days');
  get diagnostics removed = row_count;
  counts := counts || jsonb_build_object('erasures', removed);
  delete from private.erasure_receipts r where r.expires_at <= now();
  -- A token outlives its account by up to an hour, and requests with it are counted.
  delete from private.rate_limits r
  where r.subject like 'user:%' and not exists (select from public.profiles p where r.subject = 'user:' || p.id);
  for item in
    select p.relation from private.personal_columns p join pg_catalog.pg_class c on c.oid = p.relation
    where p.refers_to = 'user' and c.relpersistence = 'u'
  loop
    execute format('delete from %s t where t.user_id <> %L and not exists (select from public.profiles p where p.id = t.user_id)',
      item.relation, '00000000-0000-0000-0000-000000000000');
  end loop;
  return counts;
end;
$$;
comment on function private.remove_expired_records is
  'Removes records that are older than their setting of category retention → how many of each. Definer: runs from cron.';

select cron.schedule('remove-expired-records', '7 * * * *', 'select private.remove_expired_records()');

-- Grants and policies --------------------------------------------------------------------------------------------

grant execute on function private.erase_my_account, private.erase_user, private.export_rows, private.refuse_api_key
  to authenticated, service_role;
grant execute on function public.erase_my_account, public.erase_user, public.export_rows, public.export_my_data
  to authenticated, service_role;
grant select, insert, update, delete on public.erasures to service_role;
grant select on public.erasures to authenticated;

alter table public.erasures enable row level security;
create policy "Administrators read erasures" on public.erasures
  for select to authenticated using ((select private.has_permission('system:read')));
