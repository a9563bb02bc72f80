import { once } from "node:events";
import { createServer, type IncomingMessage, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import postgres from "postgres";
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from "vitest";
import { startCron } from "../../scripts/local/cron.ts";
import { createLog } from "../../scripts/local/log.ts";
import { startNet } from "../../scripts/local/net.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { PATIENCE } from "../support/until.ts";

const log = createLog("warn", (line) => console.warn(line));

let database: TestDatabase;
let service: { close(): Promise<void> };

beforeAll(async () => {
  database = await createTestDatabase();
  await database.sql`create extension if not exists pg_cron`;
  await database.sql`create extension if not exists pg_net with schema extensions`;
  // What the application schedules would run in between.
  await database.sql`select cron.unschedule(jobid) from cron.job`;
  await database.sql`create table public.ticks (at timestamptz not null default now())`;
});

describe("cron", () => {
  beforeAll(async () => {
    service = await startCron({ databaseUrl: database.url("supabase_admin"), log });
    return () => service.close();
  });

  const runs = (jobname: string) =>
    database.sql`
      select d.* from cron.job_run_details as d join cron.job as j using (jobid)
      where j.jobname = ${jobname} and d.status in ('succeeded', 'failed') order by runid`;

  it("runs a job that was scheduled a moment ago, every second", async () => {
    const began = performance.now();
    await database
      .sql`select cron.schedule('tick', '1 second', 'insert into public.ticks default values')`;
    await vi.waitUntil(async () => (await runs("tick")).length >= 3, PATIENCE);
    await database.sql`select cron.unschedule('tick')`;
    const ticks = await database.sql`select from public.ticks`;
    expect(ticks.length).toBeLessThanOrEqual(1 + (performance.now() - began) / 1000);
  });

  it("records role, process, times and the command's tag", async () => {
    await database
      .sql`select cron.schedule('tag', '1 second', 'delete from public.ticks where false')`;
    const [run] = await vi.waitUntil(async () => {
      const found = await runs("tag");
      return found.length > 0 && found;
    }, PATIENCE);
    await database.sql`select cron.unschedule('tag')`;
    expect(run).toMatchObject({
      status: "succeeded",
      return_message: "DELETE 0",
      username: "postgres",
      command: "delete from public.ticks where false",
    });
    expect(run!.job_pid).toBeGreaterThan(0);
    expect(run!.end_time.getTime()).toBeGreaterThanOrEqual(run!.start_time.getTime());
  });

  it("runs a job as the role that scheduled it", async () => {
    await database.sql`select cron.schedule('who', '1 second', 'select public.remember()')`;
    await database.sql.unsafe(`
      create table public.whoami (name text);
      create function public.remember() returns void language sql
        as 'insert into public.whoami values (session_user)';`);
    await vi.waitUntil(
      async () => (await database.sql`select from public.whoami`).length > 0,
      PATIENCE,
    );
    await database.sql`select cron.unschedule('who')`;
    expect((await database.sql`select distinct name from public.whoami`)[0]!.name).toBe("postgres");
  });

  it("records the server's words when a job fails, and goes on", async () => {
    await database.sql`select cron.schedule('broken', '1 second', 'select 1 / 0')`;
    await vi.waitUntil(async () => (await runs("broken")).length >= 2, PATIENCE);
    const [run] = await runs("broken");
    await database.sql`select cron.unschedule('broken')`;
    expect(run).toMatchObject({ status: "failed", return_message: "ERROR: division by zero" });
  });

  it("does not start a job while its last run goes on", async () => {
    await database.sql`select cron.schedule('slow', '1 second', 'select pg_sleep(1.5)')`;
    await vi.waitUntil(async () => (await runs("slow")).length >= 2, PATIENCE);
    const overlapping = await database.sql`
      select from cron.job_run_details as a join cron.job_run_details as b using (jobid)
      where a.runid < b.runid and a.end_time > b.start_time
        and jobid = (select jobid from cron.job where jobname = 'slow')`;
    await database.sql`select cron.unschedule('slow')`;
    expect(overlapping).toHaveLength(0);
  });

  it("runs no more than eight jobs at a time", async () => {
    // No job comes through before this session opens the gate.
    const gate = await database.sql.reserve();
    await gate`select pg_advisory_lock(1)`;
    for (let job = 0; job < 10; job++) {
      await database
        .sql`select cron.schedule(${`many-${job}`}, '1 second', 'select pg_advisory_lock_shared(1)')`;
    }
    const busy = async () =>
      (await database.sql`
        select from pg_stat_activity
        where application_name = 'pg_cron' and datname = current_database()`).length;
    await expect.poll(busy).toBe(8);
    // The others have been due for long by then.
    await database.sql`select pg_sleep(1.5)`;
    expect(await busy()).toBe(8);
    await gate`select pg_advisory_unlock(1)`;
    gate.release();
    await expect.poll(async () => {
      const [done] = await database.sql`
        select count(distinct jobid)::int as jobs from cron.job_run_details
        where status = 'succeeded'
          and jobid in (select jobid from cron.job where jobname like 'many-%')`;
      return done!.jobs;
    }).toBe(10);
    await database.sql`select cron.unschedule(jobname) from cron.job`;
  });

  it("leaves a paused job alone", async () => {
    const [{ id }] = await database
      .sql`select cron.schedule('paused', '1 second', 'select 1') as id` as unknown as [
        { id: string },
      ];
    await database.sql`select cron.alter_job(${id}, active => false)`;
    await database.sql`select cron.schedule('witness', '1 second', 'select 1')`;
    await vi.waitUntil(async () => (await runs("witness")).length >= 2, PATIENCE);
    const paused = await runs("paused");
    await database.sql`select cron.unschedule(jobname) from cron.job`;
    expect(paused).toHaveLength(0);
  });

  it("closes runs that were left open, and goes on, when its connection was cut", async () => {
    const admin = postgres(database.url("supabase_admin"), { max: 1 });
    const [lost] = await admin`
      insert into cron.job_run_details (jobid, username, command, status)
      values (0, 'postgres', 'select 1', 'running') returning runid`;
    await admin`
      select pg_terminate_backend(pid) from pg_stat_activity
      where application_name = 'pg_cron scheduler' and datname = current_database()`;
    const state = async () =>
      (await admin`select status from cron.job_run_details where runid = ${lost!.runid}`)[0]!
        .status;
    await expect.poll(state).toBe("failed");
    await database.sql`select cron.schedule('after', '1 second', 'select 1')`;
    await expect.poll(async () => (await runs("after")).length)
      .toBeGreaterThan(0);
    await database.sql`select cron.unschedule('after')`;
    await admin.end();
  });

  it("refuses a schedule that is none, in pg_cron's words", async () => {
    await expect(database.sql`select cron.schedule('x', '99 seconds', 'select 1')`).rejects
      .toMatchObject({ code: "22023", message: "invalid schedule: 99 seconds" });
  });

  it("lets role postgres schedule nothing for a superuser", async () => {
    await expect(
      database
        .sql`select cron.schedule_in_database('x', '* * * * *', 'select 1', 'postgres', 'supabase_admin')`,
    ).rejects.toMatchObject({ code: "42501" });
  });
});

describe("net", () => {
  let server: Server;
  let url: string;
  const received: { request: IncomingMessage; body: string }[] = [];

  beforeAll(async () => {
    server = createServer((request, response) => {
      let body = "";
      request.on("data", (chunk) => body += chunk);
      request.on("end", () => {
        received.push({ request, body });
        if (request.url?.startsWith("/slow")) {
          setTimeout(() => response.end("late"), 400);
        } else {
          response.writeHead(202, { "content-type": "application/json", "x-mark": "yes" })
            .end('{"ok":true}');
        }
      });
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    service = await startNet({ databaseUrl: database.url("supabase_admin"), log });
    return () => service.close();
  });
  afterAll(() => void server.close());
  beforeEach(() => void received.splice(0));

  const answer = (id: string) =>
    vi.waitUntil(
      async () => (await database.sql`select * from net._http_response where id = ${id}`)[0],
      { ...PATIENCE, interval: 10 },
    );

  it("sends what http_post queued, and stores the answer", async () => {
    const [{ id }] = await database.sql`
      select net.http_post(
        ${url + "/hook?a=1"}, '{"n": 1}', '{"b": "ü &"}', '{"apikey": "k"}'
      ) as id` as unknown as [{ id: string }];
    expect(await answer(id)).toMatchObject({
      status_code: 202,
      content_type: "application/json",
      content: '{"ok":true}',
      timed_out: false,
      error_msg: null,
    });
    expect(received[0]!.request).toMatchObject({ method: "POST", url: "/hook?a=1&b=%C3%BC%20%26" });
    expect(received[0]!.request.headers).toMatchObject({
      apikey: "k",
      "content-type": "application/json",
    });
    expect(JSON.parse(received[0]!.body)).toEqual({ n: 1 });
  });

  it("sends nothing before the transaction commits, and nothing of one that does not", async () => {
    await database.sql.begin(async (sql) => {
      await sql`select net.http_get(${url + "/rolled-back"})`;
      throw new Error("no");
    }).catch(() => {});
    await database.sql.begin(async (sql) => {
      await sql`select net.http_get(${url + "/committed"})`;
      await sql`select pg_sleep(0.1)`;
      expect(received).toHaveLength(0);
    });
    await vi.waitUntil(() => received.length > 0, PATIENCE);
    expect(received.map(({ request }) => request.url)).toEqual(["/committed"]);
  });

  it("leaves because of the commit, and not in some round", async () => {
    await service.close();
    vi.useFakeTimers({ toFake: ["setInterval"] });
    service = await startNet({ databaseUrl: database.url("supabase_admin"), log });
    for (let round = 0; round < 3; round++) {
      const arrived = once(server, "request");
      await database.sql`select net.http_get(${url + "/fast"})`;
      await arrived;
    }
    vi.useRealTimers();
  });

  it("gives up after the requested time and says so", async () => {
    const [{ id }] = await database.sql`
      select net.http_get(${url + "/slow"}, timeout_milliseconds => 100) as id` as unknown as [
      { id: string },
    ];
    expect(await answer(id)).toMatchObject({
      status_code: null,
      timed_out: true,
      error_msg: "Timeout of 100 ms reached.",
    });
  });

  it("waits longer than usual when asked to", async () => {
    const [{ id }] = await database.sql`
      select net.http_delete(${url + "/slow"}, timeout_milliseconds => 5000) as id` as unknown as [
      { id: string },
    ];
    expect(await answer(id)).toMatchObject({ status_code: 200, content: "late", timed_out: false });
  });

  it("stores the error of a request that reaches nobody", async () => {
    const [{ id }] = await database
      .sql`select net.http_get('http://127.0.0.1:1/') as id` as unknown as [{ id: string }];
    const stored = await answer(id);
    expect(stored).toMatchObject({ status_code: null, timed_out: false });
    expect(stored!.error_msg).toBeTruthy();
  });

  it("sends every one of five hundred requests once", async () => {
    await database.sql`
      select net.http_get(${url} || '/many/' || n) from generate_series(1, 500) as n`;
    await vi.waitUntil(() => received.length >= 500, PATIENCE);
    await vi.waitUntil(
      async () => (await database.sql`select from net.http_request_queue`).length === 0,
      PATIENCE,
    );
    expect(new Set(received.map(({ request }) => request.url)).size).toBe(500);
    expect(received).toHaveLength(500);
  });

  it("collects a stored answer", async () => {
    const [{ id }] = await database.sql`select net.http_get(${url}) as id` as unknown as [
      { id: string },
    ];
    await answer(id);
    const [collected] = await database.sql`
      select (r).status::text, ((r).response).status_code
      from net.http_collect_response(${id}) as r`;
    expect(collected).toEqual({ status: "SUCCESS", status_code: 202 });
  });

  it("lets role authenticated send, but read neither queue nor answers", async () => {
    await database.sql.begin(async (sql) => {
      await sql`set local role authenticated`;
      await sql`select net.http_get(${url})`;
      await expect(sql.savepoint((inner) => inner`select * from net.http_request_queue`)).rejects
        .toMatchObject({ code: "42501" });
    });
  });
});
