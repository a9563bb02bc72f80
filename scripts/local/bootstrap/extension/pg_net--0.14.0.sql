-- pg_net's tables, types and functions. The requests leave through scripts/local/net.ts, which is
-- told of each at commit. Safe to run again: bootstrap.ts does when this file changed.
--
-- Unlogged, as in the original: a crash empties queue and responses.

create schema if not exists net;

do $types$
begin
  if to_regtype('net.http_method') is null then
    create domain net.http_method as text
      check (value ilike 'get' or value ilike 'post' or value ilike 'delete');
  end if;
  if to_regtype('net.request_status') is null then
    create type net.request_status as enum ('PENDING', 'SUCCESS', 'ERROR');
  end if;
  if to_regtype('net.http_response') is null then
    create type net.http_response as (status_code integer, headers jsonb, body text);
  end if;
  if to_regtype('net.http_response_result') is null then
    create type net.http_response_result as (
      status net.request_status,
      message text,
      response net.http_response
    );
  end if;
end
$types$;

create unlogged table if not exists net.http_request_queue (
  id bigserial,
  method net.http_method not null,
  url text not null,
  headers jsonb,
  body bytea,
  timeout_milliseconds int not null
);
create index if not exists http_request_queue_id_idx on net.http_request_queue (id);

create unlogged table if not exists net._http_response (
  id bigint,
  status_code integer,
  content_type text,
  headers jsonb,
  content text,
  timed_out boolean,
  error_msg text,
  created timestamptz not null default now()
);
create index if not exists _http_response_created_idx on net._http_response (created);
create index if not exists _http_response_id_idx on net._http_response (id);

create or replace function net._wake_worker() returns trigger
language plpgsql
set search_path = ''
as $$
begin
  notify net, 'request';
  return null;
end
$$;
drop trigger if exists wake_worker on net.http_request_queue;
create trigger wake_worker
  after insert on net.http_request_queue
  for each statement execute function net._wake_worker();

create or replace function net._urlencode_string(string varchar) returns text
language sql
immutable
set search_path = ''
as $$
  select coalesce(
    string_agg(
      case
        when character ~ '^[A-Za-z0-9_.~-]$' then character
        else (
          select string_agg('%' || upper(encode(substr(bytes, i, 1), 'hex')), '' order by i)
          from
            (select convert_to(character, 'utf8') as bytes) as encoded,
            generate_series(1, length(encoded.bytes)) as i
        )
      end,
      '' order by position
    ),
    ''
  )
  from regexp_split_to_table(string, '') with ordinality as letters (character, position)
  where character <> ''
$$;

create or replace function net._encode_url_with_params_array(url text, params_array text[])
returns text
language sql
immutable
set search_path = ''
as $$
  select url || case
    when coalesce(cardinality(params_array), 0) = 0 then ''
    else case when url like '%?%' then '&' else '?' end || array_to_string(params_array, '&')
  end
$$;

create or replace function net._queue(
  method text,
  url text,
  params jsonb,
  headers jsonb,
  body bytea,
  timeout_milliseconds int
) returns bigint
language sql
set search_path = ''
as $$
  insert into net.http_request_queue (method, url, headers, body, timeout_milliseconds)
  select
    method,
    net._encode_url_with_params_array(
      url,
      array(
        select net._urlencode_string(key) || '=' || net._urlencode_string(value)
        from jsonb_each_text(params)
      )
    ),
    headers,
    body,
    timeout_milliseconds
  returning id
$$;

-- Definer, like the two below: every role may send a request, few may read the queue.
create or replace function net.http_get(
  url text,
  params jsonb default '{}'::jsonb,
  headers jsonb default '{}'::jsonb,
  timeout_milliseconds int default 2000
) returns bigint
language sql
security definer
set search_path = ''
as $$ select net._queue('GET', url, params, headers, null, timeout_milliseconds) $$;

create or replace function net.http_post(
  url text,
  body jsonb default '{}'::jsonb,
  params jsonb default '{}'::jsonb,
  headers jsonb default '{"Content-Type": "application/json"}'::jsonb,
  timeout_milliseconds int default 2000
) returns bigint
language plpgsql
security definer
set search_path = ''
as $$
declare
  content_type text := (
    select value from jsonb_each_text(coalesce(headers, '{}')) where lower(key) = 'content-type' limit 1
  );
begin
  if content_type is null then
    headers := coalesce(headers, '{}') || '{"Content-Type": "application/json"}';
  elsif content_type <> 'application/json' then
    raise exception 'Content-Type header must be "application/json"';
  end if;
  return net._queue(
    'POST', url, params, headers, convert_to(body::text, 'UTF8'), timeout_milliseconds
  );
end
$$;

create or replace function net.http_delete(
  url text,
  params jsonb default '{}'::jsonb,
  headers jsonb default '{}'::jsonb,
  timeout_milliseconds int default 2000,
  body jsonb default null
) returns bigint
language sql
security definer
set search_path = ''
as $$
  select net._queue(
    'DELETE', url, params, headers, convert_to(body::text, 'UTF8'), timeout_milliseconds
  )
$$;

create or replace function net._await_response(request_id bigint) returns boolean
language plpgsql
set search_path = ''
as $$
begin
  while not exists (select from net._http_response as r where r.id = request_id) loop
    perform pg_catalog.pg_sleep(0.05);
  end loop;
  return true;
end
$$;

create or replace function net._http_collect_response(request_id bigint, async boolean default true)
returns net.http_response_result
language plpgsql
set search_path = ''
as $$
declare
  found_response net._http_response;
begin
  if not async then
    perform net._await_response(request_id);
  end if;
  select r.* into found_response from net._http_response as r where r.id = request_id;
  if found_response.id is null or found_response.error_msg is not null then
    return (
      'ERROR',
      coalesce(found_response.error_msg, 'request matching request_id not found'),
      null
    )::net.http_response_result;
  end if;
  return (
    'SUCCESS',
    'ok',
    (
      found_response.status_code,
      found_response.headers,
      found_response.content
    )::net.http_response
  )::net.http_response_result;
end
$$;

create or replace function net.http_collect_response(request_id bigint, async boolean default true)
returns net.http_response_result
language sql
set search_path = ''
as $$ select net._http_collect_response(request_id, async) $$;

revoke all on all functions in schema net from public;
grant usage on schema net
  to supabase_functions_admin, postgres, anon, authenticated, service_role;
grant execute on function
  net.http_get(text, jsonb, jsonb, int),
  net.http_post(text, jsonb, jsonb, jsonb, int),
  net.http_delete(text, jsonb, jsonb, int, jsonb)
  to supabase_functions_admin, postgres, anon, authenticated, service_role;
grant execute on all functions in schema net to postgres, service_role;
grant all on all tables in schema net to postgres, service_role;
grant all on all sequences in schema net to postgres, service_role;
