-- Settings: every tunable number as a row, read when it is needed, so that a change holds without a restart.

create table public.settings (
  category text not null,
  key text not null,
  value jsonb not null,
  description text not null default '',
  updated_at timestamptz not null default now(),
  updated_by uuid references auth.users (id) on delete set null,
  primary key (category, key),
  constraint names_are_identifiers check (category ~ '^[a-z][a-z0-9_]*$' and key ~ '^[a-z][a-z0-9_]*$')
);
comment on table public.settings is 'Settings of the installation, grouped by category. Administrators read and change them.';
comment on column public.settings.value is 'The value as JSON: a number, a string, a boolean or an object.';

create index settings_updated_by_idx on public.settings (updated_by);

create function private.setting(category text, key text) returns jsonb
language plpgsql stable security definer
set search_path = ''
as $$
begin
  return (
    select s.value from public.settings s
    where s.category = setting.category and s.key = setting.key
  );
end;
$$;
comment on function private.setting is
  'Value of a setting, or null. Definer: the rules that read a setting run for callers who may not read the table.';

create function private.whole_number(value jsonb, fallback integer) returns integer
language plpgsql immutable
set search_path = ''
as $$
begin
  return case
    when jsonb_typeof(value) = 'number' then greatest(0, least(value::numeric, 1000000000))::integer else fallback end;
end;
$$;
comment on function private.whole_number is
  'A JSON number as one from 0 to a billion, else the fallback: a value of the wrong type must not close the door to everybody.';

create trigger settings_touch_updated_at before update on public.settings
  for each row execute function private.touch_updated_at();

insert into public.settings (category, key, value, description) values
  ('rate_limit', 'window_limit', '100', 'Requests a caller may make to /api in one window (seeds 001 and 002: 100).'),
  ('rate_limit', 'window_seconds', '900', 'Length of the window in seconds (15 minutes).'),
  ('rate_limit', 'burst_limit', '20', 'Requests a caller may make to /api in one burst window (seeds 001 and 002: 20).'),
  ('rate_limit', 'burst_seconds', '60', 'Length of the burst window in seconds.'),
  ('agents', 'max_per_user', '100', 'Agents one user may own; one more is AGENT_LIMIT_REACHED.'),
  ('agents', 'max_replicas', '50', 'Replicas one agent may ask for.'),
  ('agents', 'max_replicas_per_user', '200', 'Replicas all agents of a user may ask for; more is RESOURCE_LIMIT_EXCEEDED.'),
  ('agents', 'purge_after_days', '30', 'Days between the deletion of an agent over /api and the removal of its row.'),
  ('api_keys', 'default_lifetime_days', '365', 'Days until an API key expires when none are given.'),
  ('api_keys', 'max_per_user', '25', 'API keys in force that one user may hold.'),
  ('operations', 'max_attempts', '5', 'Attempts at an operation before it goes to the dead letters.'),
  ('operations', 'backoff_base_seconds', '2', 'First pause after a failed attempt; each further one doubles it, with jitter.'),
  ('operations', 'backoff_max_seconds', '300', 'Longest pause between two attempts.'),
  ('operations', 'deadline_seconds', '900', 'Time an operation may wait for containers to become ready.'),
  ('operations', 'concurrency', '8', 'Operations one worker carries out at a time.'),
  ('operations', 'turn_seconds', '10', 'By how much an operation comes later for each other one of its owner in the queue, when not all can be carried out at once.'),
  ('operations', 'lease_seconds', '15', 'How long an operation belongs to a worker that shows no sign of life.'),
  ('operations', 'max_losses', '8', 'How often in a row the worker may be gone when the lease of an operation ends, before it is given up.'),
  ('operations', 'settle_seconds', '10', 'How long a call to a cluster that was cut off may still be at work before it is made again.'),
  ('operations', 'removal_settle_seconds', '60', 'The same before a removal is believed.'),
  ('operations', 'unhealthy_seconds', '90', 'How long after its start a container may be unhealthy before its rollout counts as failed.'),
  ('breakers', 'failure_threshold', '5', 'Failures in a row that open a circuit breaker.'),
  ('breakers', 'open_seconds', '30', 'Seconds a breaker stays open before one call may try again.'),
  ('collection', 'state_seconds', '2', 'Seconds between two looks at the containers of a deployment.'),
  ('collection', 'logs_seconds', '1', 'Seconds between two reads of the logs of a deployment.'),
  ('collection', 'metrics_seconds', '10', 'Seconds between two measurements of a deployment.'),
  ('retention', 'logs_days', '14', 'Days that log lines are kept.'),
  ('retention', 'metrics_days', '35', 'Days that measurements are kept.'),
  ('retention', 'container_events_days', '35', 'Days that container events are kept.'),
  ('retention', 'operations_days', '90', 'Days that finished operations are kept.');

grant select, insert, update, delete on public.settings to service_role;
grant select on public.settings to authenticated;
grant update (value, updated_by) on public.settings to authenticated;
grant execute on function private.setting to authenticated, service_role;

alter table public.settings enable row level security;
-- The policies need private.has_permission and stand in create_profiles.
