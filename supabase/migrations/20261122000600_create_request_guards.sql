-- Request guards of /api: rate limits and idempotency keys. Both are shared by all instances of the api function. What
-- counts requests that do not come through /api is in create_request_limits.

-- Unlogged: a counter is written with each request and worth nothing after a crash; without WAL the write costs no
-- flush. The free half of each page lets the updates stay on it (HOT).
create unlogged table private.rate_limits (
  subject text primary key,
  window_start timestamptz not null,
  window_count integer not null,
  burst_start timestamptz not null,
  burst_count integer not null
) with (fillfactor = 50);
comment on table private.rate_limits is 'Requests counted per caller (user:<id> or key:<id>) in the window and in the burst window.';

create function private.take_rate_limit(
  subject text, user_id uuid default null, key_id uuid default null, cost integer default 1,
  out allowed boolean, out granted integer,
  out window_limit integer, out window_remaining integer, out window_seconds integer, out window_reset timestamptz,
  out burst_limit integer, out burst_remaining integer, out burst_seconds integer, out burst_reset timestamptz,
  out retry_after integer,
  out query_remaining integer, out auth_remaining integer, out known boolean
) returns record
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  moment constant timestamptz := clock_timestamp();
  of_agent constant boolean := exists (select from public.api_keys k where k.id = take_rate_limit.key_id and k.agent_id is not null);
  own jsonb;
  limits jsonb;
  counted private.rate_limits;
begin
  select coalesce(p.rate_limit, '{}') into own from public.profiles p where p.id = take_rate_limit.user_id;
  known := found;
  select jsonb_object_agg(s.key, s.value) into limits from public.settings s
  where s.category = case when of_agent then 'report_rate_limit' else 'rate_limit' end;
  limits := coalesce(limits, '{}')
    || case when of_agent then '{}' else coalesce(own, '{}') end;
  if not of_agent then
    query_remaining := greatest(0, private.whole_number(limits -> 'query_limit', 1000)
      - private.queries_taken(user_id, private.query_window(private.whole_number(limits -> 'query_seconds', 60))));
    -- greatest() would take what is not known for nothing.
    auth_remaining := private.whole_number(limits -> 'auth_limit', 30) - private.auth_requests_of_hour(user_id);
    if auth_remaining < 0 then
      auth_remaining := 0;
    end if;
  end if;
  if key_id is not null then
    limits := limits || coalesce((select k.rate_limit from public.api_keys k where k.id = take_rate_limit.key_id), '{}');
  end if;
  window_limit := private.whole_number(limits -> 'window_limit', 100);
  window_seconds := private.whole_number(limits -> 'window_seconds', 900);
  burst_limit := private.whole_number(limits -> 'burst_limit', 20);
  burst_seconds := private.whole_number(limits -> 'burst_seconds', 60);

  select * into counted from private.rate_limits r where r.subject = take_rate_limit.subject for update;
  if not found then
    insert into private.rate_limits as r (subject, window_start, window_count, burst_start, burst_count)
    values (take_rate_limit.subject, moment, 0, moment, 0)
    on conflict on constraint rate_limits_pkey do nothing;
    select * into counted from private.rate_limits r where r.subject = take_rate_limit.subject for update;
  end if;

  if counted.window_start + make_interval(secs => window_seconds) <= moment then
    counted.window_start := moment;
    counted.window_count := 0;
  end if;
  if counted.burst_start + make_interval(secs => burst_seconds) <= moment then
    counted.burst_start := moment;
    counted.burst_count := 0;
  end if;

  granted := greatest(0, least(cost, window_limit - counted.window_count, burst_limit - counted.burst_count));
  allowed := granted = cost;
  if granted > 0 then
    counted.window_count := counted.window_count + granted;
    counted.burst_count := counted.burst_count + granted;
    update private.rate_limits r
    set window_start = counted.window_start, window_count = counted.window_count,
        burst_start = counted.burst_start, burst_count = counted.burst_count
    where r.subject = take_rate_limit.subject;
  end if;

  window_reset := counted.window_start + make_interval(secs => window_seconds);
  burst_reset := counted.burst_start + make_interval(secs => burst_seconds);
  window_remaining := greatest(window_limit - counted.window_count, 0);
  burst_remaining := greatest(burst_limit - counted.burst_count, 0);
  retry_after := case
    when allowed then 0
    when counted.window_count >= window_limit then greatest(1, ceil(extract(epoch from window_reset - moment)))::int
    else greatest(1, ceil(extract(epoch from burst_reset - moment)))::int
  end;
end;
$$;
comment on function private.take_rate_limit is
  'Counts a request of a caller in both windows and says whether it may go on, or `cost` requests that came together and how many of them are granted; a refused request is not counted. Limits: settings of category rate_limit, then the user''s, then the key''s own; of an agent''s key those of report_rate_limit, then its own. retry_after in seconds. Tells also what the user has left of the limits in create_request_limits: query_remaining, and auth_remaining, null when it is not known; of an agent''s key both are null; and whether the user is known: a token outlives its account. Definer: called by the api function.';

create table private.idempotency_keys (
  user_id uuid not null references auth.users (id) on delete cascade,
  key text not null,
  method text not null,
  path text not null,
  body_hash bytea not null,
  locked_until timestamptz,
  status integer,
  headers jsonb,
  body jsonb,
  created_at timestamptz not null default now(),
  expires_at timestamptz not null default now() + interval '24 hours',
  primary key (user_id, key),
  constraint key_is_short check (char_length(key) between 1 and 300)
);
comment on table private.idempotency_keys is 'First answers to POST requests that carried an Idempotency-Key, for 24 hours.';
comment on column private.idempotency_keys.locked_until is 'Until when the first request is taken to be under way; null once it has answered.';
comment on column private.idempotency_keys.key is 'As it was sent, at most 255 characters; of the key of an agent with the agent''s id and a space before it.';
create index idempotency_keys_expires_at_idx on private.idempotency_keys (expires_at);

create function private.begin_idempotent(user_id uuid, key text, method text, path text, body_hash bytea) returns jsonb
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  kept private.idempotency_keys;
begin
  insert into private.idempotency_keys as k (user_id, key, method, path, body_hash, locked_until)
  values (begin_idempotent.user_id, begin_idempotent.key, begin_idempotent.method, begin_idempotent.path,
    begin_idempotent.body_hash, now() + interval '60 seconds')
  on conflict on constraint idempotency_keys_pkey do nothing;
  if found then
    return jsonb_build_object('state', 'new');
  end if;

  select * into kept from private.idempotency_keys k
  where k.user_id = begin_idempotent.user_id and k.key = begin_idempotent.key for update;
  if kept.key is null or kept.expires_at <= now() or (kept.status is null and kept.locked_until <= now()) then
    -- Expired, or the process that held it died before it answered: the request may run again.
    update private.idempotency_keys k
    set method = begin_idempotent.method, path = begin_idempotent.path, body_hash = begin_idempotent.body_hash,
        locked_until = now() + interval '60 seconds', status = null, headers = null, body = null,
        created_at = now(), expires_at = now() + interval '24 hours'
    where k.user_id = begin_idempotent.user_id and k.key = begin_idempotent.key;
    return jsonb_build_object('state', 'new');
  end if;
  if (kept.method, kept.path, kept.body_hash)
    is distinct from (begin_idempotent.method, begin_idempotent.path, begin_idempotent.body_hash)
  then
    return jsonb_build_object('state', 'mismatch');
  end if;
  if kept.status is null then
    return jsonb_build_object('state', 'in_flight',
      'retry_after', greatest(1, ceil(extract(epoch from kept.locked_until - now())))::int);
  end if;
  return jsonb_build_object('state', 'replay', 'status', kept.status, 'headers', kept.headers, 'body', kept.body);
end;
$$;
comment on function private.begin_idempotent is
  'Claims an idempotency key → {state: new | replay (with status, headers, body) | in_flight (with retry_after seconds) | mismatch}. A claim whose process died is free again after 60 seconds. Definer: called by the api function.';

create function private.finish_idempotent(user_id uuid, key text, status integer, headers jsonb, body jsonb) returns void
language sql volatile security definer
set search_path = ''
as $$
  update private.idempotency_keys k
  set status = finish_idempotent.status, headers = finish_idempotent.headers, body = finish_idempotent.body, locked_until = null
  where k.user_id = finish_idempotent.user_id and k.key = finish_idempotent.key;
$$;
comment on function private.finish_idempotent is
  'Keeps the answer to replay. Called in the transaction that did the work, so that both hold or neither. Definer: called by the api function.';

create function private.abandon_idempotent(user_id uuid, key text) returns void
language sql volatile security definer
set search_path = ''
as $$
  delete from private.idempotency_keys k
  where k.user_id = abandon_idempotent.user_id and k.key = abandon_idempotent.key and k.status is null;
$$;
comment on function private.abandon_idempotent is 'Frees a claimed key whose request did nothing. Definer: called by the api function.';
