/**
 * The scheduler behind the local pg_cron: runs what `cron.schedule` put into cron.job, each job as the
 * role that scheduled it, and writes cron.job_run_details as pg_cron does.
 *
 * As in pg_cron: at most eight jobs at a time, one run of a job at a time (a run that falls due
 * meanwhile follows at once), ticks missed while the stack was down are not made up for.
 */
import postgres from "postgres";
import { type CronSchedule, parseSchedule } from "./cron-schedule.ts";
import { describeError } from "./errors.ts";
import type { Log } from "./log.ts";

export interface CronOptions {
  /** As the superuser; jobs connect as their own role with the same password. */
  databaseUrl: string;
  log: Log;
}

interface Job {
  id: string;
  schedule: CronSchedule;
  scheduleText: string;
  command: string;
  database: string;
  username: string;
  /** ms since 1970 */
  due: number | null;
  running: boolean;
  waiting: boolean;
}

interface JobRow {
  jobid: string;
  schedule: string;
  command: string;
  database: string;
  username: string;
}

const jobsAtOnce = 8;

/** Starts the scheduler. It is told of every change to cron.job when that commits. */
export async function startCron(
  { databaseUrl, log }: CronOptions,
): Promise<{ close(): Promise<void> }> {
  const sql = postgres(databaseUrl, {
    max: 2,
    idle_timeout: 30,
    onnotice: () => {},
    connection: { application_name: "pg_cron scheduler" },
  });
  const jobs = new Map<string, Job>();
  const queue: Job[] = [];
  const active = new Set<Promise<void>>();
  const openRuns = new Set<string>();
  let timer: ReturnType<typeof setTimeout> | undefined;
  let closed = false;
  let started = false;

  async function reload(): Promise<void> {
    if (closed) return;
    let rows: JobRow[];
    try {
      rows = await readJobs(sql);
    } catch (error) {
      if (!closed) log.warn(`the jobs cannot be read: ${describeError(error)}`);
      return;
    }
    const ids = new Set(rows.map((row) => row.jobid));
    for (const id of jobs.keys()) if (!ids.has(id)) jobs.delete(id);
    for (const row of rows) {
      const known = jobs.get(row.jobid);
      if (known?.scheduleText === row.schedule) {
        Object.assign(known, {
          command: row.command,
          database: row.database,
          username: row.username,
        });
        continue;
      }
      try {
        const schedule = parseSchedule(row.schedule);
        const job: Job = {
          ...row,
          id: row.jobid,
          scheduleText: row.schedule,
          schedule,
          due: schedule.next(Date.now()),
          running: known?.running ?? false,
          waiting: false,
        };
        jobs.set(job.id, job);
        if (schedule.atStart && !started) enqueue(job);
      } catch (error) {
        log.warn(`job ${row.jobid} is never run: ${describeError(error)}`);
      }
    }
    started = true;
    tick();
  }

  function tick(): void {
    if (closed) return;
    clearTimeout(timer);
    const now = Date.now();
    let nearest = now + 60_000;
    for (const job of jobs.values()) {
      if (job.due !== null && job.due <= now) {
        // The next time after now, so that a machine that slept does not run a job once per tick.
        job.due = job.schedule.next(now);
        enqueue(job);
      }
      if (job.due !== null) nearest = Math.min(nearest, job.due);
    }
    timer = setTimeout(tick, Math.max(nearest - Date.now(), 5));
  }

  function enqueue(job: Job): void {
    if (job.waiting) return;
    job.waiting = true;
    queue.push(job);
    startWaiting();
  }

  function startWaiting(): void {
    while (!closed && active.size < jobsAtOnce) {
      const index = queue.findIndex((job) => !job.running);
      if (index < 0) return;
      const [job] = queue.splice(index, 1);
      job!.waiting = false;
      if (!jobs.has(job!.id)) continue;
      job!.running = true;
      const run = runJob(sql, databaseUrl, job!, openRuns)
        .catch((error) => {
          if (!closed) log.warn(`job ${job!.id} was not recorded: ${describeError(error)}`);
        })
        .finally(() => {
          const current = jobs.get(job!.id);
          job!.running = false;
          if (current) current.running = false;
          active.delete(run);
          startWaiting();
        });
      active.add(run);
    }
  }

  /** Runs that a dead server or stack left open; the ones of this process end by themselves. */
  async function closeLostRuns(): Promise<void> {
    await sql`
      update cron.job_run_details
      set status = 'failed', return_message = 'server restarted', end_time = now()
      where status in ('starting', 'running', 'sending', 'connecting')
        and not runid::text = any (${[...openRuns]}::text[])`.catch(ignoreMissing);
  }

  // Also called when the connection is back after the server was away.
  async function begin(): Promise<void> {
    await closeLostRuns().catch((error) => log.debug(describeError(error)));
    await reload();
  }

  const listener = await sql.listen("cron", () => void reload(), () => void begin());

  return {
    close: async () => {
      closed = true;
      clearTimeout(timer);
      await listener.unlisten().catch(() => {});
      // A job that is in the middle of something is cut off; the next start says so in its run.
      await Promise.race([
        Promise.allSettled(active),
        new Promise((resolve) => setTimeout(resolve, 500)),
      ]);
      await sql.end({ timeout: 1 });
    },
  };
}

async function readJobs(sql: postgres.Sql): Promise<JobRow[]> {
  return await sql<JobRow[]>`
    select jobid::text, schedule, command, database, username
    from cron.job where active order by jobid`.catch(ignoreMissing);
}

/** Until a migration creates the extension there is nothing to schedule. */
function ignoreMissing(error: unknown): never[] {
  const code = (error as { code?: string }).code;
  if (code === "42P01" || code === "3F000") return [];
  throw error;
}

async function runJob(
  sql: postgres.Sql,
  databaseUrl: string,
  job: Job,
  openRuns: Set<string>,
): Promise<void> {
  const [run] = await sql<{ runid: string }[]>`
    insert into cron.job_run_details (jobid, database, username, command, status)
    values (${job.id}, ${job.database}, ${job.username}, ${job.command}, 'starting')
    returning runid::text`;
  openRuns.add(run!.runid);
  try {
    await carryOut(sql, urlOf(databaseUrl, job), job.command, run!.runid);
  } finally {
    openRuns.delete(run!.runid);
  }
}

async function carryOut(
  sql: postgres.Sql,
  url: string,
  command: string,
  runid: string,
): Promise<void> {
  const connection = postgres(url, {
    max: 1,
    fetch_types: false,
    onnotice: () => {},
    connection: { application_name: "pg_cron" },
  });
  let status = "succeeded";
  let message: string;
  try {
    const [backend] = await connection`select pg_backend_pid() as pid`;
    await sql`
      update cron.job_run_details
      set status = 'running', start_time = clock_timestamp(), job_pid = ${backend!.pid}
      where runid = ${runid}`;
    message = describeResult(await connection.unsafe(command).simple());
  } catch (error) {
    status = "failed";
    message = error instanceof postgres.PostgresError
      ? [`ERROR: ${error.message}`, error.detail && `DETAIL: ${error.detail}`, error.where]
        .filter(Boolean).join("\n")
      : describeError(error);
  } finally {
    await connection.end({ timeout: 1 });
  }
  await sql`
    update cron.job_run_details
    set
      status = ${status},
      return_message = ${message},
      start_time = coalesce(start_time, clock_timestamp()),
      end_time = clock_timestamp()
    where runid = ${runid}`;
}

function urlOf(databaseUrl: string, job: Job): string {
  const url = new URL(databaseUrl);
  url.username = encodeURIComponent(job.username);
  url.pathname = `/${encodeURIComponent(job.database)}`;
  return url.href;
}

/** pg_cron's words: `2 rows` for rows that came back, else the command's own tag. */
function describeResult(result: unknown): string {
  // Several statements give several results; the last one speaks.
  const results = result as (postgres.RowList<postgres.Row[]> | postgres.RowList<postgres.Row[]>[]);
  const last = (Array.isArray(results[0]) ? results.at(-1) : results) as postgres.RowList<
    postgres.Row[]
  >;
  if (last.columns?.length) return `${last.count} row${last.count === 1 ? "" : "s"}`;
  if (last.command === "INSERT") return `INSERT 0 ${last.count}`;
  return last.count === null ? last.command : `${last.command} ${last.count}`;
}
