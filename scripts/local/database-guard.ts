import { join } from "node:path";
import { locateFiles } from "./postgres-files.ts";

/**
 * Ends the database server when this process dies without a chance to do so (`kill -9`). A shell
 * waits for the end of its standard input, which only the death of this process brings about, and
 * then asks the server for a fast shutdown, the one that keeps every committed row.
 *
 * @returns call it before an ordinary stop
 */
export async function guardDatabase(stateDir: string): Promise<() => Promise<void>> {
  const { data } = await locateFiles(stateDir);
  const guard = new Deno.Command("/bin/sh", {
    args: [
      "-c",
      'read -r _ || kill -INT "$(head -n 1 "$1")"',
      "launchpad-database-guard",
      join(data, "postmaster.pid"),
    ],
    cwd: "/",
    clearEnv: true,
    env: { PATH: "/usr/bin:/bin" },
    stdin: "piped",
    stdout: "null",
    stderr: "null",
    detached: true,
  }).spawn();
  const input = guard.stdin.getWriter();
  return async () => {
    await input.write(new TextEncoder().encode("stop\n")).catch(() => {});
    await guard.status;
    await input.close().catch(() => {});
  };
}
