import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { denoCommand } from "../../support/deno.ts";
import type { TestRealtime } from "./realtime.ts";

/** A client in a process of its own that joins a topic and tracks itself, to be killed. */
export function spawnClient(
  { url, anonKey }: TestRealtime,
  token: string,
  topic: string,
  name: string,
): { ready: Promise<void>; kill(): void } {
  const deno = denoCommand();
  const script = fileURLToPath(new URL("./present-client.ts", import.meta.url));
  const child = spawn(
    deno.command,
    [...deno.args, "run", "-A", "--quiet", script, url, anonKey, token, topic, name],
    { stdio: ["ignore", "pipe", "inherit"] },
  );
  return {
    ready: new Promise((resolve) => child.stdout.once("data", () => resolve())),
    kill: () => void child.kill("SIGKILL"),
  };
}
