-- Audit log: who did what to which object, and when. It outlives users and agents, so nothing in it refers to them by
-- foreign key, and it never holds a secret.

create table public.audit_log (
  id bigint generated always as identity primary key,
  actor_id uuid,
  actor_kind text not null,
  action text not null,
  target_type text not null,
  target_id text,
  details jsonb not null default '{}',
  request_id text,
  created_at timestamptz not null default now(),
  constraint actor_kind_is_known check (actor_kind in ('user', 'api_key', 'service', 'system'))
);
comment on table public.audit_log is 'Append-only record of what was done. Administrators read it.';
comment on column public.audit_log.actor_id is 'User who acted; null for the system.';
comment on column public.audit_log.target_type is 'Kind of object: agent, api_key, cluster, setting, profile …';

create index audit_log_created_at_idx on public.audit_log (created_at desc);
create index audit_log_actor_id_idx on public.audit_log (actor_id) where actor_id is not null;
create index audit_log_target_idx on public.audit_log (target_type, target_id);

create function private.write_audit(action text, target_type text, target_id text, details jsonb default '{}') returns void
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  claims constant jsonb := coalesce(auth.jwt(), '{}');
begin
  insert into public.audit_log (actor_id, actor_kind, action, target_type, target_id, details, request_id)
  values (
    (select auth.uid()),
    case
      when claims ->> 'api_key_id' is not null then 'api_key'
      when (claims ->> 'role') = 'service_role' then 'service'
      when (select auth.uid()) is not null then 'user'
      else 'system'
    end,
    write_audit.action, write_audit.target_type, write_audit.target_id, write_audit.details,
    nullif(current_setting('launchpad.request_id', true), '')
  );
end;
$$;
comment on function private.write_audit is 'Appends to the audit log as the caller. Definer: nobody may write the table itself.';

create function private.audit_change() returns trigger
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  before constant jsonb := case when tg_op <> 'INSERT' then to_jsonb(old) end;
  after constant jsonb := case when tg_op <> 'DELETE' then to_jsonb(new) end;
  changed jsonb;
begin
  select coalesce(jsonb_agg(k order by k), '[]') into changed
  from jsonb_object_keys(coalesce(after, before)) k
  where before -> k is distinct from after -> k and k <> 'updated_at';
  perform private.write_audit(
    tg_argv[0] || '.' || lower(tg_op), tg_argv[0],
    coalesce(coalesce(after, before) ->> 'id', concat_ws('.', coalesce(after, before) ->> 'category', coalesce(after, before) ->> 'key')),
    jsonb_build_object('changed', changed)
  );
  return null;
end;
$$;
comment on function private.audit_change is
  'Trigger: records the names of the changed columns, never their values. Definer: writes the audit log.';

create trigger profiles_audit after update of role, rate_limit on public.profiles
  for each row execute function private.audit_change('profile');
create trigger settings_audit after insert or update or delete on public.settings
  for each row execute function private.audit_change('setting');

grant execute on function private.write_audit to service_role;
grant select on public.audit_log to authenticated, service_role;

alter table public.audit_log enable row level security;
create policy "Administrators read the audit log" on public.audit_log
  for select to authenticated using ((select private.has_permission('system:read')));
