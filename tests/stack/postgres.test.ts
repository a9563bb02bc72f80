import { type ChildProcess, spawn } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import postgres from "postgres";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { freePorts } from "../../scripts/free-ports.ts";
import { denoCommand, root } from "../support/deno.ts";

interface Run {
  child: ChildProcess;
  output(): string;
  /** Resolves with the exit code, or "ready" when it serves. */
  outcome: Promise<number | null | "ready">;
  ended: Promise<number | null>;
}

const runs: Run[] = [];
let state: string;
let port: number;

/** `postgres.ts` as its own process, without migrations. */
function start(options: { state?: string; port?: number } = {}): Run {
  const { command, args } = denoCommand();
  const child = spawn(command, [
    ...args,
    ...["run", "-A", "--quiet", path.join(root, "scripts/local/postgres.ts"), "--bare"],
    ...["--state", options.state ?? state, "--port", String(options.port ?? port)],
  ], { stdio: ["pipe", "pipe", "pipe"] });
  let output = "";
  const ended = new Promise<number | null>((resolve) => child.once("exit", resolve));
  // Its last words may come after its exit.
  const closed = new Promise<number | null>((resolve) => child.once("close", resolve));
  const ready = new Promise<"ready">((resolve) => {
    for (const stream of [child.stdout!, child.stderr!]) {
      stream.on("data", (chunk) => {
        output += chunk;
        if (/^ready$/m.test(output)) resolve("ready");
      });
    }
  });
  const run = { child, output: () => output, ended, outcome: Promise.race([ready, closed]) };
  runs.push(run);
  return run;
}

async function query<T>(work: (sql: postgres.Sql) => Promise<T>): Promise<T> {
  const sql = postgres(`postgresql://postgres:postgres@127.0.0.1:${port}/postgres`, {
    max: 1,
    onnotice: () => {},
  });
  try {
    return await work(sql);
  } finally {
    await sql.end({ timeout: 1 });
  }
}

const postmaster = async () =>
  Number((await readFile(path.join(state, "postgres/data/postmaster.pid"), "utf8")).split("\n")[0]);

const rows = () =>
  query((sql) =>
    sql`select n from public.kept order by n`.then((found) => found.map((row) => row.n))
  )
    .catch(() => null);

beforeAll(async () => {
  state = await mkdtemp(path.join(tmpdir(), "agent-launchpad-pg-"));
  port = (await freePorts(1))[0]!;
  const run = start();
  expect(await run.outcome, run.output()).toBe("ready");
  await query((sql) => sql`create table public.kept (n int)`);
  await query((sql) => sql`insert into public.kept values (1)`);
});

afterEach(async () => {
  for (const run of runs.splice(1)) {
    run.child.stdin!.end();
    await run.ended;
  }
});

afterAll(async () => {
  for (const run of runs) {
    run.child.stdin!.end();
    await run.ended;
  }
  await rm(state, { recursive: true, force: true });
});

describe("the database server", () => {
  it("listens on loopback only, with role postgres no superuser", async () => {
    const [found] = await query((sql) =>
      sql`
        select
          current_setting('listen_addresses') as addresses,
          current_setting('wal_level') as wal,
          current_setting('fsync') as fsync,
          rolsuper as super
        from pg_roles where rolname = current_user`
    );
    expect(found).toEqual({ addresses: "127.0.0.1", wal: "logical", fsync: "on", super: false });
  });

  it("runs as an unprivileged user", async () => {
    const status = await readFile(`/proc/${await postmaster()}/status`, "utf8").catch(() => null);
    if (status === null) return;
    expect(/^Uid:\s+0/m.test(status)).toBe(false);
  });

  it("refuses a second stack on the same state directory, and says which one runs", async () => {
    const second = start({ port: (await freePorts(1))[0]! });
    expect(await second.outcome).toBe(1);
    expect(second.output()).toContain(`(process ${runs[0]!.child.pid})`);
  });

  it("says which port is busy and how to choose another", async () => {
    const server = createServer().listen(0, "127.0.0.1");
    await new Promise((resolve) => server.once("listening", resolve));
    const busy = (server.address() as { port: number }).port;
    const other = await mkdtemp(path.join(tmpdir(), "agent-launchpad-pg-"));
    const run = start({ state: other, port: busy });
    expect(await run.outcome).toBe(1);
    expect(run.output()).toContain(`Port ${busy}`);
    expect(run.output()).toContain("LAUNCHPAD_DB_PORT");
    server.close();
    await rm(other, { recursive: true, force: true });
  });

  it("comes back by itself with every committed row when its process is killed", async () => {
    const before = await postmaster();
    await query((sql) => sql`insert into public.kept values (2)`);
    process.kill(before, "SIGKILL");
    await expect.poll(rows).toEqual([1, 2]);
    expect(await postmaster()).not.toBe(before);
  });

  it("is taken over by the next start when the stack was killed", async () => {
    const orphan = await postmaster();
    await query((sql) => sql`insert into public.kept values (3)`);
    runs[0]!.child.kill("SIGKILL");
    await runs[0]!.ended;
    expect(() => process.kill(orphan, 0)).not.toThrow();
    runs.shift();
    const next = start();
    runs.unshift(runs.pop()!);
    expect(await next.outcome, next.output()).toBe("ready");
    expect(await rows()).toEqual([1, 2, 3]);
    expect(await postmaster()).not.toBe(orphan);
  });

  it("ends with the process that started it", async () => {
    const pid = await postmaster();
    runs[0]!.child.stdin!.end();
    expect(await runs[0]!.ended).toBe(0);
    expect(() => process.kill(pid, 0)).toThrow();
    runs.shift();
    const next = start();
    expect(await next.outcome, next.output()).toBe("ready");
  });
});
