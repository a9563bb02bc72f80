import { statfs } from "node:fs/promises";
import { join } from "node:path";
import { existsSync } from "node:fs";
import { PORT_VARIABLES, type StackConfig, type StackPorts } from "./config.ts";
import { StackError } from "./errors.ts";

/** A new database with its write-ahead log. */
const FIRST_START_BYTES = 250 * 1024 * 1024;
/** What Postgres needs to come up and checkpoint. */
const LATER_START_BYTES = 64 * 1024 * 1024;

/**
 * Looks before the start at what would otherwise fail half way through it.
 *
 * @throws {StackError} for a busy port or too little disk space
 */
export async function checkMachine(config: StackConfig): Promise<void> {
  for (const name of Object.keys(config.ports) as (keyof StackPorts)[]) {
    assertPortFree(config, name);
  }
  await assertDiskSpace(config.stateDir);
}

function assertPortFree(config: StackConfig, name: keyof StackPorts): void {
  const port = config.ports[name];
  try {
    Deno.listen({ hostname: config.host, port }).close();
  } catch (error) {
    // A database left behind by a killed stack may hold its own port; starting stops it first.
    if (name === "db") return;
    const instead = `${PORT_VARIABLES[name]}=${port + 100} npm start`;
    if (error instanceof Deno.errors.AddrInUse) {
      throw new StackError(
        `Port ${port} (${name}) is in use by another program.`,
        `Stop that program, or choose another port: ${instead}`,
      );
    }
    if (error instanceof Deno.errors.PermissionDenied) {
      throw new StackError(
        `Port ${port} (${name}) needs privileges that this user has not.`,
        `Choose a port above 1023: ${instead}`,
      );
    }
    throw error;
  }
}

async function assertDiskSpace(stateDir: string): Promise<void> {
  const { bavail, bsize } = await statfs(stateDir);
  const free = bavail * bsize;
  const needed = existsSync(join(stateDir, "keys.json")) ? LATER_START_BYTES : FIRST_START_BYTES;
  if (free >= needed) return;
  const megabytes = (bytes: number) => Math.floor(bytes / 1024 / 1024);
  throw new StackError(
    `The disk that holds ${stateDir} is full: ${megabytes(free)} MB are free.`,
    `Free at least ${megabytes(needed)} MB, or name another place: ` +
      "LAUNCHPAD_STATE_DIR=/some/where npm start",
  );
}
