-- Clusters: where agents run. A row says how to reach a Portainer environment or a Kubernetes API server; its
-- credential is in Vault. Each cluster has a circuit breaker, so that a dead one takes nobody else down.

create table public.clusters (
  id uuid primary key default gen_random_uuid(),
  name text not null unique,
  kind text not null,
  url text not null,
  endpoint_id integer,
  namespace text,
  console_url text,
  agent_url_template text,
  options jsonb not null default '{}',
  is_default boolean not null default false,
  enabled boolean not null default true,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint kind_is_known check (kind in ('portainer', 'kubernetes')),
  constraint url_is_http check (url ~ '^https?://'),
  constraint portainer_names_endpoint check (kind <> 'portainer' or endpoint_id is not null),
  constraint options_is_object check (jsonb_typeof(options) = 'object')
);
comment on table public.clusters is 'Portainer environments and Kubernetes clusters that agents can be deployed to.';
comment on column public.clusters.url is
  'Base URL of Portainer or of the Kubernetes API server. A change of scheme, host or port forgets the credential, which is then to be set again.';
comment on column public.clusters.endpoint_id is 'Portainer''s number of the environment.';
comment on column public.clusters.agent_url_template is
  'URL under which agents are reached, with {agent} for the agent id and {name} for its stack name; null: the published port.';
comment on column public.clusters.options is 'Driver options, such as {"ca": "<PEM>"} for a private certificate authority.';
create unique index clusters_one_default_idx on public.clusters (is_default) where is_default;

create table private.cluster_credentials (
  cluster_id uuid primary key references public.clusters (id) on delete cascade,
  secret_id uuid not null,
  changed_at timestamptz not null default now()
);
comment on table private.cluster_credentials is 'Vault secret that holds the credential of a cluster.';

create trigger clusters_touch_updated_at before update on public.clusters
  for each row execute function private.touch_updated_at();
create trigger clusters_audit after insert or update or delete on public.clusters
  for each row execute function private.audit_change('cluster');

create function private.store_cluster_credential(cluster_id uuid, credential text) returns void
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  kept uuid := (select c.secret_id from private.cluster_credentials c where c.cluster_id = store_cluster_credential.cluster_id);
begin
  if kept is not null then
    if (select s.decrypted_secret from vault.decrypted_secrets s where s.id = kept) is distinct from credential then
      perform vault.update_secret(kept, credential);
      update private.cluster_credentials c set changed_at = now() where c.cluster_id = store_cluster_credential.cluster_id;
    end if;
  else
    kept := vault.create_secret(credential, 'cluster:' || cluster_id::text, 'Credential of a cluster');
    insert into private.cluster_credentials (cluster_id, secret_id) values (store_cluster_credential.cluster_id, kept);
  end if;
end;
$$;
comment on function private.store_cluster_credential is 'Puts the credential of a cluster into Vault. Definer: Vault is closed to clients.';

create function private.set_cluster_credential(cluster_id uuid, credential text) returns void
language plpgsql volatile security definer
set search_path = ''
as $$
begin
  perform private.require_permission('clusters:write');
  if not exists (select from public.clusters c where c.id = set_cluster_credential.cluster_id) then
    perform private.raise_error('NOT_FOUND', 'There is no such cluster.', null, 404);
  end if;
  perform private.store_cluster_credential(set_cluster_credential.cluster_id, set_cluster_credential.credential);
  perform private.write_audit('cluster.set_credential', 'cluster', set_cluster_credential.cluster_id::text);
end;
$$;
comment on function private.set_cluster_credential is 'See public.set_cluster_credential. Definer: Vault is closed to clients.';

create function public.set_cluster_credential(cluster_id uuid, credential text) returns void
language sql volatile
set search_path = ''
as $$
  select private.set_cluster_credential(set_cluster_credential.cluster_id, set_cluster_credential.credential);
$$;
comment on function public.set_cluster_credential is
  'Sets the API key or token of a cluster; it can be replaced but never read back. Needs clusters:write. Error: NOT_FOUND 404.';

create function private.forget_secret() returns trigger
language plpgsql volatile security definer
set search_path = ''
as $$
begin
  delete from vault.secrets s
  where s.id = old.secret_id
    and not exists (select from private.agent_environments e where e.secret_id = s.id)
    and not exists (select from private.revision_environments e where e.secret_id = s.id);
  return null;
end;
$$;
comment on function private.forget_secret is
  'Trigger: removes a Vault secret with the last row that refers to it; an agent and its revisions may share one. Definer: Vault is closed to clients.';
create trigger cluster_credentials_forget after delete on private.cluster_credentials
  for each row execute function private.forget_secret();

create function private.origin_of(url text) returns text
language sql immutable
set search_path = ''
as $$
  select lower(substring(url from '^[^:]*://[^/?#]*'));
$$;
comment on function private.origin_of is 'Scheme, host and port of an address: whom one talks to.';

create function private.forget_credential_of_moved_cluster() returns trigger
language plpgsql volatile security definer
set search_path = ''
as $$
begin
  delete from private.cluster_credentials c where c.cluster_id = new.id;
  return null;
end;
$$;
comment on function private.forget_credential_of_moved_cluster is
  'Trigger: a credential is for the server that it was set for. Sent to another, whoever may change an address could read what can only be written. Definer: Vault is closed to clients.';
create trigger clusters_forget_credential after update of url on public.clusters
  for each row when (private.origin_of(old.url) <> private.origin_of(new.url))
  execute function private.forget_credential_of_moved_cluster();

create function private.register_default_cluster(
  kind text, name text, url text, endpoint_id integer, namespace text, credential text, options jsonb default '{}'
) returns uuid
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  registered public.clusters;
begin
  perform pg_advisory_xact_lock(hashtextextended('register_default_cluster', 0));
  select * into registered from public.clusters c where c.name = register_default_cluster.name;
  if registered.id is null then
    insert into public.clusters (name, kind, url, endpoint_id, namespace, console_url, agent_url_template, options, is_default)
    values (
      register_default_cluster.name, register_default_cluster.kind, register_default_cluster.url,
      register_default_cluster.endpoint_id, register_default_cluster.namespace,
      register_default_cluster.options ->> 'console_url', register_default_cluster.options ->> 'agent_url_template',
      register_default_cluster.options - 'console_url' - 'agent_url_template',
      not exists (select from public.clusters c where c.is_default)
    ) returning * into registered;
  elsif (registered.kind, registered.url, registered.endpoint_id, registered.namespace)
    is distinct from (register_default_cluster.kind, register_default_cluster.url,
      register_default_cluster.endpoint_id, register_default_cluster.namespace)
  then
    update public.clusters c
    set kind = register_default_cluster.kind, url = register_default_cluster.url,
        endpoint_id = register_default_cluster.endpoint_id, namespace = register_default_cluster.namespace
    where c.id = registered.id;
  end if;
  perform private.store_cluster_credential(registered.id, register_default_cluster.credential);
  return registered.id;
end;
$$;
comment on function private.register_default_cluster is
  'Makes or updates the cluster that the worker''s environment variables name; the first one becomes the default. Definer: called by the worker.';

create function private.cluster_connection(site public.clusters) returns jsonb
language plpgsql stable security definer
set search_path = ''
as $$
begin
  return case when site.id is not null then to_jsonb(site) || jsonb_build_object('credential', (
    select s.decrypted_secret from private.cluster_credentials c join vault.decrypted_secrets s on s.id = c.secret_id
    where c.cluster_id = site.id)) end;
end;
$$;
comment on function private.cluster_connection is
  'A cluster as the worker gets it → its row with credential; null for none. Holds a secret: never to be logged. Definer: Vault is closed to clients.';

-- Circuit breakers -----------------------------------------------------------------------------------------------

create table public.circuit_breakers (
  name text primary key,
  state text not null default 'closed',
  failure_count integer not null default 0,
  opened_at timestamptz,
  retry_at timestamptz,
  forced boolean not null default false,
  last_error text,
  last_failure_at timestamptz,
  updated_at timestamptz not null default now(),
  constraint state_is_known check (state in ('closed', 'open', 'half_open')),
  constraint failure_count_counts check (failure_count >= 0)
);
comment on table public.circuit_breakers is 'Circuit breakers of upstream services, one per cluster (cluster:<id>).';
comment on column public.circuit_breakers.forced is 'Whether an administrator opened it by hand; then it stays open until reset.';

create function private.breaker_allow(name text) returns jsonb
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  breaker public.circuit_breakers;
begin
  select * into breaker from public.circuit_breakers b where b.name = breaker_allow.name;
  if breaker.name is null or breaker.state = 'closed' then
    return jsonb_build_object('allowed', true, 'state', 'closed', 'retry_at', null);
  end if;

  select * into breaker from public.circuit_breakers b where b.name = breaker_allow.name for update;
  if breaker.state = 'closed' then
    return jsonb_build_object('allowed', true, 'state', 'closed', 'retry_at', null);
  end if;
  if breaker.forced or breaker.retry_at > now() then
    return jsonb_build_object('allowed', false, 'state', breaker.state, 'retry_at',
      coalesce(breaker.retry_at, now() + interval '30 seconds'));
  end if;
  -- One call may try. Should its caller die, the next one may after the same pause.
  update public.circuit_breakers b
  set state = 'half_open', updated_at = now(),
      retry_at = now() + make_interval(secs => (private.setting('breakers', 'open_seconds'))::int)
  where b.name = breaker_allow.name;
  return jsonb_build_object('allowed', true, 'state', 'half_open', 'retry_at', null);
end;
$$;
comment on function private.breaker_allow is
  'Whether an upstream may be called → {allowed, state, retry_at}. Definer: called by the worker.';

create function private.breaker_record(name text, ok boolean, error text default null) returns text
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  breaker public.circuit_breakers;
  threshold constant integer := (private.setting('breakers', 'failure_threshold'))::int;
  pause constant interval := make_interval(secs => (private.setting('breakers', 'open_seconds'))::int);
begin
  if ok then
    -- The common case touches no row.
    update public.circuit_breakers b
    set state = 'closed', failure_count = 0, opened_at = null, retry_at = null, updated_at = now()
    where b.name = breaker_record.name and not b.forced and (b.state <> 'closed' or b.failure_count > 0);
    return 'closed';
  end if;

  insert into public.circuit_breakers as b (name, failure_count, last_error, last_failure_at)
  values (breaker_record.name, 1, left(breaker_record.error, 500), now())
  on conflict on constraint circuit_breakers_pkey do update
  set failure_count = b.failure_count + 1, last_error = left(excluded.last_error, 500), last_failure_at = now(), updated_at = now()
  returning * into breaker;
  if not breaker.forced and (breaker.state = 'half_open' or breaker.failure_count >= threshold) then
    update public.circuit_breakers b
    set state = 'open', opened_at = coalesce(b.opened_at, now()), retry_at = now() + pause
    where b.name = breaker_record.name
    returning * into breaker;
  end if;
  return breaker.state;
end;
$$;
comment on function private.breaker_record is
  'Tells a breaker how a call went → its state. failure_threshold failures in a row open it. Definer: called by the worker.';

grant execute on function private.set_cluster_credential, private.origin_of to authenticated, service_role;
grant execute on function public.set_cluster_credential to authenticated, service_role;
grant select, insert, update, delete on public.clusters, public.circuit_breakers to service_role;
grant select, delete on public.clusters to authenticated;
grant insert (name, kind, url, endpoint_id, namespace, console_url, agent_url_template, options, is_default, enabled),
  update (name, url, endpoint_id, namespace, console_url, agent_url_template, options, is_default, enabled)
  on public.clusters to authenticated;
grant select on public.circuit_breakers to authenticated;

alter table public.clusters enable row level security;
alter table public.circuit_breakers enable row level security;
create policy "Operators read clusters" on public.clusters
  for select to authenticated using ((select private.has_permission('clusters:read')));
create policy "Administrators add clusters" on public.clusters
  for insert to authenticated with check ((select private.has_permission('clusters:write')));
create policy "Administrators change clusters" on public.clusters
  for update to authenticated
  using ((select private.has_permission('clusters:write'))) with check ((select private.has_permission('clusters:write')));
create policy "Administrators remove clusters" on public.clusters
  for delete to authenticated using ((select private.has_permission('clusters:write')));
create policy "Operators read circuit breakers" on public.circuit_breakers
  for select to authenticated using ((select private.has_permission('clusters:read')));
