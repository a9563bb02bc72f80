/** A migrated database that exists for one purpose only: types, advisors, figures. */
import * as fs from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { freePorts } from "./free-ports.ts";
import { guardDatabase } from "./local/database-guard.ts";
import { startDatabase } from "./local/database.ts";
import { createLog } from "./local/log.ts";
import { removeDatabase } from "./local/postgres.ts";

/**
 * Runs `use` with the URL of a database (role postgres) that has the bootstrap and all migrations,
 * on a free port and in a folder of its own, and removes it afterwards. The server ends with this
 * process, however that ends.
 */
export async function withThrowAwayDatabase<T>(
  use: (url: string, superuserUrl: string) => Promise<T>,
  settings: Record<string, string> = { fsync: "off" },
): Promise<T> {
  const stateDir = await fs.mkdtemp(path.join(tmpdir(), "agent-launchpad-"));
  const log = createLog("warn", (line) => console.error(line));
  const [db] = await freePorts(1);
  try {
    const server = await startDatabase({
      config: { stateDir, host: "127.0.0.1", ports: { db: db! } },
      keys: { databasePassword: "postgres" },
      log,
      settings,
    });
    const release = await guardDatabase(stateDir);
    try {
      return await use(server.url("postgres"), server.url("supabase_admin"));
    } finally {
      await release();
      await server.stop();
    }
  } finally {
    await removeDatabase(stateDir, log);
    await fs.rm(stateDir, { recursive: true, force: true });
  }
}
