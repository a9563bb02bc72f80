import { type ChildProcess, spawn } from "node:child_process";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";
import { freePorts } from "../../../scripts/free-ports.ts";
import { denoCommand, root } from "../../support/deno.ts";

export interface GatewayUnderTest {
  url: string;
  keys: { publishable: string; secret: string; anon: string; serviceRole: string };
  /** What gateway and functions have printed. */
  log(): string;
  /** Process id of each function that runs. */
  pids(): Promise<Record<string, number | null>>;
  /** Saves a function's source anew. */
  save(name: string, source: string): Promise<void>;
  child: ChildProcess;
  stop(): Promise<void>;
}

/** Starts the gateway with these functions: name → source of `index.ts`. */
export async function startGatewayUnderTest(
  functions: Record<string, string>,
): Promise<GatewayUnderTest> {
  const folder = await mkdtemp(path.join(tmpdir(), "agent launchpad gateway "));
  const save = async (name: string, source: string) => {
    await mkdir(path.join(folder, "functions", name), { recursive: true });
    await writeFile(path.join(folder, "functions", name, "index.ts"), source);
  };
  await writeFile(path.join(folder, "deno.json"), "{}");
  for (const [name, source] of Object.entries(functions)) await save(name, source);

  const [port] = await freePorts(1);
  const deno = denoCommand();
  const child = spawn(
    deno.command,
    [
      ...deno.args,
      ...["run", "-A", "--quiet", path.join(root, "tests/stack/support/gateway-host.ts")],
      ...[folder, String(port)],
    ],
    { cwd: root, env: { ...process.env, NO_COLOR: "1" }, stdio: "pipe" },
  );
  // Not "exit", which may come before its last words.
  const closed = new Promise((resolve) => child.once("close", resolve));
  let printed = "";
  child.stderr.on("data", (chunk) => printed += chunk);
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const nextLine = async () => {
    const { value, done } = await lines.next();
    if (done) throw new Error(`The gateway ended:\n${printed}`);
    return JSON.parse(value);
  };
  const { keys } = await nextLine();
  return {
    url: `http://127.0.0.1:${port}`,
    keys,
    log: () => printed,
    pids: () => {
      child.stdin.write("pids\n");
      return nextLine();
    },
    save,
    child,
    stop: async () => {
      child.stdin.end();
      await closed;
      await rm(folder, { recursive: true, force: true });
    },
  };
}
