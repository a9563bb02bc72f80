/**
 * One Postgres for a whole vitest run, for tests that need no other part of the stack. As a
 * `globalSetup` it opens a door that worker processes knock on; the server starts with the first
 * knock, so a run without database tests does not pay for it.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { createServer } from "node:http";
import { mkdtemp, rm } from "node:fs/promises";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { freePorts } from "../../scripts/free-ports.ts";

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "../..");

/** Where worker processes find the door. */
export const doorVariable = "TEST_DATABASE_DOOR";

export interface DatabaseServer {
  port: number;
  stop(): Promise<void>;
}

let teardownServer: (() => Promise<void>) | undefined;

export function setup(): Promise<void> {
  let started: Promise<DatabaseServer> | undefined;
  const door = createServer((_request, response) => {
    started ??= startDatabaseServer();
    started.then(
      (server) => response.end(JSON.stringify({ port: server.port })),
      (error) => response.writeHead(500).end(error instanceof Error ? error.message : "failed"),
    );
  });
  teardownServer = async () => {
    door.closeAllConnections();
    door.close();
    await started?.then((server) => server.stop(), () => {});
  };
  return new Promise((resolve) => {
    door.listen(0, "127.0.0.1", () => {
      process.env[doorVariable] = `http://127.0.0.1:${(door.address() as AddressInfo).port}`;
      resolve();
    });
  });
}

export async function teardown(): Promise<void> {
  await teardownServer?.();
}

/**
 * Starts Postgres with bootstrap and migrations on a free port, in a directory of its own.
 *
 * @param args further options of the command; `--bare` leaves the migrations out
 * @throws Error with the command's own words when it does not come up, a failing migration included
 */
export async function startDatabaseServer(...args: string[]): Promise<DatabaseServer> {
  const state = await mkdtemp(path.join(tmpdir(), "agent-launchpad-db-"));
  const [port] = await freePorts(1);
  const child = spawn(
    process.execPath,
    [
      path.join(root, "node_modules", "deno", "bin.cjs"),
      ...["run", "-A", "--quiet", path.join(root, "scripts", "local", "postgres.ts")],
      ...["--state", state, "--port", String(port), "--fast", "--discard", ...args],
    ],
    { cwd: root, stdio: ["pipe", "pipe", "pipe"] },
  );
  const stop = async () => {
    // End of input is the one signal that gets through npm's wrapper around Deno.
    child.stdin?.end();
    if (child.exitCode === null) await new Promise((resolve) => child.once("exit", resolve));
    await rm(state, { recursive: true, force: true });
  };
  try {
    await readyLine(child);
  } catch (error) {
    await stop();
    throw error;
  }
  return { port: port!, stop };
}

function readyLine(child: ChildProcess): Promise<void> {
  return new Promise((resolve, reject) => {
    let output = "";
    let words = "";
    child.stdout?.on("data", (chunk) => {
      output += chunk;
      if (/^ready$/m.test(output)) resolve();
    });
    child.stderr?.on("data", (chunk) => words += chunk);
    child.once("exit", () => reject(new Error(`The test database did not start.\n${words}`)));
  });
}
