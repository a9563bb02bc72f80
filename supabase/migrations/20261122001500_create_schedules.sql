-- Schedules: what runs by itself. pg_cron runs SQL; pg_net wakes the worker.

create function private.remove_expired() returns jsonb
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  purged integer;
  operations integer;
  keys integer;
  runs integer;
begin
  delete from public.agents a where a.purge_after <= now();
  get diagnostics purged = row_count;
  delete from public.operations o
  where o.finished_at < now() - make_interval(days => (private.setting('retention', 'operations_days'))::int);
  get diagnostics operations = row_count;
  delete from public.batches b
  where b.finished_at < now() - make_interval(days => (private.setting('retention', 'operations_days'))::int);
  delete from private.idempotency_keys k where k.expires_at <= now();
  get diagnostics keys = row_count;
  delete from private.rate_limits r where r.window_start < now() - interval '1 day';
  delete from cron.job_run_details j where j.end_time < now() - interval '1 day';
  get diagnostics runs = row_count;
  return jsonb_build_object('agents', purged, 'operations', operations, 'idempotency_keys', keys, 'job_runs', runs);
end;
$$;
comment on function private.remove_expired is 'Removes what its retention says is over → how many of each. Definer: runs from cron.';

select cron.schedule('wake-worker', '5 seconds', 'select private.wake_worker()');
select cron.schedule('ensure-partitions', '17 3 * * *', 'select private.ensure_partitions()');
select cron.schedule('drop-expired-partitions', '27 3 * * *', 'select private.drop_expired_partitions()');
select cron.schedule('remove-expired', '*/10 * * * *', 'select private.remove_expired()');
