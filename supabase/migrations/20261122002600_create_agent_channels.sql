-- Channels of agents (seeds 000 and 002: supabase_config.real_time): each one that an agent opens is the private topic
-- `agent:{id}:{channel}`. The system speaks on agent_status, performance_metrics, error_logs, container_events and
-- user_interactions; on any other name the agent and its owner do, by emit_agent_event or from a client that joined.
--
-- Who may join and send is decided in create_broadcasts. A channel that is not open, or an agent with
-- `real_time.enabled: false`, costs one look at the agent's row and sends nothing.
-- Mind: messages stand in realtime.messages for days. Those that hold what somebody wrote (lines of logs, payloads of
-- emit_agent_event) are remembered in private.channel_messages and emptied when the agent is deleted; all others hold
-- identifiers, states and figures only.

insert into public.settings (category, key, value, description) values
  ('real_time', 'max_channels', '50', 'Channels one agent may open in supabase_config.real_time.channels.'),
  ('real_time', 'connections_per_user', '100', 'Realtime and WebSocket connections one user may have open at a time (seed 002: 100).'),
  ('real_time', 'events_per_minute', '600', 'Events one agent may emit in a minute; one more is RATE_LIMIT_EXCEEDED.'),
  ('real_time', 'error_lines_per_window', '10', 'ERROR lines of one agent that are sent one by one in a window; the rest is summed up.'),
  ('real_time', 'error_window_seconds', '10', 'Length of that window in seconds.');

create table private.channel_messages (
  message_id uuid primary key,
  agent_id uuid not null,
  inserted_at timestamp not null
);
comment on table private.channel_messages is
  'Messages on channels of agents that hold what somebody wrote, so that they can be emptied with the agent. Kept a day longer than the messages.';
comment on column private.channel_messages.inserted_at is 'As in realtime.messages, which is partitioned by it.';
create index channel_messages_agent_id_idx on private.channel_messages (agent_id, inserted_at);
create index channel_messages_inserted_at_idx on private.channel_messages (inserted_at);

create table private.error_windows (
  agent_id uuid primary key references public.agents (id) on delete cascade,
  started_at timestamptz not null,
  sent integer not null,
  held_back bigint not null,
  last_id bigint not null default 0,
  constraint counts_are_counts check (sent >= 0 and held_back >= 0)
) with (fillfactor = 70);
comment on table private.error_windows is 'How many ERROR lines of an agent were sent on error_logs in the window, and how many were held back to be summed up.';
comment on column private.error_windows.last_id is 'agent_logs.id of the last line that was sent.';
create index error_windows_held_back_idx on private.error_windows (started_at) where held_back > 0;

-- Sending --------------------------------------------------------------------------------------------------------

create function private.is_channel_open(agent_id uuid, channel text) returns boolean
language sql stable security definer
set search_path = ''
as $$
  select exists (
    select from public.agents a
    where a.id = is_channel_open.agent_id and channel = any (private.agent_channels(a.supabase_config))
  );
$$;
comment on function private.is_channel_open is 'Whether an agent has opened a channel. Definer: triggers ask for callers who may not read the agent.';

create function private.write_topic_message(id uuid, topic text, event text, payload jsonb) returns timestamp
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  at timestamp;
begin
  -- As realtime.send writes it, which does not tell the id.
  insert into realtime.messages as m (id, payload, event, topic, private, extension)
  values (write_topic_message.id, jsonb_build_object('id', write_topic_message.id) || payload, event, topic, true, 'broadcast')
  returning m.inserted_at into at;
  return at;
exception when check_violation then
  -- There is no partition for today: Realtime makes them as long as somebody is connected.
  perform private.raise_error('SUPABASE_CONNECTION_ERROR', 'Realtime takes no messages at present.', null, 503,
    'It makes room when a client connects; try again then.', '{"Retry-After": "30"}');
end;
$$;
comment on function private.write_topic_message is
  'Sends a message on a private topic → when; its id is also payload.id unless the payload has one. Error: SUPABASE_CONNECTION_ERROR 503. Definer: clients do not write realtime.messages.';

create function private.write_channel_message(agent_id uuid, channel text, event text, payload jsonb) returns uuid
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  written constant uuid := gen_random_uuid();
begin
  insert into private.channel_messages (message_id, agent_id, inserted_at)
  values (written, write_channel_message.agent_id,
    private.write_topic_message(written, format('agent:%s:%s', agent_id, channel), event, payload));
  return written;
end;
$$;
comment on function private.write_channel_message is
  'Sends a message that holds what somebody wrote on a channel of an agent → its id. Error: SUPABASE_CONNECTION_ERROR 503. Definer: clients do not write realtime.messages.';

create function private.forget_channel_messages() returns trigger
language plpgsql volatile security definer
set search_path = ''
as $$
begin
  -- Updated, not deleted: on the hosted platform no more is granted, and an update is not sent.
  update realtime.messages m set payload = '{}', event = 'erased'
  from private.channel_messages c
  where c.agent_id = old.id and m.id = c.message_id and m.inserted_at = c.inserted_at;
  delete from private.channel_messages c where c.agent_id = old.id;
  delete from private.error_windows w where w.agent_id = old.id;
  return null;
end;
$$;
comment on function private.forget_channel_messages is
  'Trigger: empties what was written on the channels of an agent that is deleted. Definer: the messages are the platform''s.';
create trigger agents_forget_channel_messages after update on public.agents
  for each row when (new.status = 'deleting' and old.status <> 'deleting' or new.deleted_at is not null and old.deleted_at is null)
  execute function private.forget_channel_messages();
create trigger agents_forget_channel_messages_with_row after delete on public.agents
  for each row execute function private.forget_channel_messages();

-- What the system says -------------------------------------------------------------------------------------------

create function private.tell_agent_status() returns trigger
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  target public.agents;
  placed public.deployments;
begin
  if tg_table_name = 'deployments' then
    placed := new;
    -- Of most agents nobody hears more than the broadcasts.
    select * into target from public.agents a where a.id = new.agent_id and a.supabase_config ? 'real_time';
    if target.id is null then
      return null;
    end if;
  elsif tg_op = 'DELETE' then
    target := old;
  else
    target := new;
    -- A deleted agent opens no channel any more; who joined while it did is still to hear of it.
    target.supabase_config := case when new.status = 'deleting' then old.supabase_config else new.supabase_config end;
    select * into placed from public.deployments d where d.agent_id = new.id;
  end if;
  if 'agent_status' <> all (private.agent_channels(target.supabase_config)) then
    return null;
  end if;
  perform realtime.send(jsonb_build_object(
    'agent_id', target.id,
    'status', case when tg_op = 'DELETE' or target.deleted_at is not null then 'deleted' else target.status end,
    'deployment', case when placed.id is not null then jsonb_build_object(
      'state', placed.state, 'replicas', jsonb_build_object('desired', placed.replicas_desired, 'running', placed.replicas_ready),
      'health', placed.health ->> 'status', 'error', placed.error ->> 'code'
    ) end,
    'timestamp', clock_timestamp()
  ), 'agent_status_update', format('agent:%s:agent_status', target.id), true);
  return null;
end;
$$;
comment on function private.tell_agent_status is
  'Trigger: agent_status_update {agent_id, status, deployment: {state, replicas: {desired, running}, health, error (its code)} | null, timestamp} on agent_status. Definer: clients do not write realtime.messages.';
create trigger agents_tell_status after update on public.agents
  for each row when ((old.status is distinct from new.status or old.deleted_at is distinct from new.deleted_at)
    and (old.supabase_config ? 'real_time' or new.supabase_config ? 'real_time'))
  execute function private.tell_agent_status();
create trigger agents_tell_removal after delete on public.agents
  for each row when (old.supabase_config ? 'real_time') execute function private.tell_agent_status();
create trigger deployments_tell_status after update on public.deployments
  for each row when (old.state is distinct from new.state or old.replicas_ready is distinct from new.replicas_ready
    or old.health ->> 'status' is distinct from new.health ->> 'status')
  execute function private.tell_agent_status();

create function private.tell_metrics() returns trigger
language plpgsql volatile security definer
set search_path = ''
as $$
begin
  if private.is_channel_open(new.agent_id, 'performance_metrics') then
    perform realtime.send(to_jsonb(new) - array['user_id', 'containers'], 'metric_update',
      format('agent:%s:performance_metrics', new.agent_id), true);
  end if;
  return null;
end;
$$;
comment on function private.tell_metrics is
  'Trigger: metric_update with the row of agent_metrics, without containers, on performance_metrics. Definer: clients do not write realtime.messages.';
create trigger agent_metrics_tell after insert on public.agent_metrics
  for each row execute function private.tell_metrics();

create function private.tell_container_event() returns trigger
language plpgsql volatile security definer
set search_path = ''
as $$
begin
  if private.is_channel_open(new.agent_id, 'container_events') then
    -- Names of containers and images tell whose they are.
    perform realtime.send(jsonb_build_object(
      'id', new.id, 'agent_id', new.agent_id, 'event', new.event, 'container_id', new.container_id,
      'details', new.details - 'image', 'timestamp', new.timestamp
    ), 'container_event', format('agent:%s:container_events', new.agent_id), true);
  end if;
  return null;
end;
$$;
comment on function private.tell_container_event is
  'Trigger: container_event {id, agent_id, event, container_id, details, timestamp} on container_events. Definer: clients do not write realtime.messages.';
create trigger container_events_tell after insert on public.container_events
  for each row execute function private.tell_container_event();

create function private.tell_conversation() returns trigger
language plpgsql volatile security definer
set search_path = ''
as $$
begin
  if private.is_channel_open(new.agent_id, 'user_interactions') then
    -- What was said, by whom and where is read from the table, by those who may.
    perform realtime.send(jsonb_build_object('message_id', new.id, 'agent_id', new.agent_id, 'role', new.role, 'platform', new.platform,
      'timestamp', new.timestamp), 'user_interaction', format('agent:%s:user_interactions', new.agent_id), true);
  end if;
  return null;
end;
$$;
comment on function private.tell_conversation is
  'Trigger: user_interaction {message_id, agent_id, role, platform, timestamp} on user_interactions. Definer: clients do not write realtime.messages.';
create trigger agent_conversations_tell after insert on public.agent_conversations
  for each row execute function private.tell_conversation();

-- Errors: a burst of ten thousand lines a second becomes ten messages and one sum ---------------------------------

create function private.sum_up_errors(agent_id uuid, lines bigint, since timestamptz) returns void
language sql volatile security definer
set search_path = ''
as $$
  select realtime.send(jsonb_build_object(
    'agent_id', agent_id, 'count', lines, 'since', since, 'until', clock_timestamp()
  ), 'error_summary', format('agent:%s:error_logs', agent_id), true);
$$;
comment on function private.sum_up_errors is
  'Sends error_summary {agent_id, count, since, until}: ERROR lines that were not sent one by one. Definer: clients do not write realtime.messages.';

create function private.tell_errors() returns trigger
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  lines constant bigint := new.lines - case when tg_op = 'UPDATE' then old.lines else 0 end;
  most constant integer := (private.setting('real_time', 'error_lines_per_window'))::int;
  span constant interval := make_interval(secs => (private.setting('real_time', 'error_window_seconds'))::int);
  kept private.error_windows;
  allowed integer;
  line public.agent_logs;
begin
  if not private.is_channel_open(new.agent_id, 'error_logs') then
    return null;
  end if;
  insert into private.error_windows as w (agent_id, started_at, sent, held_back) values (new.agent_id, clock_timestamp(), 0, 0)
  on conflict (agent_id) do update set agent_id = excluded.agent_id
  returning * into kept;
  if kept.started_at < clock_timestamp() - span then
    if kept.held_back > 0 then
      perform private.sum_up_errors(kept.agent_id, kept.held_back, kept.started_at);
    end if;
    kept.started_at := clock_timestamp();
    kept.sent := 0;
    kept.held_back := 0;
  end if;
  allowed := least(lines, greatest(most - kept.sent, 0));
  begin
    for line in
      -- The newest ones of the hour are those that were just written: one transaction at a time writes lines of an agent.
      select * from (
        select * from public.agent_logs l
        where l.agent_id = new.agent_id and l.timestamp >= new.hour and l.timestamp < new.hour + interval '1 hour'
          and l.level = 'ERROR' and l.id > kept.last_id
        order by l.timestamp desc, l.id desc limit allowed
      ) newest
      order by newest.timestamp, newest.id
    loop
      perform private.write_channel_message(line.agent_id, 'error_logs', 'error_log', jsonb_build_object(
        'log_id', line.id, 'agent_id', line.agent_id, 'timestamp', line.timestamp, 'level', line.level,
        'message', left(line.message, 500), 'source', line.source, 'container_id', line.container_id
      ));
      kept.last_id := greatest(kept.last_id, line.id);
    end loop;
  exception when others then
    -- As realtime.send does: a line is kept whether it can be told or not.
    raise warning 'error lines were not told: %', sqlerrm;
  end;
  update private.error_windows w
  set started_at = kept.started_at, sent = kept.sent + allowed, held_back = kept.held_back + lines - allowed, last_id = kept.last_id
  where w.agent_id = new.agent_id;
  return null;
end;
$$;
comment on function private.tell_errors is
  'Trigger: error_log {log_id, agent_id, timestamp, level, message (500 characters), source, container_id} for some lines of a window on error_logs; the rest is held back. On the counts and not on the lines: a trigger there would double what 50,000 lines cost (150 ms), though none were an error. Definer: clients do not write realtime.messages.';
create trigger agent_log_counts_tell_errors after insert on public.agent_log_counts
  for each row when (new.level = 'ERROR') execute function private.tell_errors();
create trigger agent_log_counts_tell_more_errors after update on public.agent_log_counts
  for each row when (new.level = 'ERROR' and new.lines > old.lines) execute function private.tell_errors();

create function private.tell_held_back_errors() returns integer
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  span constant interval := make_interval(secs => (private.setting('real_time', 'error_window_seconds'))::int);
  due private.error_windows;
  told integer := 0;
begin
  for due in
    select * from private.error_windows w
    where w.held_back > 0 and w.started_at < clock_timestamp() - span
    for update skip locked
  loop
    perform private.sum_up_errors(due.agent_id, due.held_back, due.started_at)
    where private.is_channel_open(due.agent_id, 'error_logs');
    update private.error_windows w set held_back = 0 where w.agent_id = due.agent_id;
    told := told + 1;
  end loop;
  return told;
end;
$$;
comment on function private.tell_held_back_errors is
  'Sums up what was held back in windows that are over → how many. Definer: runs from cron.';
select cron.schedule('tell-held-back-errors', '10 seconds', 'select private.tell_held_back_errors()');
select cron.schedule('forget-dead-ws-instances', '*/5 * * * *', 'select private.forget_dead_ws_instances()');
select cron.schedule('forget-channel-messages', '57 * * * *', $$
  delete from private.channel_messages c where c.inserted_at < now() at time zone 'UTC' - interval '4 days'
$$);

-- What agents and their owners say -------------------------------------------------------------------------------

create function private.event_faults(event text, payload jsonb) returns jsonb
language sql immutable
set search_path = ''
as $$
  select case when coalesce(event, '') ~ '^[A-Za-z0-9][A-Za-z0-9_.:-]{0,99}$' then '{}'
      else '{"event": "Event must be a name of letters, digits, _, ., : and -, at most 100"}'::jsonb end
    || case when jsonb_typeof(payload) is distinct from 'object' then '{"payload": "Payload must be an object"}'
      when octet_length(payload::text) > 65536 then '{"payload": "Payload must be at most 64 KiB"}'
      else '{}'::jsonb end;
$$;
comment on function private.event_faults is 'What is wrong with the name and the payload of an event → {field: message}.';

create function private.emit_agent_event(agent_id uuid, channel text, event text, payload jsonb) returns jsonb
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  target public.agents := private.reporting_agent(agent_id);
  most constant integer := (private.setting('real_time', 'events_per_minute'))::int;
  faults jsonb := '{}';
  recent record;
begin
  if coalesce(channel, '') !~ '^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$' then
    faults := faults || '{"channel": "Channel must be a name of letters, digits, _, . and -, at most 63"}';
  elsif channel = any (private.carried_channels()) then
    faults := faults || jsonb_build_object('channel', format('%s carries what the system says; choose a name of your own', channel));
  end if;
  perform private.refuse_faults(faults || private.event_faults(event, payload));

  if target.supabase_config #> '{real_time,enabled}' = 'false' then
    perform private.raise_error('INVALID_STATE', 'Real time is switched off for this agent.',
      jsonb_build_object('agent_id', agent_id), 409, 'Set supabase_config.real_time.enabled to true.');
  elsif channel <> all (private.agent_channels(target.supabase_config)) then
    perform private.raise_error('NOT_FOUND', format('The agent has no channel ''%s''.', channel),
      jsonb_build_object('channel', channel, 'channels', to_jsonb(private.agent_channels(target.supabase_config))), 404,
      'Name it in supabase_config.real_time.channels first.');
  end if;

  -- Without the lock two events at once would both count the same rows.
  perform pg_advisory_xact_lock(hashtextextended('agent-events:' || agent_id::text, 0));
  select count(*) as events, min(c.inserted_at) as since into recent
  from private.channel_messages c
  where c.agent_id = emit_agent_event.agent_id and c.inserted_at > now() at time zone 'UTC' - interval '1 minute';
  if recent.events >= most then
    perform private.raise_error('RATE_LIMIT_EXCEEDED', 'The agent emits too many events.',
      jsonb_build_object('limit', most, 'window', '1 minute'), 429, 'Send fewer and larger events.',
      jsonb_build_object('Retry-After', ceil(extract(epoch from recent.since + interval '1 minute' - now() at time zone 'UTC'))::text));
  end if;
  return jsonb_build_object('id', private.write_channel_message(agent_id, channel, event, private.redact_report(agent_id, payload)),
    'agent_id', agent_id, 'channel', channel, 'event', event, 'topic', format('agent:%s:%s', agent_id, channel));
end;
$$;
comment on function private.emit_agent_event is 'See public.emit_agent_event. Definer: clients do not write realtime.messages.';

create function public.emit_agent_event(agent_id uuid, channel text, event text, payload jsonb default '{}') returns jsonb
language sql volatile
set search_path = ''
as $$
  select private.emit_agent_event(emit_agent_event.agent_id, emit_agent_event.channel, emit_agent_event.event, emit_agent_event.payload);
$$;
comment on function public.emit_agent_event is
  'Sends an event on a channel that the agent has opened and that is its own, to all who joined agent:{id}:{channel} → {id, agent_id, channel, event, topic}. The payload, an object of at most 64 KiB, arrives with this id unless it has one, values of the agent''s environment taken out. Agents may call it with a key of their own. Errors: PERMISSION_DENIED 403, AGENT_NOT_FOUND 404, VALIDATION_ERROR 400, NOT_FOUND 404 when the agent has no such channel, INVALID_STATE 409 when real time is off, RATE_LIMIT_EXCEEDED 429, SUPABASE_CONNECTION_ERROR 503 when nothing can be sent.';

-- What administrators say to everybody --------------------------------------------------------------------------

create function private.announce(event text, payload jsonb) returns jsonb
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  reached constant text := private.require_permission('system:write');
  faults constant jsonb := private.event_faults(event, payload);
  written constant uuid := gen_random_uuid();
begin
  perform private.refuse_faults(faults);
  perform private.write_topic_message(written, 'system', event, payload);
  perform private.write_audit('announcement.send', 'announcement', written::text, jsonb_build_object('event', event));
  return jsonb_build_object('id', written, 'event', event, 'topic', 'system');
end;
$$;
comment on function private.announce is 'See public.announce. Definer: clients do not write realtime.messages.';

create function public.announce(event text, payload jsonb default '{}') returns jsonb
language sql volatile
set search_path = ''
as $$
  select private.announce(announce.event, announce.payload);
$$;
comment on function public.announce is
  'Sends a notification to everybody who has joined the private topic system (seed 002: broadcast messages) → {id, event, topic}. The payload is an object of at most 64 KiB. Needs system:write. Errors: PERMISSION_DENIED 403, VALIDATION_ERROR 400, SUPABASE_CONNECTION_ERROR 503 when nothing can be sent.';
grant execute on function private.announce, public.announce to authenticated, service_role;

-- What it takes to join ------------------------------------------------------------------------------------------

create function private.refuse_subscription(reason text, message text, details jsonb) returns void
language plpgsql stable
set search_path = ''
as $$
begin
  perform private.raise_error('REAL_TIME_SUBSCRIPTION_FAILED', message, jsonb_build_object('reason', reason) || details, 422);
end;
$$;
comment on function private.refuse_subscription is 'Raises REAL_TIME_SUBSCRIPTION_FAILED (422) with the reason in its details.';

create function private.check_change_filter(relation oid, filter text) returns void
language plpgsql stable
set search_path = ''
as $$
declare
  condition text;
  part text[];
  type_name text;
begin
  -- Commas inside the list of `in` do not end a condition.
  for condition in select * from regexp_split_to_table(filter, ',(?![^(]*\))') loop
    part := regexp_match(condition,
      '^([A-Za-z_][A-Za-z0-9_]*)=(not\.)?(eq|neq|lt|lte|gt|gte|in|like|ilike|is|match|imatch|isdistinct)\.(.*)$');
    if part is null then
      perform private.refuse_subscription('INVALID_FILTER', 'The filter must be column=operator.value',
        jsonb_build_object('filter', condition));
    end if;
    type_name := (
      select format_type(a.atttypid, null) from pg_catalog.pg_attribute a
      where a.attrelid = relation and a.attname = part[1] and a.attnum > 0 and not a.attisdropped
        and has_column_privilege(relation, a.attnum, 'select')
    );
    if type_name is null then
      perform private.refuse_subscription('UNKNOWN_COLUMN', format('The table has no column ''%s'' that you may read', part[1]),
        jsonb_build_object('column', part[1]));
    end if;
    begin
      if part[3] = 'in' then
        execute format('select %L::%s[]', '{' || trim(leading '(' from trim(trailing ')' from part[4])) || '}', type_name);
      elsif part[3] not in ('is', 'like', 'ilike', 'match', 'imatch') then
        execute format('select %L::%s', part[4], type_name);
      end if;
    exception when data_exception then
      perform private.refuse_subscription('INVALID_VALUE', format('The value of ''%s'' must be of type %s', part[1], type_name),
        jsonb_build_object('column', part[1], 'type', type_name));
    end;
    if part[2] is null and part[3] = 'eq' and type_name = 'uuid'
      and (part[1] = 'agent_id' or part[1] = 'id' and relation = 'public.agents'::regclass)
      and not exists (select from public.agents a where a.id = part[4]::uuid)
    then
      perform private.refuse_subscription('AGENT_NOT_FOUND', format('Agent with ID ''%s'' not found or access denied', part[4]),
        jsonb_build_object('agent_id', part[4]));
    end if;
  end loop;
end;
$$;
comment on function private.check_change_filter is
  'Refuses a filter of postgres_changes that could never hold: its form, a column, a value, an agent that the caller may not read. Runs as the caller.';

create function public.real_time_channel(topic text, event text default '*') returns jsonb
language plpgsql stable
set search_path = ''
as $$
declare
  name constant text := regexp_replace(topic, '^realtime:', '');
  part constant text[] := regexp_match(name, '^([A-Za-z_][A-Za-z0-9_]*):([A-Za-z_][A-Za-z0-9_]*)(?::(.+))?$');
  relation oid;
begin
  if event is null or event not in ('*', 'INSERT', 'UPDATE', 'DELETE') then
    perform private.raise_error('VALIDATION_ERROR', 'Invalid request body', '{"event": "Event must be one of: *, INSERT, UPDATE, DELETE"}', 400);
  end if;
  if name = 'system' or name ~ '^(user|agent|stack):' then
    if private.may_join_topic(name) is not true then
      perform private.refuse_subscription('NOT_ALLOWED', format('There is no topic ''%s'' that you may join', left(name, 200)),
        jsonb_build_object('topic', left(topic, 200)));
    end if;
    return jsonb_build_object('kind', 'broadcast', 'topic', 'realtime:' || name);
  end if;
  if part is null or octet_length(name) > 1000 then
    perform private.raise_error('VALIDATION_ERROR', 'Invalid request body',
      '{"topic": "Topic must be realtime:{schema}:{table}, realtime:{schema}:{table}:{column}={operator}.{value}, realtime:agent:{id}, realtime:agent:{id}:{channel}, realtime:stack:{id}, realtime:user:{id} or realtime:system"}', 400);
  end if;

  relation := (
    select c.oid from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where n.nspname = part[1] and c.relname = part[2] and c.relkind in ('r', 'p') and not c.relispartition
      and has_schema_privilege(n.oid, 'usage') and has_any_column_privilege(c.oid, 'select')
  );
  if relation is null then
    perform private.refuse_subscription('UNKNOWN_TABLE', format('There is no table ''%s.%s'' that you may read', part[1], part[2]),
      jsonb_build_object('schema', part[1], 'table', part[2]));
  elsif not exists (
    select from pg_catalog.pg_publication p
    where p.pubname = 'supabase_realtime'
      and (p.puballtables or exists (select from pg_catalog.pg_publication_rel r where r.prpubid = p.oid and r.prrelid = relation))
  ) then
    perform private.refuse_subscription('NOT_PUBLISHED', format('Changes of ''%s.%s'' are not sent over Realtime', part[1], part[2]),
      jsonb_build_object('schema', part[1], 'table', part[2]));
  end if;
  if part[3] is not null then
    perform private.check_change_filter(relation, part[3]);
  end if;
  return jsonb_build_object('kind', 'postgres_changes', 'topic', 'realtime:' || name,
    'schema', part[1], 'table', part[2], 'filter', part[3], 'event', event);
end;
$$;
comment on function public.real_time_channel is
  'Whether the caller can join a topic of Realtime, and what for → {kind: postgres_changes, topic, schema, table, filter | null, event} for realtime:{schema}:{table}[:{filter}], {kind: broadcast, topic} for a private topic. Errors: VALIDATION_ERROR 400, REAL_TIME_SUBSCRIPTION_FAILED 422 with details.reason NOT_ALLOWED, UNKNOWN_TABLE, NOT_PUBLISHED, INVALID_FILTER, UNKNOWN_COLUMN, INVALID_VALUE or AGENT_NOT_FOUND.';

-- Connections of a user (seed 002: 100) --------------------------------------------------------------------------
--
-- Function ws counts its own, over all its instances. An instance holds an advisory lock in a session of its own for as
-- long as it runs, so that the connections of one that was killed are free at once.

create unlogged table private.ws_instances (
  id uuid primary key,
  seen_at timestamptz not null default now()
);
comment on table private.ws_instances is
  'Running instances of function ws. Each holds the lock private.ws_instance_key(id) and says every 30 seconds that it is there, for where a pooler keeps locks of those that are gone.';

create unlogged table private.ws_connections (
  id uuid primary key,
  user_id uuid not null,
  instance_id uuid not null references private.ws_instances (id) on delete cascade
);
comment on table private.ws_connections is 'Open connections of users to function ws.';
create index ws_connections_user_id_idx on private.ws_connections (user_id);
create index ws_connections_instance_id_idx on private.ws_connections (instance_id);

create function private.ws_instance_key(id uuid) returns bigint
language sql immutable
set search_path = ''
as $$
  select hashtextextended('ws-instance:' || id::text, 0);
$$;
comment on function private.ws_instance_key is 'Key of the advisory lock that an instance of function ws holds.';

create function private.forget_dead_ws_instances() returns integer
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  forgotten integer;
begin
  delete from private.ws_instances i
  where i.seen_at < clock_timestamp() - interval '90 seconds'
    or not exists (
      select from pg_catalog.pg_locks l
      where l.locktype = 'advisory' and l.granted and l.objsubid = 1
        and (l.classid::bigint << 32 | l.objid::bigint) = private.ws_instance_key(i.id)
    );
  get diagnostics forgotten = row_count;
  return forgotten;
end;
$$;
comment on function private.forget_dead_ws_instances is
  'Removes instances of function ws that are gone, and their connections → how many. Definer: called by function ws.';

create function private.register_ws_instance(id uuid, connections jsonb) returns void
language plpgsql volatile security definer
set search_path = ''
as $$
begin
  perform pg_advisory_lock(private.ws_instance_key(id));
  perform private.forget_dead_ws_instances();
  insert into private.ws_instances (id) values (register_ws_instance.id);
  insert into private.ws_connections (id, user_id, instance_id)
  select c.key::uuid, (c.value #>> '{}')::uuid, register_ws_instance.id from jsonb_each(connections) c
  on conflict on constraint ws_connections_pkey do update set instance_id = excluded.instance_id;
end;
$$;
comment on function private.register_ws_instance is
  'An instance of function ws begins, or begins anew because its session was lost: takes the lock of a new id and its connections {id: user id} over. Called in the session that is to hold the lock. Definer: called by function ws.';

create function private.open_ws_connection(connection_id uuid, user_id uuid, instance_id uuid) returns integer
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  most constant integer := (private.setting('real_time', 'connections_per_user'))::int;
begin
  -- Without the lock two connections at once would both count the same rows.
  perform pg_advisory_xact_lock(hashtextextended('ws-connections:' || open_ws_connection.user_id::text, 0));
  for attempt in 1 .. 2 loop
    if (select count(*) from private.ws_connections c where c.user_id = open_ws_connection.user_id) < most then
      insert into private.ws_connections (id, user_id, instance_id)
      values (open_ws_connection.connection_id, open_ws_connection.user_id, open_ws_connection.instance_id);
      return null;
    end if;
    exit when private.forget_dead_ws_instances() = 0;
  end loop;
  return most;
end;
$$;
comment on function private.open_ws_connection is
  'Counts a connection → null, or how many a user may have when there are so many. Definer: called by function ws.';

grant execute on function
  private.emit_agent_event, private.refuse_subscription, private.check_change_filter, public.emit_agent_event, public.real_time_channel
  to authenticated, service_role;
grant execute on function private.emit_agent_event, public.emit_agent_event to agent_reporter;
