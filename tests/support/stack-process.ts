/** The local stack as a child process, the way `npm start` runs it. */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { freePorts } from "../../scripts/free-ports.ts";
import { denoCommand, root } from "./deno.ts";

export interface StackAccess {
  apiUrl: string;
  /** As role `postgres`. */
  dbUrl: string;
  publishableKey: string;
  secretKey: string;
  anonKey: string;
  serviceRoleKey: string;
  portainerUrl: string;
  portainerApiKey: string;
  inboxUrl: string;
  /** Empty when the stack is none of ours. */
  stateDir: string;
}

export interface StackProcess extends StackAccess {
  child: ChildProcess;
  /** Everything it has printed. */
  output(): string;
  /** Ends it in order and deletes its state. */
  stop(): Promise<void>;
}

export interface Launch {
  child: ChildProcess;
  output(): string;
  /** The exit code, once it has ended; null after a signal. */
  ended: Promise<number | null>;
}

/** Environment of a stack of its own: free ports and a fresh state directory. */
export async function freshStackEnvironment(): Promise<Record<string, string>> {
  const [api, db, inbox, portainer] = await freePorts(4);
  return {
    LAUNCHPAD_STATE_DIR: await mkdtemp(path.join(tmpdir(), "agent-launchpad-stack-")),
    LAUNCHPAD_API_PORT: String(api),
    LAUNCHPAD_DB_PORT: String(db),
    LAUNCHPAD_INBOX_PORT: String(inbox),
    LAUNCHPAD_PORTAINER_PORT: String(portainer),
  };
}

/** Runs one of the commands of `scripts/`. */
export function runScript(
  name: "start" | "stop" | "status" | "reset",
  environment: Record<string, string>,
  args: string[] = [],
): Launch {
  const deno = denoCommand();
  const child = spawn(
    deno.command,
    [...deno.args, "run", "-A", "--quiet", path.join(root, "scripts", `${name}.ts`), ...args],
    {
      cwd: root,
      stdio: ["ignore", "pipe", "pipe"],
      // The stack ends when we do, however we do, as it would with npm.
      env: { ...process.env, NO_COLOR: "1", npm_lifecycle_event: name, ...environment },
    },
  );
  let printed = "";
  child.stdout?.on("data", (chunk) => printed += chunk);
  child.stderr?.on("data", (chunk) => printed += chunk);
  const ended = new Promise<number | null>((resolve) => child.once("close", resolve));
  return { child, output: () => printed, ended };
}

/**
 * Starts a stack and waits for its summary.
 *
 * @throws Error with what it printed when it does not come up
 */
export async function startStackProcess(
  environment?: Record<string, string>,
): Promise<StackProcess> {
  const env = environment ?? await freshStackEnvironment();
  const stateDir = env.LAUNCHPAD_STATE_DIR!;
  const launch = runScript("start", env, ["--no-watch"]);
  const stop = async () => {
    launch.child.kill("SIGTERM");
    await launch.ended;
    await rm(stateDir, { recursive: true, force: true });
  };
  try {
    await printed(launch, /^Started in /m);
    return { ...await readAccess(stateDir), child: launch.child, output: launch.output, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

/**
 * Waits until the process has printed `pattern`.
 *
 * @throws Error with its whole output when it ends before
 */
export function printed(launch: Launch, pattern: RegExp): Promise<void> {
  return new Promise((resolve, reject) => {
    const look = () => {
      if (pattern.test(launch.output())) resolve();
    };
    launch.child.stdout?.on("data", look);
    launch.child.stderr?.on("data", look);
    look();
    void launch.ended.then((code) =>
      reject(new Error(`It ended with ${code} and printed:\n${launch.output()}`))
    );
  });
}

async function readAccess(stateDir: string): Promise<StackAccess> {
  const read = async (name: string) =>
    JSON.parse(await readFile(path.join(stateDir, name), "utf8"));
  const [{ urls }, keys] = await Promise.all([read("stack.json"), read("keys.json")]);
  return {
    apiUrl: urls.api,
    dbUrl: urls.db,
    publishableKey: keys.publishable,
    secretKey: keys.secret,
    anonKey: keys.anon,
    serviceRoleKey: keys.serviceRole,
    portainerUrl: urls.portainer,
    portainerApiKey: keys.portainerApiKey,
    inboxUrl: urls.inbox,
    stateDir,
  };
}
