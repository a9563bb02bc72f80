-- Security scans (seeds 001 and 002): how the containers of an agent are set up, and what is known to be wrong with their
-- images. The worker carries them out.
--
-- Adds: security_scans, scan_agent and security_scan for clients, the worker's functions, and the rule that keeps images
-- whose last scan was bad enough from being deployed.
-- Mind: vulnerabilities are null where nobody scanned the image. That is not none, and such a scan has not passed.

insert into public.settings (category, key, value, description) values
  ('security', 'block_deployment_on', '"none"', 'Least severity found in the last scan of an image that blocks its deployment (SECURITY_SCAN_FAILED): none, critical or high.'),
  ('security', 'scan_valid_seconds', '300', 'Time for which a finished scan answers for the agent instead of a new one.'),
  ('security', 'scan_attempts', '3', 'Attempts at a scan before it has failed.'),
  ('security', 'scanner_image', '"aquasec/trivy"', 'Repository of the scanner''s image on Docker engines; it is run where it is present, and never pulled.'),
  ('retention', 'security_scans_days', '90', 'Days that security scans are kept.');

create table public.security_scans (
  id uuid primary key default gen_random_uuid(),
  agent_id uuid not null references public.agents (id) on delete cascade,
  user_id uuid not null references auth.users (id) on delete cascade,
  cluster_id uuid references public.clusters (id) on delete set null,
  state text not null default 'queued',
  generation bigint not null,
  images text[] not null default '{}',
  containers_examined integer,
  passed boolean,
  vulnerabilities jsonb,
  scanner text,
  unavailable_reason text,
  findings jsonb not null default '[]',
  recommendations text[] not null default '{}',
  supabase_compliance jsonb,
  event_id uuid,
  error jsonb,
  requested_by uuid,
  request_id text,
  created_at timestamptz not null default now(),
  started_at timestamptz,
  finished_at timestamptz,
  constraint state_is_known check (state in ('queued', 'running', 'completed', 'failed')),
  constraint finished_when_it_ends check ((state in ('completed', 'failed')) = (finished_at is not null)),
  constraint vulnerabilities_are_counts check (vulnerabilities is null or jsonb_typeof(vulnerabilities) = 'object'),
  constraint findings_are_a_list check (jsonb_typeof(findings) = 'array')
);
comment on table public.security_scans is 'Security scans of agents and what they found; asked for by scan_agent.';
comment on column public.security_scans.passed is 'False when something critical was found (or high, where the settings block on that); null when the images were not scanned and nothing else was found.';
comment on column public.security_scans.vulnerabilities is '{critical, high, medium, low} of all images together; null: nobody scanned them, unavailable_reason says why.';
comment on column public.security_scans.findings is 'About the containers: [{check, severity, containers, message, recommendation}].';
comment on column public.security_scans.supabase_compliance is '{rls_policies_verified, data_encryption_enabled, audit_logging_active}, from the catalog.';
create unique index security_scans_one_active_idx on public.security_scans (agent_id) where state in ('queued', 'running');
create index security_scans_agent_id_idx on public.security_scans (agent_id, created_at desc);
create index security_scans_user_id_idx on public.security_scans (user_id, created_at desc);
create index security_scans_cluster_id_idx on public.security_scans (cluster_id);

create table private.image_scans (
  image text primary key,
  vulnerabilities jsonb not null,
  scanned_at timestamptz not null
);
comment on table private.image_scans is 'What the last scan of each image counted {critical, high, medium, low}; it outlives the agents that ran the image.';

create table private.security_scan_queue (
  scan_id uuid primary key references public.security_scans (id) on delete cascade,
  run_after timestamptz not null default now(),
  lease_token uuid,
  attempts integer not null default 0
);
comment on table private.security_scan_queue is 'Scans that are due or under way. A lease that ends makes its scan due again.';
create index security_scan_queue_run_after_idx on private.security_scan_queue (run_after);
create trigger security_scan_queue_wake after insert on private.security_scan_queue
  for each statement execute function private.wake_worker_after_insert();

-- Asking ---------------------------------------------------------------------------------------------------------

create function private.scan_agent(agent_id uuid, force boolean) returns uuid
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  target public.agents;
  placed public.deployments;
  scan_id uuid;
begin
  perform private.require_permission('containers:manage');
  select * into target from public.agents a
  where a.id = scan_agent.agent_id and a.deleted_at is null
    and a.user_id between private.owner_bound('containers:manage', 'lowest') and private.owner_bound('containers:manage', 'highest');
  if target.id is null then
    perform private.raise_agent_not_found(scan_agent.agent_id);
  end if;
  -- Two who ask at once get the same scan.
  perform pg_advisory_xact_lock(hashtextextended('scan:' || target.id::text, 0));
  select s.id into scan_id from public.security_scans s
  where s.agent_id = target.id and (s.state in ('queued', 'running') or (
    not force and s.state = 'completed' and s.generation = target.generation
    and s.finished_at > now() - make_interval(secs => private.security_number('scan_valid_seconds', 300))
  ))
  order by s.created_at desc limit 1;
  if scan_id is not null then
    return scan_id;
  end if;

  select * into placed from public.deployments d where d.agent_id = target.id;
  if placed.id is null or placed.state in ('queued', 'deploying', 'stopped', 'deleting') then
    perform private.raise_error('INVALID_STATE',
      format('The agent has no containers to scan: it is %s.', coalesce(placed.state, 'not deployed')),
      jsonb_build_object('state', placed.state), 409, 'Start the agent first.');
  end if;
  insert into public.security_scans as s (agent_id, user_id, cluster_id, generation, requested_by, request_id)
  values (target.id, target.user_id, placed.cluster_id, target.generation, (select auth.uid()),
    nullif(current_setting('launchpad.request_id', true), ''))
  returning s.id into scan_id;
  insert into private.security_scan_queue (scan_id) values (scan_id);
  perform private.write_audit('agent.scan', 'agent', target.id::text, jsonb_build_object('scan_id', scan_id));
  return scan_id;
end;
$$;
comment on function private.scan_agent is
  'See public.scan_agent; → the scan''s id. Definer: clients write no scans.';

create function public.security_scan(scan_id uuid) returns jsonb
language plpgsql stable
set search_path = ''
as $$
declare
  scan jsonb := (select to_jsonb(s) from public.security_scans s where s.id = security_scan.scan_id);
begin
  if scan is null then
    perform private.require_permission('agents:read');
    perform private.raise_error('NOT_FOUND', 'There is no such scan.', null, 404);
  end if;
  return scan;
end;
$$;
comment on function public.security_scan is 'A security scan → row of security_scans. Errors: PERMISSION_DENIED 403, NOT_FOUND 404.';

create function public.scan_agent(agent_id uuid, force boolean default false) returns jsonb
language plpgsql volatile
set search_path = ''
as $$
declare
  scan_id uuid;
begin
  perform private.require_permission('agents:read');
  scan_id := private.scan_agent(scan_agent.agent_id, coalesce(force, false));
  -- A statement of its own, which sees the new row.
  return public.security_scan(scan_id);
end;
$$;
comment on function public.scan_agent is
  'Asks for a security scan of an agent (seeds 001 and 002: POST /api/security/scan/{id}) → row of security_scans: the one that is under way, or one that finished within security.scan_valid_seconds on the present generation unless forced, else a new one. Needs containers:manage and agents:read. Errors: PERMISSION_DENIED 403, AGENT_NOT_FOUND 404, INVALID_STATE 409.';

-- The worker -----------------------------------------------------------------------------------------------------

create function private.claim_security_scans(most integer, lease_seconds integer) returns setof jsonb
language plpgsql volatile security definer
set search_path = ''
as $$
begin
  -- What ends its worker each time must not do so for ever.
  perform private.fail_security_scan(q.scan_id, q.lease_token,
    '{"code": "INTERNAL_ERROR", "message": "The worker ended each time that it took the scan up"}', false)
  from private.security_scan_queue q
  where q.run_after <= clock_timestamp() and q.lease_token is not null and q.attempts >= private.security_number('scan_attempts', 3);

  return query
  with due as (
    -- Both rows without waiting: the scan is locked before its place in the queue wherever it is deleted or ended.
    select q.scan_id from private.security_scan_queue q join public.security_scans s on s.id = q.scan_id
    where q.run_after <= clock_timestamp()
    order by q.run_after limit most for update of q, s skip locked
  ), claimed as (
    update private.security_scan_queue q
    set lease_token = gen_random_uuid(), attempts = q.attempts + 1, run_after = clock_timestamp() + make_interval(secs => lease_seconds)
    from due where q.scan_id = due.scan_id
    returning q.*
  ), begun as (
    update public.security_scans s set state = 'running', started_at = coalesce(s.started_at, clock_timestamp())
    from claimed c where s.id = c.scan_id
    returning s.*, c.lease_token
  )
  select jsonb_build_object(
    'scan_id', b.id, 'agent_id', b.agent_id, 'lease_token', b.lease_token,
    'deployment', (
      select jsonb_build_object('stack_id', d.stack_id, 'stack_name', d.stack_name, 'namespace', d.namespace)
      from public.deployments d where d.agent_id = b.agent_id
    ),
    'cluster', (
      select private.cluster_connection(c)
      from public.clusters c where c.id = b.cluster_id
    ),
    'scanner_image', coalesce(private.setting('security', 'scanner_image') #>> '{}', 'aquasec/trivy')
  )
  from begun b;
end;
$$;
comment on function private.claim_security_scans is
  'Leases scans that are due → [{scan_id, agent_id, lease_token, deployment {stack_id, stack_name, namespace}, cluster with credential | null, scanner_image}]. Holds secrets: never to be logged. Definer: called by the worker.';

create function private.measured_compliance() returns jsonb
language sql stable security definer
set search_path = ''
as $$
  select jsonb_build_object(
    'rls_policies_verified', not exists (select from private.isolation_findings()),
    -- Every environment and credential is in Vault, and what Vault stores is not what it gives back.
    'data_encryption_enabled', not exists (
      select from (
        select e.secret_id from private.agent_environments e union select r.secret_id from private.revision_environments r
        union all select c.secret_id from private.cluster_credentials c
      ) k
      left join vault.decrypted_secrets v on v.id = k.secret_id
      where v.id is null or v.secret = v.decrypted_secret
    ),
    'audit_logging_active', (
      select count(*) = 3 from pg_catalog.pg_trigger t
      where t.tgfoid = 'private.audit_change'::regproc and t.tgenabled <> 'D'
        and t.tgrelid in ('public.profiles'::regclass, 'public.settings'::regclass, 'public.clusters'::regclass)
    ) and not has_any_column_privilege('authenticated', 'public.audit_log', 'insert, update')
      and not has_table_privilege('authenticated', 'public.audit_log', 'delete')
  );
$$;
comment on function private.measured_compliance is
  'From the catalog and Vault → {rls_policies_verified, data_encryption_enabled, audit_logging_active}. Definer: Vault is closed to clients.';

create function private.blocking_rank() returns integer
language sql stable
set search_path = ''
as $$
  select case private.setting('security', 'block_deployment_on') #>> '{}' when 'critical' then 2 when 'high' then 1 end;
$$;
comment on function private.blocking_rank is 'Least severity that blocks a deployment: 1 high, 2 critical, null none.';

create function private.scan_rank(vulnerabilities jsonb, findings jsonb) returns integer
language sql immutable
set search_path = ''
as $$
  select case
    when (vulnerabilities ->> 'critical')::integer > 0 or findings @> '[{"severity": "CRITICAL"}]' then 2
    when (vulnerabilities ->> 'high')::integer > 0 or findings @> '[{"severity": "HIGH"}]' then 1
    else 0
  end;
$$;
comment on function private.scan_rank is 'Worst that a scan found: 2 critical, 1 high, 0 neither.';

create function private.hold_scan_lease(scan_id uuid, lease_token uuid) returns public.security_scans
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  held public.security_scans;
begin
  select * into held from public.security_scans s where s.id = hold_scan_lease.scan_id for update;
  perform from private.security_scan_queue q
  where q.scan_id = hold_scan_lease.scan_id and q.lease_token = hold_scan_lease.lease_token for update;
  return case when found then held end;
end;
$$;
comment on function private.hold_scan_lease is 'The scan, when the lease is still the caller''s; else null. Definer: called by the worker.';

create function private.complete_security_scan(scan_id uuid, lease_token uuid, result jsonb) returns boolean
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  held constant public.security_scans := private.hold_scan_lease(scan_id, lease_token);
  counts constant jsonb := nullif(result -> 'vulnerabilities', 'null');
  worst constant integer := private.scan_rank(counts, result -> 'findings');
  verdict constant boolean := case
    when worst >= coalesce(private.blocking_rank(), 2) then false
    when counts is not null then true
  end;
  written uuid;
begin
  if held.id is null then
    return false;
  end if;
  written := private.write_security_event(
    case when verdict = false then 'SECURITY_SCAN_FAILED' else 'SECURITY_SCAN_COMPLETED' end,
    case when verdict = false then (case worst when 2 then 'CRITICAL' else 'HIGH' end) else 'LOW' end,
    held.user_id,
    case when verdict = false then 'Container security scan failed' else 'Container security scan completed' end,
    jsonb_build_object('scanId', held.id, 'passed', verdict, 'vulnerabilities', counts,
      'reason', case
        when verdict = false and (counts ->> 'critical')::integer > 0 then 'Critical vulnerability detected'
        when verdict = false then coalesce(
          (select f ->> 'message' from jsonb_array_elements(result -> 'findings') f
            where f ->> 'severity' = case worst when 2 then 'CRITICAL' else 'HIGH' end limit 1),
          'Vulnerability of high severity detected')
        when counts is null then result ->> 'unavailable_reason'
      end),
    held.agent_id
  );
  update public.security_scans s set
    state = 'completed', finished_at = clock_timestamp(), passed = verdict, vulnerabilities = counts,
    event_id = written, supabase_compliance = private.measured_compliance(),
    images = array(select jsonb_array_elements_text(result -> 'images')),
    containers_examined = (result ->> 'containers_examined')::integer,
    scanner = result ->> 'scanner', unavailable_reason = result ->> 'unavailable_reason', findings = result -> 'findings',
    recommendations = array(select jsonb_array_elements_text(result -> 'recommendations'))
  where s.id = held.id;
  -- Of several images nobody could say which one the counts are of.
  if counts is not null and jsonb_array_length(result -> 'images') = 1 then
    insert into private.image_scans (image, vulnerabilities, scanned_at)
    values (result #>> '{images,0}', counts, clock_timestamp())
    on conflict (image) do update set vulnerabilities = excluded.vulnerabilities, scanned_at = excluded.scanned_at;
  end if;
  delete from private.security_scan_queue q where q.scan_id = held.id;
  return true;
end;
$$;
comment on function private.complete_security_scan is
  'Keeps what a scan found {containers_examined, images, findings, vulnerabilities | null, scanner, unavailable_reason, recommendations} and writes the event → false when the lease is another''s. Definer: called by the worker.';

create function private.fail_security_scan(scan_id uuid, lease_token uuid, error jsonb, retryable boolean) returns text
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  held constant public.security_scans := private.hold_scan_lease(scan_id, lease_token);
  tried constant integer := (select q.attempts from private.security_scan_queue q where q.scan_id = fail_security_scan.scan_id);
begin
  if held.id is null then
    return 'lost';
  end if;
  if retryable and tried < private.security_number('scan_attempts', 3) then
    update private.security_scan_queue q
    set lease_token = null, run_after = clock_timestamp() + make_interval(secs => 2 ^ tried)
    where q.scan_id = held.id;
    return 'retrying';
  end if;
  update public.security_scans s
  set state = 'failed', finished_at = clock_timestamp(), error = fail_security_scan.error
  where s.id = held.id;
  delete from private.security_scan_queue q where q.scan_id = held.id;
  return 'failed';
end;
$$;
comment on function private.fail_security_scan is
  'Ends an attempt at a scan that went wrong → retrying | failed | lost. Definer: called by the worker.';

-- Blocking -------------------------------------------------------------------------------------------------------

create function private.refuse_unsafe_image() returns trigger
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  threshold constant integer := private.blocking_rank();
  used text;
  found_last private.image_scans;
begin
  -- What the worker queues follows a change that was accepted before.
  if threshold is null or (select auth.uid()) is null then
    return new;
  end if;
  if new.kind = 'rollback' then
    select r.definition #>> '{template,image}' into used from public.agent_revisions r
    where r.agent_id = new.agent_id and r.revision = (new.request ->> 'to_revision')::int;
  else
    used := (select private.newest_template(a) ->> 'image' from public.agents a where a.id = new.agent_id);
  end if;
  select * into found_last from private.image_scans s where s.image = used;
  if private.scan_rank(found_last.vulnerabilities, '[]') >= threshold then
    perform private.raise_error(
      'SECURITY_SCAN_FAILED', 'Security scan blocked deployment',
      jsonb_build_object('image', used, 'scanned_at', found_last.scanned_at, 'vulnerabilities', found_last.vulnerabilities,
        'block_deployment_on', private.setting('security', 'block_deployment_on')),
      422, 'Deploy an image that is safe, or scan this one again once it is.'
    );
  end if;
  return new;
end;
$$;
comment on function private.refuse_unsafe_image is
  'Trigger: refuses to deploy, update or roll back an agent whose image has vulnerabilities too grave by its last scan, whosever agent that was of (SECURITY_SCAN_FAILED 422; setting security.block_deployment_on). Definer: the table is closed to clients.';
create trigger operations_refuse_unsafe_image before insert on public.operations
  for each row when (new.kind in ('deploy', 'update', 'rollback')) execute function private.refuse_unsafe_image();

create function private.forget_scans() returns trigger
language plpgsql volatile security definer
set search_path = ''
as $$
begin
  delete from public.security_scans s where s.agent_id = new.id;
  return null;
end;
$$;
comment on function private.forget_scans is 'Trigger: the scans of an agent go when it is deleted, for they name its containers and variables. Definer: clients write no scans.';
create trigger agents_forget_scans after update of status on public.agents
  for each row when (new.status = 'deleting' and old.status <> 'deleting') execute function private.forget_scans();

grant execute on function private.scan_agent to authenticated, service_role;
grant execute on function public.scan_agent, public.security_scan to authenticated, service_role;
grant select, insert, update, delete on public.security_scans to service_role;
grant select on public.security_scans to authenticated;

alter table public.security_scans enable row level security;
create policy "Owners can read the scans of their agents" on public.security_scans
  for select to authenticated
  using (user_id between (select private.owner_bound('agents:read', 'lowest')) and (select private.owner_bound('agents:read', 'highest')));

alter publication supabase_realtime add table public.security_scans;

select cron.schedule('remove-security-scans', '47 3 * * *', $$
  delete from public.security_scans
  where finished_at < now() - make_interval(days => (private.setting('retention', 'security_scans_days'))::int)
$$);
