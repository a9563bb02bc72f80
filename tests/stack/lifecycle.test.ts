import { execFileSync, spawn } from "node:child_process";
import { existsSync, readFileSync, statSync } from "node:fs";
import { readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import path from "node:path";
import postgres from "postgres";
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from "vitest";
import { root } from "../support/deno.ts";
import { commandLines } from "../support/processes.ts";
import {
  freshStackEnvironment,
  printed,
  runScript,
  type StackProcess,
  startStackProcess,
} from "../support/stack-process.ts";
import { PATIENCE, until } from "../support/until.ts";

type Environment = Record<string, string>;

/** Runs a command to its end. */
async function run(
  name: "start" | "stop" | "status" | "reset",
  environment: Environment,
  args: string[] = [],
): Promise<{ code: number | null; output: string }> {
  const launch = runScript(name, environment, args);
  const code = await launch.ended;
  return { code, output: launch.output() };
}

/** Runs statements as role postgres. */
async function query<T extends postgres.MaybeRow[]>(url: string, text: string) {
  const sql = postgres(url, { max: 1, onnotice: () => {} });
  try {
    return await sql.unsafe<T>(text);
  } finally {
    await sql.end({ timeout: 1 });
  }
}

const commitRow = (stack: { dbUrl: string }) =>
  query(
    stack.dbUrl,
    "create schema if not exists kept; create table if not exists kept.rows (id int); " +
      "insert into kept.rows values (1)",
  );
const countRows = async (stack: { dbUrl: string }) =>
  (await query<{ count: number }[]>(stack.dbUrl, "select count(*)::int from kept.rows"))[0]!.count;

const restAnswers = async (stack: StackProcess) =>
  (await fetch(`${stack.apiUrl}/rest/v1/`, { headers: { apikey: stack.secretKey } })).status;
const authAnswers = async (stack: StackProcess) =>
  (await fetch(`${stack.apiUrl}/auth/v1/health`, { headers: { apikey: stack.publishableKey } }))
    .status;

/** Process ids that `npm run status` shows. */
async function processes(environment: Environment): Promise<Record<string, number>> {
  const { output } = await run("status", environment);
  const rows = [...output.matchAll(/^ +(\d+) {2}ready +(\w+)/gm)];
  return Object.fromEntries(rows.map(([, pid, name]) => [name, Number(pid)]));
}

/** The id of a process, once it is ready; what came before may have taken it along. */
function readyProcess(environment: Environment, name: string): Promise<number> {
  return until(
    async () => (await processes(environment))[name] ?? 0,
    (pid) => pid > 0,
  );
}

/** Process ids whose command line names the state directory. */
function remaining(environment: Environment): string[] {
  return commandLines().filter((line) => line.includes(environment.LAUNCHPAD_STATE_DIR!));
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

describe("a running stack", () => {
  let environment: Environment;
  let stack: StackProcess;
  beforeAll(async () => {
    environment = await freshStackEnvironment();
    stack = await startStackProcess(environment);
  });
  afterAll(() => stack.stop());

  test("tells its addresses and keys, and a request that works when pasted", async () => {
    const shown = stack.output();
    for (const value of [stack.apiUrl, stack.dbUrl, stack.inboxUrl, stack.publishableKey]) {
      expect(shown).toContain(value);
    }
    const curl = /^ {2}curl (.+)$/m.exec(shown)![1]!;
    expect((await fetch(curl)).status).toBe(200);
  });

  test("keeps its keys to the user who started it", () => {
    for (const name of ["keys.json", "stack.json"]) {
      expect(statSync(path.join(stack.stateDir, name)).mode & 0o777).toBe(0o600);
    }
  });

  test("is not started twice", async () => {
    const { code, output } = await run("start", environment);
    expect(code).toBe(1);
    expect(output).toContain(`already runs here at ${stack.apiUrl}`);
    expect(output).not.toMatch(/^\s+at /m);
  });

  test("names the port that another stack wants too, and what to do", async () => {
    const other = { ...await freshStackEnvironment() };
    other.LAUNCHPAD_API_PORT = environment.LAUNCHPAD_API_PORT!;
    const { code, output } = await run("start", other);
    await rm(other.LAUNCHPAD_STATE_DIR!, { recursive: true, force: true });
    expect(code).toBe(1);
    expect(output).toContain(`Port ${environment.LAUNCHPAD_API_PORT} (api) is in use`);
    expect(output).toContain("LAUNCHPAD_API_PORT=");
    expect(output).not.toMatch(/^\s+at /m);
  });

  test("lets a second one run beside it", async () => {
    const second = await startStackProcess();
    try {
      expect(await restAnswers(second)).toBe(200);
      expect(await restAnswers(stack)).toBe(200);
    } finally {
      await second.stop();
    }
  });

  test("prints its variables as Supabase's CLI does", async () => {
    const { output } = await run("status", environment, ["-o", "env"]);
    expect(output).toContain(`API_URL="${stack.apiUrl}"`);
    expect(output).toContain(`DB_URL="${stack.dbUrl}"`);
    const json = JSON.parse((await run("status", environment, ["-o", "json"])).output);
    expect(json).toMatchObject({
      API_URL: stack.apiUrl,
      DB_URL: stack.dbUrl,
      INBUCKET_URL: stack.inboxUrl,
      MAILPIT_URL: stack.inboxUrl,
      PUBLISHABLE_KEY: stack.publishableKey,
      SECRET_KEY: stack.secretKey,
      ANON_KEY: stack.anonKey,
      SERVICE_ROLE_KEY: stack.serviceRoleKey,
      PORTAINER_URL: stack.portainerUrl,
    });
  });

  test("prints variables that a shell reads back unchanged", async () => {
    const { output } = await run("status", environment, ["-o", "env"]);
    const read = execFileSync("sh", ["-c", `${output}\nprintf %s "$JWKS"`], { encoding: "utf8" });
    expect(JSON.parse(read).keys[0]).toMatchObject({ kty: "EC", alg: "ES256" });
  });

  test("keeps a committed row and serves again when Postgres is killed", async () => {
    await commitRow(stack);
    const pid = await readyProcess(environment, "postgres");
    process.kill(pid, "SIGKILL");
    await vi.waitFor(async () => {
      expect(await restAnswers(stack)).toBe(200);
      expect(await authAnswers(stack)).toBe(200);
      expect(await countRows(stack)).toBe(1);
      expect((await processes(environment)).postgres).not.toBe(pid);
    }, PATIENCE);
  });

  test.each(["api", "worker"])("starts function %s again when it is killed", async (name) => {
    const before = await readyProcess(environment, name);
    process.kill(before, "SIGKILL");
    await vi.waitFor(async () => {
      const after = (await processes(environment))[name];
      expect(after).toBeGreaterThan(0);
      expect(after).not.toBe(before);
    }, PATIENCE);
  });

  test("starts Portainer again when it is killed", async () => {
    const portainer = await readyProcess(environment, "portainer");
    process.kill(portainer, "SIGKILL");
    await vi.waitFor(async () => {
      const headers = { "X-API-Key": stack.portainerApiKey };
      const answer = await fetch(`${stack.portainerUrl}/api/endpoints`, { headers });
      expect(answer.status).toBe(200);
      expect((await processes(environment)).portainer).not.toBe(portainer);
    }, PATIENCE);
  });

  test("is made anew by a reset while it runs", async () => {
    await commitRow(stack);
    const { code, output } = await run("reset", environment);
    expect(output).toContain("The database is as new.");
    expect(code).toBe(0);
    await expect(countRows(stack)).rejects.toMatchObject({ code: "42P01" });
    expect(await restAnswers(stack)).toBe(200);
  });
});

describe("the end of a stack", () => {
  let environment: Environment;
  afterEach(async () => {
    await run("stop", environment);
    await rm(environment.LAUNCHPAD_STATE_DIR!, { recursive: true, force: true });
  });

  test("by npm run stop leaves no process, keeps the data and can be asked for twice", async () => {
    environment = await freshStackEnvironment();
    const stack = await startStackProcess(environment);
    await commitRow(stack);
    expect(await run("stop", environment)).toMatchObject({ code: 0 });
    expect(remaining(environment)).toEqual([]);
    expect((await run("status", environment)).output).toContain("not running");
    expect((await run("stop", environment)).output).toContain("not running");
    const again = await startStackProcess(environment);
    expect(await countRows(again)).toBe(1);
  });

  test.each(["SIGINT", "SIGTERM", "SIGHUP"] as const)("by %s is orderly", async (signal) => {
    environment = await freshStackEnvironment();
    const stack = await startStackProcess(environment);
    stack.child.kill(signal);
    await vi.waitFor(() => expect(stack.child.exitCode).toBe(0), PATIENCE);
    expect(remaining(environment)).toEqual([]);
  });

  test("by a signal while it starts leaves nothing behind", async () => {
    environment = await freshStackEnvironment();
    const launch = runScript("start", environment);
    await printed(launch, /Starting Agent Launchpad/);
    launch.child.kill("SIGTERM");
    expect(await launch.ended).toBe(0);
    expect(remaining(environment)).toEqual([]);
  });

  test("by kill -9 takes every part along, and the next start has every committed row", async () => {
    environment = await freshStackEnvironment();
    const stack = await startStackProcess(environment);
    const pids = Object.values(await processes(environment));
    await commitRow(stack);
    stack.child.kill("SIGKILL");
    await vi.waitFor(() => {
      expect(pids.filter(isAlive)).toEqual([]);
      expect(remaining(environment)).toEqual([]);
    }, PATIENCE);
    const again = await startStackProcess(environment);
    expect(await countRows(again)).toBe(1);
    expect(await restAnswers(again)).toBe(200);
  });

  test("by kill -9 does not keep a start at once from succeeding", async () => {
    environment = await freshStackEnvironment();
    const stack = await startStackProcess(environment);
    await commitRow(stack);
    stack.child.kill("SIGKILL");
    await vi.waitFor(() => expect(stack.child.signalCode).toBe("SIGKILL"), PATIENCE);
    const again = await startStackProcess(environment);
    expect(await countRows(again)).toBe(1);
  });

  test.each(["SIGTERM", "SIGKILL"] as const)("comes with npm's own by %s", async (signal) => {
    environment = await freshStackEnvironment();
    const { npm_lifecycle_event: _, ...outside } = process.env;
    const npm = spawn("npm", ["start"], {
      cwd: root,
      env: { ...outside, ...environment },
      stdio: ["ignore", "pipe", "ignore"],
    });
    let output = "";
    npm.stdout.on("data", (chunk) => output += chunk);
    await vi.waitFor(() => expect(output).toContain("Started in"), PATIENCE);
    npm.kill(signal);
    await vi.waitFor(() => expect(remaining(environment)).toEqual([]), PATIENCE);
    expect((await run("status", environment)).output).toContain("not running");
  });
});

describe("without a running stack", () => {
  let environment: Environment;
  beforeAll(async () => {
    environment = await freshStackEnvironment();
  });
  afterAll(() => rm(environment.LAUNCHPAD_STATE_DIR!, { recursive: true, force: true }));

  test("status says so and what to do", async () => {
    const { code, output } = await run("status", environment);
    expect(code).toBe(1);
    expect(output).toContain("not running");
    expect(output).toContain("npm start");
  });

  test("reset makes the database anew all the same", async () => {
    const { code, output } = await run("reset", environment);
    expect(output).toContain("The database is as new.");
    expect(code).toBe(0);
    expect(remaining(environment)).toEqual([]);
  });

  test.each([
    ["LAUNCHPAD_API_PORT", "http", "LAUNCHPAD_API_PORT gives"],
    ["LAUNCHPAD_DB_PORT", "70000", "LAUNCHPAD_DB_PORT gives"],
  ])("%s=%s is refused by name", async (variable, value, message) => {
    const { code, output } = await run("start", { ...environment, [variable]: value });
    expect(code).toBe(1);
    expect(output).toContain(message);
    expect(output).not.toMatch(/^\s+at /m);
  });

  test("one port for two services is refused", async () => {
    const { code, output } = await run("start", {
      ...environment,
      LAUNCHPAD_INBOX_PORT: environment.LAUNCHPAD_API_PORT!,
    });
    expect(code).toBe(1);
    expect(output).toContain("is asked for twice");
  });

  test("a damaged key file is named, not overwritten", async () => {
    const file = path.join(environment.LAUNCHPAD_STATE_DIR!, "keys.json");
    await writeFile(file, "{");
    const { code, output } = await run("start", environment);
    expect(code).toBe(1);
    expect(output).toContain(`${file} is damaged`);
    expect(await readFile(file, "utf8")).toBe("{");
    await rm(file);
  });

  test("a foreign program on the database's port is named", async () => {
    const server = createServer();
    await new Promise<void>((resolve) =>
      server.listen(Number(environment.LAUNCHPAD_DB_PORT), "127.0.0.1", resolve)
    );
    const { code, output } = await run("start", environment);
    await new Promise((resolve) => server.close(resolve));
    expect(code).toBe(1);
    expect(output).toContain(`Port ${environment.LAUNCHPAD_DB_PORT}`);
    expect(output).toContain("LAUNCHPAD_DB_PORT=");
    expect(output).not.toMatch(/^\s+at /m);
    expect(remaining(environment)).toEqual([]);
  });

  test("the state directory is kept out of git wherever it lies", () => {
    const ignore = path.join(environment.LAUNCHPAD_STATE_DIR!, ".gitignore");
    expect(existsSync(ignore) && readFileSync(ignore, "utf8")).toBe("*\n");
  });
});
