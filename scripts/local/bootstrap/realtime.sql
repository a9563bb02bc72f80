-- What Realtime needs in the database. Schema realtime is the platform's: realtime.messages with row
-- level security, realtime.topic(), realtime.send() and realtime.broadcast_changes(). Schema
-- _realtime holds what only scripts/local/realtime asks. Runs as the superuser and may be repeated.

create schema if not exists realtime;
grant usage on schema realtime to postgres, anon, authenticated, service_role;
grant create, usage on schema realtime to supabase_realtime_admin with grant option;

create schema if not exists _realtime;
revoke all on schema _realtime from public;

-- Policies on realtime.messages are the application's, and only an owner may write them.
grant supabase_realtime_admin to postgres;

create table if not exists realtime.messages (
  topic text not null,
  extension text not null,
  payload jsonb,
  event text,
  private boolean default false,
  updated_at timestamp not null default now(),
  inserted_at timestamp not null default now(),
  id uuid not null default gen_random_uuid(),
  binary_payload bytea,
  constraint messages_pkey primary key (id, inserted_at),
  constraint messages_payload_exclusive check (payload is null or binary_payload is null)
) partition by range (inserted_at);

alter table realtime.messages enable row level security;
alter table realtime.messages owner to supabase_realtime_admin;
grant select, insert, update on realtime.messages to anon, authenticated, service_role;

create index if not exists messages_inserted_at_topic_index
  on realtime.messages (inserted_at desc, topic)
  where extension = 'broadcast' and private is true;

-- One partition a day: a message is history after three days, and dropping costs nothing.
create or replace function _realtime.maintain_messages(ahead integer default 3, keep integer default 3)
returns void
language plpgsql
set search_path = ''
as $function$
declare
  today date := (now() at time zone 'utc')::date;
  day date;
  partition text;
begin
  -- Two starts at once may not both create the same partition.
  perform pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtext('_realtime.maintain_messages'));
  for offset_days in -1 .. ahead loop
    day := today + offset_days;
    partition := 'messages_' || pg_catalog.to_char(day, 'YYYY_MM_DD');
    if pg_catalog.to_regclass(pg_catalog.format('realtime.%I', partition)) is null then
      execute pg_catalog.format(
        'create table realtime.%I partition of realtime.messages for values from (%L) to (%L)',
        partition, day, day + 1
      );
      execute pg_catalog.format('alter table realtime.%I owner to supabase_realtime_admin', partition);
    end if;
  end loop;
  for partition in
    select child.relname
    from pg_catalog.pg_inherits
    join pg_catalog.pg_class child on child.oid = pg_inherits.inhrelid
    where pg_inherits.inhparent = 'realtime.messages'::regclass
      and child.relname ~ '^messages_\d{4}_\d{2}_\d{2}$'
      and pg_catalog.to_date(pg_catalog.substr(child.relname, 10), 'YYYY_MM_DD') < today - keep
  loop
    execute pg_catalog.format('drop table realtime.%I', partition);
  end loop;
end
$function$;

select _realtime.maintain_messages();

-- Who follows which table, as the platform writes it down: a row for each postgres_changes binding and
-- table. The application counts them.
do $types$
begin
  if to_regtype('realtime.equality_op') is null then
    create type realtime.equality_op as enum (
      'eq', 'neq', 'lt', 'lte', 'gt', 'gte', 'in', 'like', 'ilike', 'is', 'match', 'imatch', 'isdistinct'
    );
    alter type realtime.equality_op owner to supabase_realtime_admin;
  end if;
  if to_regtype('realtime.user_defined_filter') is null then
    create type realtime.user_defined_filter as (
      column_name text, op realtime.equality_op, value text, negate boolean
    );
    alter type realtime.user_defined_filter owner to supabase_realtime_admin;
  end if;
end
$types$;

create or replace function realtime.to_regrole(role_name text)
returns regrole
language sql
immutable
set search_path = ''
as $function$
  select role_name::regrole;
$function$;

create table if not exists realtime.subscription (
  id bigint generated always as identity constraint pk_subscription primary key,
  subscription_id uuid not null,
  entity regclass not null,
  filters realtime.user_defined_filter[] not null default '{}',
  claims jsonb not null,
  claims_role regrole not null generated always as (realtime.to_regrole(claims ->> 'role')) stored,
  created_at timestamp not null default timezone('utc', now()),
  action_filter text default '*',
  selected_columns text[],
  constraint subscription_action_filter_check check (action_filter in ('*', 'INSERT', 'UPDATE', 'DELETE'))
);
create index if not exists ix_realtime_subscription_entity on realtime.subscription (entity);
create index if not exists subscription_subscription_id_idx on realtime.subscription (subscription_id);
alter table realtime.subscription owner to supabase_realtime_admin;
grant select on realtime.subscription to postgres, anon, authenticated, service_role;

create or replace function realtime.topic()
returns text
language sql
stable
set search_path = ''
as $function$
  select nullif(pg_catalog.current_setting('realtime.topic', true), '');
$function$;
comment on function realtime.topic() is 'Topic of the channel that a policy is asked about.';

-- No search_path of its own, as on the platform: a function with one could not leave realtime.topic
-- set for the policy of the insert. A failure is a warning, so that no trigger fails for want of an
-- audience.
create or replace function realtime.send(
  payload jsonb,
  event text,
  topic text,
  private boolean default true
)
returns void
language plpgsql
as $function$
declare
  message_id uuid := pg_catalog.gen_random_uuid();
begin
  perform pg_catalog.set_config('realtime.topic', topic, true);
  insert into realtime.messages (id, payload, event, topic, private, extension)
  values (
    message_id,
    case when payload ? 'id' then payload
      else payload || pg_catalog.jsonb_build_object('id', message_id) end,
    event, topic, private, 'broadcast'
  );
exception when others then
  raise warning 'WarnSendingBroadcastMessage: %', sqlerrm;
end
$function$;
comment on function realtime.send(jsonb, text, text, boolean) is
  'Broadcasts a payload to everybody who joined the topic.';

create or replace function realtime.send_binary(
  payload bytea,
  event text,
  topic text,
  private boolean default true
)
returns void
language plpgsql
as $function$
begin
  perform pg_catalog.set_config('realtime.topic', topic, true);
  insert into realtime.messages (binary_payload, event, topic, private, extension)
  values (payload, event, topic, private, 'broadcast');
exception when others then
  raise warning 'WarnSendingBroadcastMessage: %', sqlerrm;
end
$function$;

create or replace function realtime.broadcast_changes(
  topic_name text,
  event_name text,
  operation text,
  table_name text,
  table_schema text,
  new record,
  old record,
  level text default 'ROW'
)
returns void
language plpgsql
as $function$
begin
  if level = 'STATEMENT' then
    raise exception 'function can only be triggered for each row, not for each statement';
  end if;
  if operation not in ('INSERT', 'UPDATE', 'DELETE') then
    raise exception 'Unexpected operation type: %', operation;
  end if;
  perform realtime.send(
    pg_catalog.jsonb_build_object(
      'schema', table_schema,
      'table', table_name,
      'operation', operation,
      'record', new,
      'old_record', old
    ),
    event_name,
    topic_name
  );
exception when others then
  raise exception 'Failed to process the row: %', sqlerrm;
end
$function$;
comment on function realtime.broadcast_changes(text, text, text, text, text, record, record, text) is
  'Broadcasts a changed row to a private topic; for triggers.';

do $owners$
declare
  routine regprocedure;
begin
  for routine in
    select oid from pg_catalog.pg_proc where pronamespace = 'realtime'::regnamespace
  loop
    execute format('alter function %s owner to supabase_realtime_admin', routine);
    execute format('grant execute on function %s to postgres, anon, authenticated, service_role', routine);
  end loop;
end
$owners$;

-- What clients may subscribe to is the application's choice: `alter publication … add table`.
do $publications$
begin
  if not exists (select from pg_catalog.pg_publication where pubname = 'supabase_realtime') then
    create publication supabase_realtime;
    alter publication supabase_realtime owner to postgres;
  end if;
  if not exists (
    select from pg_catalog.pg_publication where pubname = 'supabase_realtime_messages_publication'
  ) then
    create publication supabase_realtime_messages_publication for table realtime.messages
      with (publish = 'insert', publish_via_partition_root = true);
  end if;
end
$publications$;

-- Tells for each extension (broadcast, presence) of a topic whether the caller may read and write it.
-- Policies are asked with rows that never come to be: both probes are rolled back by the exception
-- that ends the block, and plpgsql keeps its variables through that.
drop function if exists _realtime.authorize(text, text, text, text, text[]);
create function _realtime.authorize(
  channel text, caller_role text, claims text, headers text, extensions text[]
)
returns table (extension text, can_read boolean, can_write boolean, failure text)
language plpgsql
set search_path = ''
as $function$
declare
  probe uuid;
begin
  foreach extension in array extensions loop
    can_read := false;
    can_write := false;
    failure := null;
    probe := pg_catalog.gen_random_uuid();
    begin
      insert into realtime.messages (id, topic, extension) values (probe, channel, extension);
      perform
        pg_catalog.set_config('realtime.topic', channel, true),
        pg_catalog.set_config('request.jwt.claims', claims, true),
        pg_catalog.set_config('request.jwt.claim.sub', coalesce(claims::jsonb ->> 'sub', ''), true),
        pg_catalog.set_config('request.jwt.claim.role', caller_role, true),
        pg_catalog.set_config('request.headers', headers, true),
        pg_catalog.set_config('role', caller_role, true);
      can_read := exists (
        select from realtime.messages
        where id = probe and inserted_at > (now() at time zone 'utc') - interval '2 days'
      );
      begin
        insert into realtime.messages (topic, extension) values (channel, extension);
        can_write := true;
      exception when insufficient_privilege then
        can_write := false;
      end;
      raise exception using errcode = 'RT000', message = 'roll the probes back';
    exception
      when sqlstate 'RT000' then null;
      when others then
        can_read := false;
        can_write := false;
        failure := sqlstate || ' ' || sqlerrm;
    end;
    return next;
  end loop;
end
$function$;

-- Waits until transactions whose changes were already read from the log are committed for everybody:
-- the log has the commit before other sessions see its rows. Gives up after two seconds.
-- transactions are 32-bit transaction ids, as the log has them.
create or replace function _realtime.await_visible(transactions bigint[])
returns boolean
language plpgsql
set search_path = ''
as $function$
declare
  horizon bigint;
begin
  for attempt in 1 .. 400 loop
    horizon := pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())::text::bigint;
    -- Each round is a statement of its own and so has a snapshot of its own.
    if (
      select bool_and(pg_catalog.pg_visible_in_snapshot(
        (near + case when near > horizon + (1::bigint << 31) then -(1::bigint << 32)
          when near < horizon - (1::bigint << 31) then 1::bigint << 32 else 0 end)::text::xid8,
        pg_catalog.pg_current_snapshot()
      ))
      from (
        select (horizon >> 32 << 32) | transaction as near from unnest(transactions) as transaction
      ) as full_ids
    ) then
      return true;
    end if;
    perform pg_catalog.pg_sleep(least(attempt, 5) * 0.001);
  end loop;
  return false;
end
$function$;

-- Which of the rows may a subscriber see, and which columns? One call for a batch of subscribers:
-- requests is [{"table": oid, "role": text, "claims": text, "keys": [[text, …], …] | null}], keys being
-- primary keys in the order of _realtime.primary_key. visible has the positions (from 0) of the keys
-- whose rows the subscriber can select now.
drop function if exists _realtime.inspect(jsonb);
create function _realtime.inspect(requests jsonb)
returns table (row_security boolean, selectable text[], visible integer[], failure text)
language plpgsql
set search_path = ''
as $function$
declare
  asked jsonb;
  entity oid;
  caller_role text;
  question text;
begin
  for asked in select value from pg_catalog.jsonb_array_elements(requests) loop
    entity := (asked ->> 'table')::oid;
    caller_role := asked ->> 'role';
    visible := null;
    failure := null;
    row_security := (select relrowsecurity from pg_catalog.pg_class where oid = entity);
    selectable := array(
      select attname::text from pg_catalog.pg_attribute
      where attrelid = entity and attnum > 0 and not attisdropped
        and pg_catalog.has_column_privilege(caller_role, entity, attnum, 'select')
      order by attnum
    );
    if row_security and pg_catalog.jsonb_typeof(asked -> 'keys') = 'array' then
      question := _realtime.visibility_query(entity);
      begin
        perform
          pg_catalog.set_config('request.jwt.claims', asked ->> 'claims', true),
          pg_catalog.set_config(
            'request.jwt.claim.sub', coalesce((asked ->> 'claims')::jsonb ->> 'sub', ''), true),
          pg_catalog.set_config('request.jwt.claim.role', caller_role, true),
          pg_catalog.set_config('role', caller_role, true);
        execute question into visible using asked -> 'keys';
        perform pg_catalog.set_config('role', 'none', true);
      exception when others then
        -- The role went back with the block's subtransaction.
        visible := '{}';
        failure := sqlstate || ' ' || sqlerrm;
      end;
    end if;
    return next;
  end loop;
end
$function$;

create or replace function _realtime.primary_key(entity oid)
returns table (name text, type regtype, place bigint)
language sql
stable
set search_path = ''
as $function$
  select attname::text, atttypid::regtype, key.place
  from pg_catalog.pg_constraint
  cross join lateral unnest(conkey) with ordinality as key (attnum, place)
  join pg_catalog.pg_attribute on attrelid = conrelid and pg_attribute.attnum = key.attnum
  where conrelid = entity and contype = 'p'
  order by key.place;
$function$;

create or replace function _realtime.visibility_query(entity oid)
returns text
language sql
stable
set search_path = ''
as $function$
  select pg_catalog.format(
    'select coalesce(array_agg(asked.place::integer - 1 order by asked.place), ''{}'')
     from pg_catalog.jsonb_array_elements($1) with ordinality as asked (key, place)
     where exists (select from %s as target where %s)',
    entity::regclass,
    string_agg(
      pg_catalog.format('target.%I = (asked.key ->> %s)::%s', name, place - 1, type), ' and '
      order by place
    )
  )
  from _realtime.primary_key(entity);
$function$;

-- The tables of the publication that a subscription means, with the partitions of one table as that
-- table. Filters are checked, and their values come back in Postgres's own spelling.
-- filters is [{"column": text, "op": text, "value": text}]; raises in Realtime's words.
drop function if exists _realtime.subscribe(text, text, text, jsonb, text[]);
create function _realtime.subscribe(
  wanted_schema text, wanted_table text, caller_role text, filters jsonb, selected text[]
)
returns table (entity oid, spellings text[], types oid[])
language plpgsql
stable
set search_path = ''
as $function$
declare
  filter jsonb;
  operator text;
  wanted text;
  column_type regtype;
  spelled text;
  too_many boolean;
  readable text[];
begin
  for entity in
    select distinct coalesce(pg_catalog.pg_partition_root(published.oid), published.oid)
    from pg_catalog.pg_publication_tables
    cross join lateral (
      select pg_catalog.format('%I.%I', schemaname, tablename)::regclass::oid as oid
    ) as published
    join pg_catalog.pg_class
      on pg_class.oid = coalesce(pg_catalog.pg_partition_root(published.oid), published.oid)
    where pubname = 'supabase_realtime'
      and (wanted_schema = '*' or relnamespace::regnamespace::text = pg_catalog.quote_ident(wanted_schema))
      and (wanted_table = '*' or relname = wanted_table)
  loop
    readable := array(
      select attname::text from pg_catalog.pg_attribute
      where attrelid = entity and attnum > 0 and not attisdropped
        and pg_catalog.has_column_privilege(caller_role, entity, attnum, 'select')
    );
    spellings := '{}';
    types := '{}';
    for filter in select value from pg_catalog.jsonb_array_elements(filters) loop
      if not (filter ->> 'column') = any (readable) then
        raise exception 'invalid column for filter %', filter ->> 'column';
      end if;
      column_type := (
        select atttypid from pg_catalog.pg_attribute
        where attrelid = entity and attname = filter ->> 'column' and attnum > 0
      );
      operator := filter ->> 'op';
      wanted := filter ->> 'value';
      spelled := wanted;
      if operator = 'in' then
        execute pg_catalog.format('select %L::%s[]::text', wanted, column_type) into spelled;
        execute pg_catalog.format('select cardinality(%L::%s[]) > 100', wanted, column_type)
          into too_many;
        if too_many then
          raise exception 'too many values for `in` filter. Maximum 100';
        end if;
      elsif operator = 'is' then
        if wanted not in ('null', 'true', 'false', 'unknown') then
          raise exception 'invalid value for is filter: must be null, true, false, or unknown';
        end if;
        if wanted <> 'null' and column_type <> 'boolean'::regtype then
          raise exception 'is % filter requires a boolean column, got %', wanted, column_type;
        end if;
      elsif operator in ('like', 'ilike', 'match', 'imatch') then
        if not exists (
          select from pg_catalog.pg_operator
          where oprleft = column_type
            and oprname = case operator when 'match' then '~' when 'imatch' then '~*' else '~~' end
        ) then
          raise exception 'operator % requires a text-compatible column type, got %', operator, column_type;
        end if;
        if operator in ('match', 'imatch') then
          begin
            perform '' ~ wanted;
          exception when others then
            raise exception 'invalid regular expression for % filter: %', operator, sqlerrm;
          end;
        end if;
      else
        execute pg_catalog.format('select %L::%s::text', wanted, column_type) into spelled;
      end if;
      spellings := spellings || spelled;
      types := types || column_type::oid;
    end loop;
    for wanted in select unnest(selected) loop
      if not wanted = any (readable) then
        raise exception 'invalid column for select %', wanted;
      end if;
    end loop;
    return next;
  end loop;
end
$function$;

-- Makes the rows of these bindings what they are now: [{"id": uuid, "entity": oid, "claims": object, "action": text,
-- "selected": [text] | null, "filters": [{"column_name", "op", "value", "negate"}]}].
create or replace function _realtime.write_subscriptions(ids uuid[], subscriptions jsonb)
returns void
language sql
set search_path = ''
as $function$
  delete from realtime.subscription where subscription_id = any (ids);
  insert into realtime.subscription (subscription_id, entity, claims, action_filter, selected_columns, filters)
  select
    (given ->> 'id')::uuid, (given ->> 'entity')::oid::regclass, given -> 'claims', given ->> 'action',
    case when pg_catalog.jsonb_typeof(given -> 'selected') = 'array'
      then array(select pg_catalog.jsonb_array_elements_text(given -> 'selected')) end,
    array(select pg_catalog.jsonb_populate_record(null::realtime.user_defined_filter, filter)
      from pg_catalog.jsonb_array_elements(given -> 'filters') filter)
  from pg_catalog.jsonb_array_elements(subscriptions) given;
$function$;

-- A setting of the application, null where it has none.
create or replace function _realtime.setting(category text, key text)
returns jsonb
language plpgsql
stable
set search_path = ''
as $function$
declare
  value jsonb;
begin
  if to_regclass('public.settings') is not null then
    execute 'select s.value from public.settings s where s.category = $1 and s.key = $2' into value using category, key;
  end if;
  return value;
end
$function$;

-- Filters that scripts/local/realtime does not compare itself: [{"type": oid, "op": text, "negate": boolean,
-- "value": text | null, "wanted": text}] gives whether each holds. Runs with the rights of anon,
-- because types bring their own operators; those of extensions stand in the schemas named here.
create or replace function _realtime.passes(comparisons jsonb)
returns boolean[]
language plpgsql
stable
set search_path = pg_catalog, extensions, public
as $function$
declare
  asked jsonb;
  verdict boolean;
  verdicts boolean[] := '{}';
begin
  perform pg_catalog.set_config('role', 'anon', true);
  for asked in select value from pg_catalog.jsonb_array_elements(comparisons) loop
    begin
      execute case asked ->> 'op'
        when 'is' then pg_catalog.format(
          'select %L::%s is %s', asked ->> 'value', (asked ->> 'type')::oid::regtype,
          case when asked ->> 'wanted' in ('true', 'false', 'unknown') then asked ->> 'wanted' else 'null' end)
        when 'isdistinct' then pg_catalog.format(
          'select %1$L::%3$s is distinct from %2$L::%3$s',
          asked ->> 'value', asked ->> 'wanted', (asked ->> 'type')::oid::regtype)
        else pg_catalog.format(
          'select %L::%s %s (%L::%s)', asked ->> 'value', (asked ->> 'type')::oid::regtype,
          case asked ->> 'op'
            when 'eq' then '=' when 'neq' then '<>' when 'lt' then '<' when 'lte' then '<='
            when 'gt' then '>' when 'gte' then '>=' when 'in' then '= any'
            when 'like' then '~~' when 'ilike' then '~~*' when 'match' then '~' when 'imatch' then '~*'
          end,
          asked ->> 'wanted',
          (asked ->> 'type')::oid::regtype || case asked ->> 'op' when 'in' then '[]' else '' end)
        end into verdict;
      if (asked ->> 'negate')::boolean then
        verdict := not verdict;
      end if;
    exception when others then
      verdict := false;
    end;
    verdicts := verdicts || coalesce(verdict, false);
  end loop;
  perform pg_catalog.set_config('role', 'none', true);
  return verdicts;
end
$function$;

revoke all on all functions in schema _realtime from public;
