import { existsSync } from "node:fs";
import { join } from "node:path";
import type { StackConfig } from "./config.ts";
import type { Log } from "./log.ts";
import { superviseChild, type SupervisedChild } from "./supervisor.ts";

/**
 * Runs the local Portainer in a process of its own: its containers are its children, and their
 * load must not slow the gateway. It reads port, state directory and access token as we do.
 */
export function startPortainer(config: StackConfig, log: Log): SupervisedChild | null {
  const entrypoint = join(import.meta.dirname!, "portainer.ts");
  if (!existsSync(entrypoint)) return null;
  return superviseChild({
    name: "portainer",
    command: Deno.execPath(),
    args: ["run", "-A", "--quiet", "--no-prompt", entrypoint],
    cwd: config.root,
    env: {
      ...Deno.env.toObject(),
      LAUNCHPAD_STATE_DIR: config.stateDir,
      LAUNCHPAD_PORTAINER_PORT: String(config.ports.portainer),
    },
    log: log.child("portainer"),
  });
}
