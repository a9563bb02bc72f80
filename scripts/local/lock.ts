import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { StackConfig } from "./config.ts";
import { StackError, systemErrorCode } from "./errors.ts";
import { writePrivately } from "./keys.ts";

/** What a running stack tells the other commands, in `<stateDir>/stack.json` (mode 0600). */
export interface RunningStack {
  pid: number;
  root: string;
  startedAt: string;
  ports: StackConfig["ports"];
  urls: StackConfig["urls"];
  /** Where `stop`, `status` and `reset` reach it; null while it starts. */
  control: { url: string; token: string } | null;
}

export interface StackLock {
  /** Publishes what the other commands need to know. */
  describe(running: RunningStack): Promise<void>;
  release(): Promise<void>;
}

const LOCK_FILE = "lock";
const DESCRIPTION_FILE = "stack.json";

/**
 * Takes the state directory for this process, creating it first. The kernel gives the lock back
 * when the process ends, however it ends, so nothing stale can be left behind.
 *
 * @throws {StackError} when another stack holds it, or the directory cannot be written
 */
export async function claimStateDir(config: StackConfig): Promise<StackLock> {
  const file = await openLock(config.stateDir, true);
  if (!await file.tryLock(true)) {
    file.close();
    throw alreadyRunning(await readDescription(config.stateDir));
  }
  return {
    describe: (running) =>
      writePrivately(config.stateDir, DESCRIPTION_FILE, JSON.stringify(running, null, 2) + "\n"),
    release: async () => {
      await rm(join(config.stateDir, DESCRIPTION_FILE), { force: true });
      await file.unlock();
      file.close();
    },
  };
}

/** The stack that runs on this state directory, or null. */
export async function findRunning(stateDir: string): Promise<RunningStack | null> {
  return await isLocked(stateDir) ? await readDescription(stateDir) : null;
}

/** Whether a process holds the state directory. */
export async function isLocked(stateDir: string): Promise<boolean> {
  let file: Deno.FsFile;
  try {
    file = await openLock(stateDir, false);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
  const free = await file.tryLock(true);
  file.close();
  return !free;
}

async function openLock(stateDir: string, create: boolean): Promise<Deno.FsFile> {
  if (create) await prepareStateDir(stateDir);
  return await Deno.open(join(stateDir, LOCK_FILE), { read: true, write: true, create });
}

async function prepareStateDir(stateDir: string): Promise<void> {
  try {
    await mkdir(stateDir, { recursive: true, mode: 0o755 });
    await writeFile(join(stateDir, ".gitignore"), "*\n");
  } catch (error) {
    const code = systemErrorCode(error);
    if (code === "ENOSPC") {
      throw new StackError(`The disk that holds ${stateDir} is full.`, "Free some space.");
    }
    throw new StackError(
      `${stateDir} cannot be written (${code ?? "unknown reason"}).`,
      "Make it writable for you, or name another place: LAUNCHPAD_STATE_DIR=/some/where npm start",
      { cause: error },
    );
  }
}

async function readDescription(stateDir: string): Promise<RunningStack | null> {
  try {
    return JSON.parse(await readFile(join(stateDir, DESCRIPTION_FILE), "utf8")) as RunningStack;
  } catch {
    // The stack has taken the lock a moment ago, or gives it back right now.
    return null;
  }
}

function alreadyRunning(running: RunningStack | null): StackError {
  const where = running === null ? "" : ` at ${running.urls.api} (process ${running.pid})`;
  return new StackError(
    `Agent Launchpad already runs here${where}.`,
    "npm run status shows its addresses and keys, npm run stop ends it. For a second one beside it " +
      "set LAUNCHPAD_STATE_DIR and the LAUNCHPAD_…_PORT variables.",
  );
}
