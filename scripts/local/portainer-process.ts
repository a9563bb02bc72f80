import { rm } from "node:fs/promises";
import { join } from "node:path";
import type { StackConfig } from "./config.ts";
import type { StackKeys } from "./keys.ts";
import type { Log } from "./log.ts";
import { superviseChild, type SupervisedChild } from "./supervisor.ts";

/**
 * Runs the local Portainer in a process of its own: its containers are its children, and their
 * load must not slow the gateway.
 */
export function startPortainer(config: StackConfig, keys: StackKeys, log: Log): SupervisedChild {
  return superviseChild({
    name: "portainer",
    command: Deno.execPath(),
    args: [
      "run",
      "--allow-all",
      "--quiet",
      "--no-prompt",
      "--cached-only",
      join(import.meta.dirname!, "portainer.ts"),
    ],
    cwd: config.root,
    env: {
      ...Deno.env.toObject(),
      PORTAINER_PORT: String(config.ports.portainer),
      PORTAINER_API_KEY: keys.portainerApiKey,
      PORTAINER_STATE_DIR: stateDir(config),
    },
    log: log.child("portainer"),
    readyMark: "portainer: listening on ",
    endsWithInput: true,
  });
}

/** Ends all its containers and forgets its stacks: their agents are gone with the database. */
export async function resetPortainer(config: StackConfig, child?: SupervisedChild): Promise<void> {
  await child?.stop();
  await rm(stateDir(config), { recursive: true, force: true });
  await child?.restart();
}

function stateDir(config: StackConfig): string {
  return join(config.stateDir, "portainer");
}
