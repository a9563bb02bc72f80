-- Deployments: the truth about where an agent runs and how it fares. One row per agent, written by the system only.
--
-- Mind: what changes with every look (uptime, measurements) is not in the row, so that a quiet deployment causes no
-- Realtime traffic.

create table public.deployments (
  id uuid primary key default gen_random_uuid(),
  agent_id uuid not null unique references public.agents (id) on delete cascade,
  user_id uuid not null references auth.users (id) on delete cascade,
  cluster_id uuid references public.clusters (id) on delete set null,
  orchestrator text,
  endpoint_id integer,
  stack_id text,
  stack_name text not null,
  namespace text,
  replicas_desired integer not null default 1,
  replicas_ready integer not null default 0,
  url text,
  console_url text,
  state text not null default 'queued',
  revision integer not null default 0,
  observed_generation bigint not null default 0,
  containers jsonb not null default '[]',
  services jsonb not null default '[]',
  health jsonb not null default '{"status": "unknown", "last_check": null, "checks": []}',
  error jsonb,
  deployed_at timestamptz,
  last_checked_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint orchestrator_is_known check (orchestrator in ('portainer-compose', 'portainer-swarm', 'portainer-kubernetes', 'kubernetes')),
  constraint state_is_known check (state in (
    'queued', 'deploying', 'running', 'scaling', 'updating', 'restarting', 'stopping', 'stopped', 'failed', 'deleting'
  )),
  constraint replicas_are_counts check (replicas_desired >= 0 and replicas_ready >= 0),
  constraint lists_are_lists check (jsonb_typeof(containers) = 'array' and jsonb_typeof(services) = 'array')
);
comment on table public.deployments is 'Where an agent runs: orchestrator, stack, replicas, containers, health. Read it, or follow it over Realtime.';
comment on column public.deployments.revision is 'The one of agent_revisions that came up well last; 0 before the first.';
comment on column public.deployments.error is
  '{code, message, details} of the last failure, null while all is well. Of an agent that went back by itself it says why, with rolled_back: true.';
comment on column public.deployments.containers is
  '[{id, name, status, health, image, started_at, finished_at, restart_count, exit_code, oom_killed}] as last seen.';
comment on column public.deployments.services is '[{id, name, image, replicas: {running, desired}, ports: [{published, target, protocol}]}] as last seen.';
comment on column public.deployments.health is '{status: healthy | unhealthy | starting | unknown, last_check, checks: [{name, status, response_time}]}.';
comment on column public.deployments.observed_generation is 'agents.generation that runs; a lower one means that an update is due.';
comment on column public.deployments.last_checked_at is 'When the containers last changed or were last looked at after a change.';

create unique index deployments_stack_name_key on public.deployments (cluster_id, stack_name);
create index deployments_user_id_state_idx on public.deployments (user_id, state);

create trigger deployments_touch_updated_at before update on public.deployments
  for each row execute function private.touch_updated_at();

-- When each running deployment is to be looked at next, and how far its logs are read. Apart from the row above, so
-- that looking is not a change that clients see.
create table private.collections (
  agent_id uuid primary key references public.agents (id) on delete cascade,
  cluster_id uuid references public.clusters (id) on delete cascade,
  next_at timestamptz not null default now(),
  leased_by text,
  cursor jsonb not null default '{}',
  state_at timestamptz,
  logs_at timestamptz,
  metrics_at timestamptz
);
comment on table private.collections is 'Work list of the collector: one row per deployment that has containers.';
create index collections_next_at_idx on private.collections (next_at);
create index collections_cluster_id_idx on private.collections (cluster_id);

grant select, insert, update, delete on public.deployments to service_role;
grant select on public.deployments to authenticated;

alter table public.deployments enable row level security;
create policy "Owners can read their deployments" on public.deployments
  for select to authenticated
  using (user_id >= (select private.owner_bound('agents:read', 'lowest')) and user_id <= (select private.owner_bound('agents:read', 'highest')));

alter publication supabase_realtime add table public.deployments;
