import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { freePorts } from "../../scripts/free-ports.ts";
import { denoCommand, root } from "../support/deno.ts";
import type { StackAccess } from "../support/stack.ts";
import { type AuthStack, authTools } from "./support.ts";

export interface OwnAuth extends AuthStack {
  /** Every line it has logged, down to level debug. */
  output(): string;
  /** Ends the process and starts another on the same database and keys. */
  restart(): Promise<void>;
  stop(): Promise<void>;
}

/**
 * Auth with its own settings and database.
 *
 * @param config what `supabase/config.toml` would say
 */
export async function startAuthServer(config: string, given?: TestDatabase): Promise<OwnAuth> {
  const database = given ?? await createTestDatabase();
  const stateDir = await mkdtemp(path.join(tmpdir(), "agent-launchpad-auth-"));
  const [apiPort, inboxPort] = await freePorts(2);
  const options = {
    databaseUrl: database.url("supabase_auth_admin"),
    stateDir,
    apiPort,
    inboxPort,
    config,
  };
  let output = "";
  let server = await launch(JSON.stringify(options), (text) => output += text);
  const access = { ...server.access, dbUrl: database.url() } as StackAccess;
  return {
    ...authTools(access, database.sql),
    output: () => output,
    async restart() {
      await server.end();
      server = await launch(JSON.stringify(options), (text) => output += text);
    },
    async stop() {
      await server.end();
      await rm(stateDir, { recursive: true, force: true });
    },
  };
}

async function launch(options: string, onOutput: (text: string) => void) {
  const deno = denoCommand();
  const script = path.join(root, "tests", "auth", "auth-server.ts");
  const child = spawn(deno.command, [...deno.args, "run", "-A", "--quiet", script, options], {
    cwd: root,
    stdio: ["pipe", "pipe", "pipe"],
    env: { ...process.env, NO_COLOR: "1" },
  });
  const exited = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  const end = async () => {
    child.stdin.end();
    await exited;
  };
  let errors = "";
  child.stderr.on("data", (chunk) => {
    errors += chunk;
    onOutput(String(chunk));
  });
  const access = await new Promise<Partial<StackAccess>>((resolve, reject) => {
    let printed = "";
    child.stdout.on("data", (chunk) => {
      printed += chunk;
      if (printed.includes("\n")) resolve(JSON.parse(printed));
    });
    void exited.then(() => reject(new Error(`Auth did not start.\n${errors}`)));
  });
  return { access, end };
}
