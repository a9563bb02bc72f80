-- Limits and figures of a user's way past /api (seed 002, "Rate Limiting with Supabase"): what they may change over
-- PostgREST in a minute, and how often they asked Supabase Auth of late.
--
-- Adds: private.guard_request, which PostgREST calls before each request; the counts behind the headers
-- Supabase-RateLimit-Remaining and Supabase-Auth-Rate-Limit; supabase_usage, an agent's figures of the same kind.
-- Mind: the guard runs in the request's own transaction. Only what may write can be counted: GET, HEAD and calls of stable
-- functions run read-only. A request that fails takes its count back with it, and a refused one is not counted.

insert into public.settings (category, key, value, description) values
  ('rate_limit', 'query_limit', '1000', 'Requests that change something a user may make over PostgREST in one window (seed 002: 1000).'),
  ('rate_limit', 'query_seconds', '60', 'Length of that window in seconds; windows begin on the full minute.'),
  ('rate_limit', 'auth_limit', '30', 'Requests to Supabase Auth in an hour from which Supabase-Auth-Rate-Limit counts down, and tokens in an hour beyond which a user is refused to sign in (seed 002: 30).');

-- A counter is held until its request ends. With one of them a slow request would hold up all others of its user, so
-- each user has several, every one with its share of the limit: together they never admit more. Which are free is asked of
-- advisory locks, for a row that another request has just inserted cannot be seen.
-- Unlogged and half empty for the reasons that private.rate_limits has.
create unlogged table private.query_counts (
  user_id uuid not null,
  lane integer not null,
  window_start timestamptz not null,
  queries integer not null,
  queries_before integer not null,
  primary key (user_id, lane)
) with (fillfactor = 50);
comment on table private.query_counts is
  'Requests per user that could change something over PostgREST, in eight counters (lanes) that requests at once take turns at.';
comment on column private.query_counts.queries is 'Requests of the window that begins at window_start.';
comment on column private.query_counts.queries_before is 'Requests of the window before that one.';

create function private.query_window(query_seconds integer) returns timestamptz
language plpgsql volatile
set search_path = ''
as $$
begin
  return date_bin(make_interval(secs => greatest(1, query_seconds)), clock_timestamp(), '2024-01-01 00:00:00+00');
end;
$$;
comment on function private.query_window is 'When the present window of so many seconds began.';

create function private.query_allowance(user_id uuid, out query_limit integer, out query_seconds integer, out window_start timestamptz)
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  own constant jsonb := (select p.rate_limit from public.profiles p where p.id = query_allowance.user_id);
begin
  query_limit := private.whole_number(coalesce(own -> 'query_limit', private.setting('rate_limit', 'query_limit')), 1000);
  query_seconds := greatest(1,
    private.whole_number(coalesce(own -> 'query_seconds', private.setting('rate_limit', 'query_seconds')), 60));
  window_start := private.query_window(query_seconds);
end;
$$;
comment on function private.query_allowance is
  'What a user may change over PostgREST: so many requests in a window of so many seconds, and when this one began. Settings of category rate_limit, then the user''s own. Definer: users may not read settings.';

create function private.queries_taken(user_id uuid, window_start timestamptz) returns integer
language plpgsql volatile security definer
set search_path = ''
as $$
begin
  return (
    select coalesce(sum(q.queries), 0) from private.query_counts q
    where q.user_id = queries_taken.user_id and q.window_start >= queries_taken.window_start
  );
end;
$$;
comment on function private.queries_taken is
  'Requests of a user that could change something since the window began. Volatile: after a wait it must see what others did meanwhile. Definer: clients may not read the counts.';

create function private.take_query(
  user_id uuid, query_limit integer, query_seconds integer, window_start timestamptz, out granted boolean, out remaining integer
) returns record
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  lanes constant integer := 8;
  moment constant timestamptz := window_start;
  locks constant bigint := hashtextextended('queries:' || user_id, 0);
  open_lanes integer[];
  chosen integer;
  share integer;
  taken integer;
  counted integer;
  busy bigint;
begin
  granted := false;
  <<search>>
  loop
    -- A window that began while this request waited holds as well.
    select coalesce(sum(q.queries), 0),
      array_agg(n order by n) filter (where coalesce(q.queries, 0) < query_limit / lanes + (n < query_limit % lanes)::integer)
    into taken, open_lanes
    from generate_series(0, lanes - 1) n
    left join private.query_counts q on q.user_id = take_query.user_id and q.lane = n and q.window_start >= moment;
    remaining := greatest(0, query_limit - taken);
    if open_lanes is null then
      return;
    end if;
    busy := null;
    foreach chosen in array open_lanes loop
      if not pg_try_advisory_xact_lock(locks + 1 + chosen) then
        busy := coalesce(busy, locks + 1 + chosen);
        continue;
      end if;
      share := query_limit / lanes + (chosen < query_limit % lanes)::integer;
      insert into private.query_counts as q (user_id, lane, window_start, queries, queries_before)
      values (take_query.user_id, chosen, moment, 1, 0)
      on conflict on constraint query_counts_pkey do update set
        window_start = greatest(q.window_start, moment),
        queries = case when q.window_start >= moment then q.queries else 0 end + 1,
        queries_before = case
          when q.window_start >= moment then q.queries_before
          when q.window_start = moment - make_interval(secs => query_seconds) then q.queries
          else 0
        end
      where case when q.window_start >= moment then q.queries else 0 end < share
      returning q.queries into counted;
      exit search when found;
      -- Somebody was faster, and what was read is out of date. Nobody waits with that in hand, so that no two wait for each
      -- other.
      continue search;
    end loop;
    -- Whoever is at the counter may yet fail and leave its room to this request.
    perform pg_advisory_xact_lock(busy);
  end loop;

  granted := true;
  remaining := greatest(0, remaining - 1);
  if counted >= share then
    -- Those that fill a counter wait for each other, so that the one who took the last of all finds that out.
    perform pg_advisory_xact_lock(locks);
    remaining := greatest(0, query_limit - private.queries_taken(take_query.user_id, moment));
  end if;
end;
$$;
comment on function private.take_query is
  'Counts a request that may change something → whether it may go on, and how many more may in this window, as far as is known: requests at the same moment do not see each other. Definer: called by the guard.';

create function private.guard_request() returns void
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  caller uuid;
  allowance record;
  taken record;
  remaining integer;
  resets timestamptz;
  wait integer;
begin
  -- The service key has no limit and strangers may change nothing. A replica cannot read what is not logged.
  if current_setting('role') <> 'authenticated' or pg_is_in_recovery() then
    return;
  end if;
  caller := auth.uid();
  if caller is null then
    return;
  end if;
  select * into allowance from private.query_allowance(caller);
  resets := allowance.window_start + make_interval(secs => allowance.query_seconds);
  wait := greatest(1, ceil(extract(epoch from resets - clock_timestamp())))::integer;

  if current_setting('transaction_read_only')::boolean then
    remaining := greatest(0, allowance.query_limit - private.queries_taken(caller, allowance.window_start));
  else
    select * into taken
    from private.take_query(caller, allowance.query_limit, allowance.query_seconds, allowance.window_start);
    if not taken.granted then
      perform private.raise_error('RATE_LIMIT_EXCEEDED', 'Rate limit exceeded',
        jsonb_build_object(
          'limit_type', 'supabase_queries', 'limit', allowance.query_limit, 'window_seconds', allowance.query_seconds,
          'reset_time', to_char(resets at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
          'retry_after', wait, 'user_id', caller
        ),
        429, 'Wait until reset_time, or send several rows in one request: it counts once.',
        jsonb_build_object('Retry-After', wait::text, 'Supabase-RateLimit-Remaining', '0'));
    end if;
    remaining := taken.remaining;
    if remaining = 0 then
      -- A refusal undoes whatever is written with it, so what tells of them is the request that leaves nothing over.
      perform private.write_security_event('RATE_LIMIT_REACHED', 'LOW', caller,
        'All changes over PostgREST of this window are made',
        jsonb_build_object('limit_type', 'supabase_queries', 'limit', allowance.query_limit, 'window_seconds', allowance.query_seconds),
        automated_response => jsonb_build_object(
          'action_taken', 'REQUESTS_REFUSED', 'duration', private.duration_text(wait), 'until', resets
        ));
    end if;
  end if;
  perform set_config('response.headers',
    jsonb_build_array(jsonb_build_object('Supabase-RateLimit-Remaining', remaining::text))::text, true);
end;
$$;
comment on function private.guard_request is
  'Called by PostgREST before each request (pgrst.db_pre_request). Counts those of a user that may change something, tells in Supabase-RateLimit-Remaining how many more may in this window, and refuses the next: RATE_LIMIT_EXCEEDED 429 with Retry-After and details {limit_type: supabase_queries, limit, window_seconds, reset_time, retry_after, user_id}. Definer: clients may not write counts.';

-- Supabase Auth ----------------------------------------------------------------------------------------------------

create unlogged table private.auth_requests (
  user_id uuid not null,
  at timestamptz not null,
  refused boolean not null default false,
  primary key (user_id, at)
);
comment on column private.auth_requests.refused is 'A refused password, and no token. Only tokens take from what a user may sign in: strangers could use up the rest.';
comment on table private.auth_requests is
  'When Supabase Auth gave a user a token or refused their password, as its hooks tell, for an hour.';
create index auth_requests_at_idx on private.auth_requests (at);

create function private.count_auth_request(user_id uuid, refused boolean default false) returns void
language sql volatile security definer
set search_path = ''
as $$
  insert into private.auth_requests (user_id, at, refused)
  values (count_auth_request.user_id, clock_timestamp(), count_auth_request.refused)
  on conflict on constraint auth_requests_pkey do nothing;
$$;
comment on function private.count_auth_request is 'Counts a request to Supabase Auth. Definer: called by the hooks of the auth service.';

create function private.sign_in_wait(user_id uuid) returns interval
language plpgsql stable security definer
set search_path = ''
as $$
declare
  since constant timestamptz := clock_timestamp() - interval '1 hour';
  allowed constant integer := private.whole_number(coalesce(
    (select p.rate_limit -> 'auth_limit' from public.profiles p where p.id = sign_in_wait.user_id),
    private.setting('rate_limit', 'auth_limit')
  ), 30);
begin
  return (
    select a.at - since from private.auth_requests a
    where a.user_id = sign_in_wait.user_id and a.at > since and not a.refused
    order by a.at desc offset greatest(allowed, 1) - 1 limit 1
  );
end;
$$;
comment on function private.sign_in_wait is
  'How long until a user may sign in again, null when at once: an hour may bring settings rate_limit.auth_limit tokens, or the user''s own limit. Auth locks the user''s row before it calls the hook, so sign-ins at once are counted one after the other. Definer: called by the hooks of the auth service.';

create function private.auth_requests_of_hour(user_id uuid) returns integer
language plpgsql stable security definer
set search_path = ''
as $$
declare
  since constant timestamptz := clock_timestamp() - interval '1 hour';
  counted constant integer := (
    select count(*) from private.auth_requests a where a.user_id = auth_requests_of_hour.user_id and a.at > since
  );
begin
  -- Without the hook nothing is counted: then nobody has any.
  if counted = 0 and not exists (select from private.auth_requests a where a.at > since) then
    return null;
  end if;
  return counted;
end;
$$;
comment on function private.auth_requests_of_hour is
  'Requests of a user to Supabase Auth within an hour, or null when Auth does not call the hooks that count them. Definer: clients may not read the counts.';

-- Figures ------------------------------------------------------------------------------------------------------------

create function private.supabase_usage(owner uuid) returns jsonb
language plpgsql stable security definer
set search_path = ''
as $$
declare
  last_minute constant timestamptz := date_trunc('minute', clock_timestamp()) - interval '1 minute';
  allowance record;
  written bigint;
begin
  perform private.require_permission('monitoring:read');
  if owner is null or not coalesce(
    owner between private.owner_bound('monitoring:read', 'lowest') and private.owner_bound('monitoring:read', 'highest'), false
  ) then
    return null;
  end if;
  select * into allowance from private.query_allowance(owner);
  select sum(case
    when q.window_start >= allowance.window_start then q.queries_before
    when q.window_start = allowance.window_start - make_interval(secs => allowance.query_seconds) then q.queries
    else 0
  end) into written from private.query_counts q where q.user_id = supabase_usage.owner;
  return jsonb_build_object(
    'database_connections', (select d.numbackends from pg_catalog.pg_stat_database d where d.datname = current_database()),
    'real_time_subscriptions', private.realtime_subscriptions(owner),
    'rls_queries_per_minute',
      round(coalesce(written, 0) * 60.0 / allowance.query_seconds)
      + (select coalesce(sum(r.requests), 0) from private.request_counts r where r.minute = last_minute and r.user_id = owner),
    'auth_requests_per_hour', private.auth_requests_of_hour(owner)
  );
end;
$$;
comment on function private.supabase_usage is
  'See public.supabase_usage; null for an owner whose figures the caller may not see. Definer: clients may not read counts.';

create function public.supabase_usage(agent_id uuid) returns jsonb
language plpgsql stable
set search_path = ''
as $$
declare
  owner constant uuid := (select a.user_id from public.agents a where a.id = supabase_usage.agent_id);
begin
  return private.supabase_usage(owner);
end;
$$;
comment on function public.supabase_usage is
  'What the owner of an agent asks of Supabase (seed 002: metrics.supabase of GET /api/agents/{id}/metrics) → {database_connections (of the whole project), real_time_subscriptions (those of the caller alone), rls_queries_per_minute (in the last full minute: requests to /api, and those over PostgREST that could change something; reads over PostgREST run where nothing can be counted), auth_requests_per_hour (tokens given and passwords refused)}. What nobody counts is null; so is the whole for an agent that is not there or not the caller''s. Error: PERMISSION_DENIED 403 without monitoring:read.';

select cron.schedule('forget-request-limits', '*/10 * * * *', $$
  delete from private.query_counts where window_start < now() - interval '1 day';
  delete from private.auth_requests where at < now() - interval '1 hour';
$$);

-- PostgREST calls the guard as the role of the request, anonymous ones too.
grant usage on schema private to anon;
grant execute on function private.guard_request to anon, authenticated, service_role;
grant execute on function private.supabase_usage to authenticated;
grant execute on function public.supabase_usage to authenticated;

alter role authenticator set pgrst.db_pre_request = 'private.guard_request';
notify pgrst, 'reload config';
