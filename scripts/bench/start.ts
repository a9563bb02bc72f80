/** How long `npm start` takes, with and without data from before, and what the idle stack keeps in memory. */
import * as fs from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { freePorts } from "../free-ports.ts";
import { createLog } from "../local/log.ts";
import { removeDatabase } from "../local/postgres.ts";
import { measureTree, type ProcessMemory } from "./memory.ts";
import type { BenchResult } from "./result.ts";
import { median, range } from "./statistics.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const ROUNDS = 3;
const IDLE_MS = 10_000;

export async function run(): Promise<BenchResult[]> {
  const cold: number[] = [];
  const warm: number[] = [];
  let memory: ProcessMemory[] = [];
  for (let round = 1; round <= ROUNDS; round++) {
    await withEnvironment(async (environment) => {
      const first = await start(environment);
      cold.push(first.seconds);
      await first.stop();
      const second = await start(environment);
      warm.push(second.seconds);
      try {
        if (round === ROUNDS) {
          await new Promise((resolve) => setTimeout(resolve, IDLE_MS));
          memory = measureTree(second.pid);
        }
      } finally {
        await second.stop();
      }
    });
  }
  return [
    {
      name: "npm start, first time, seconds",
      ratio: median(cold),
      target: "at most 15",
      detail: `${range(cold, 1)} s over ${ROUNDS} starts`,
    },
    {
      name: "npm start, later, seconds",
      ratio: median(warm),
      target: "at most 5",
      detail: `${range(warm, 1)} s over ${ROUNDS} starts`,
    },
    {
      name: "memory of the idle stack, MB",
      ratio: megabytes(memory),
      target: "at most 700",
      detail: describeMemory(memory),
    },
  ];
}

interface RunningStart {
  /** Until it said that everything runs. */
  seconds: number;
  pid: number;
  stop(): Promise<void>;
}

/** @throws Error with what it printed when it does not come up */
async function start(environment: Record<string, string>): Promise<RunningStart> {
  const began = performance.now();
  const child = npm(["start"], environment).spawn();
  let printed = "";
  const started = Promise.withResolvers<number>();
  const collect = async (stream: ReadableStream<Uint8Array>) => {
    const decoder = new TextDecoder();
    for await (const bytes of stream) {
      printed += decoder.decode(bytes, { stream: true });
      if (/^Started in /m.test(printed)) started.resolve((performance.now() - began) / 1000);
    }
  };
  const ended = Promise.all([collect(child.stdout), collect(child.stderr), child.status]);
  ended.finally(() => started.reject(new Error(`npm start ended and printed:\n${printed}`)));
  return {
    seconds: await started.promise,
    pid: child.pid,
    stop: async () => {
      const { success, stderr } = await npm(["run", "stop"], environment).output();
      if (!success) throw new Error(`npm run stop: ${new TextDecoder().decode(stderr)}`);
      await ended;
    },
  };
}

function npm(args: string[], env: Record<string, string>): Deno.Command {
  return new Deno.Command("npm", {
    args,
    cwd: root,
    env,
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  });
}

/** A stack of its own: free ports, an empty state directory that goes afterwards. */
async function withEnvironment(
  use: (environment: Record<string, string>) => Promise<void>,
): Promise<void> {
  const stateDir = await fs.mkdtemp(path.join(tmpdir(), "agent-launchpad-bench-"));
  const [api, db, inbox, portainer] = await freePorts(4);
  try {
    await use({
      LAUNCHPAD_STATE_DIR: stateDir,
      LAUNCHPAD_API_PORT: String(api),
      LAUNCHPAD_DB_PORT: String(db),
      LAUNCHPAD_INBOX_PORT: String(inbox),
      LAUNCHPAD_PORTAINER_PORT: String(portainer),
    });
  } finally {
    await removeDatabase(stateDir, createLog("error", (line) => console.error(line)));
    await fs.rm(stateDir, { recursive: true, force: true });
  }
}

const megabytes = (processes: ProcessMemory[]) =>
  processes.reduce((sum, { bytes }) => sum + bytes, 0) / 1_000_000;

/** Postgres, Deno, and npm with its shells, each as one figure. */
function describeMemory(processes: ProcessMemory[]): string {
  const groups = Map.groupBy(processes, ({ command }) => {
    if (/^postgres|\/postgres /.test(command)) return "Postgres";
    return /^npm|^node |^sh |\/node /.test(command) ? "npm" : "Deno";
  });
  const figures = [...groups].map(([name, members]) =>
    `${name} ${Math.round(megabytes(members))} (${members.length} processes)`
  );
  const kind = process.platform === "linux" ? "shared pages counted once" : "resident sizes added";
  return `${figures.join(", ")}; ${kind}`;
}
