/** Deno as a child process: one function of an upload, or a command. */
import { spawn } from "node:child_process";
import path from "node:path";
import { READY_MARK } from "../../../scripts/local/child-protocol.ts";
import { denoCommand, root } from "../../support/deno.ts";

/** Serves one function as the local functions host does, in another folder. */
export async function startFunction(folder: string, entrypoint: string) {
  const deno = denoCommand();
  const child = spawn(
    deno.command,
    [
      ...deno.args,
      ...["run", "--quiet", "--cached-only", "--no-prompt", "--node-modules-dir=manual"],
      ...["--allow-net", "--allow-env", "--allow-sys", "--allow-read"],
      "--config=deno.json",
      path.join(root, "scripts", "local", "edge-runtime.ts"),
      path.join(folder, entrypoint),
    ],
    {
      cwd: folder,
      env: {
        PATH: process.env.PATH,
        HOME: process.env.HOME,
        NO_COLOR: "1",
        SUPABASE_URL: "http://127.0.0.1:9",
        SUPABASE_DB_URL: "postgresql://postgres:postgres@127.0.0.1:9/postgres",
        SUPABASE_PUBLISHABLE_KEYS: JSON.stringify({ default: "sb_publishable_test" }),
        SUPABASE_SECRET_KEYS: JSON.stringify({ default: "sb_secret_test" }),
        SUPABASE_JWKS: JSON.stringify({ keys: [] }),
      },
      stdio: ["pipe", "pipe", "pipe"],
    },
  );
  let output = "";
  child.stderr.on("data", (chunk) => output += chunk);
  const ended = new Promise<void>((resolve) => child.once("close", () => resolve()));
  const port = await new Promise<number>((resolve, reject) => {
    child.stdout.on("data", (chunk) => {
      output += chunk;
      const line = output.split("\n").slice(0, -1).find((each) => each.startsWith(READY_MARK));
      if (line) resolve(Number(line.slice(READY_MARK.length)));
    });
    void ended.then(() => reject(new Error(`${entrypoint} ended and printed:\n${output}`)));
  });
  return {
    port,
    output: () => output,
    stop: async () => {
      child.stdin.end();
      await ended;
    },
  };
}

/** What `deno …args` prints. */
export async function runDeno(args: string[], cwd: string): Promise<string> {
  const deno = denoCommand();
  const child = spawn(deno.command, [...deno.args, ...args], {
    cwd,
    stdio: ["ignore", "pipe", "pipe"],
  });
  let output = "";
  let words = "";
  child.stdout.on("data", (chunk) => output += chunk);
  child.stderr.on("data", (chunk) => words += chunk);
  const code = await new Promise((resolve) => child.once("close", resolve));
  if (code !== 0) throw new Error(words);
  return output;
}
