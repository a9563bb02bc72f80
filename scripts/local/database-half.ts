import { readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import type { StackConfig } from "./config.ts";
import type { ProcessStatus } from "./control.ts";
import { guardDatabase } from "./database-guard.ts";
import { startDatabase } from "./database.ts";
import { StackError } from "./errors.ts";
import type { SendMail } from "./inbox.ts";
import type { StackKeys } from "./keys.ts";
import type { Log } from "./log.ts";
import { locateFiles } from "./postgres-files.ts";
import { type Postgres, removeDatabase } from "./postgres.ts";
import type { HttpService } from "./service.ts";
import { storageFolder } from "./storage.ts";
import { type DatabaseServices, startDatabaseServices } from "./services.ts";

/**
 * The part of the stack that a reset makes anew: the database and the services that live on it.
 * The gateway holds on to this object across resets.
 */
export class DatabaseHalf {
  private database: Postgres | null = null;
  private services: DatabaseServices | null = null;
  private releaseGuard: (() => Promise<void>) | null = null;
  private resetting = false;

  constructor(
    private readonly config: StackConfig,
    private readonly keys: StackKeys,
    private readonly sendMail: SendMail,
    private readonly log: Log,
  ) {}

  /** Starts the server and applies bootstrap and migrations. */
  async start(log: Log = this.log): Promise<void> {
    this.database = await startDatabase({ config: this.config, keys: this.keys, log });
    this.releaseGuard = await guardDatabase(this.config.stateDir);
  }

  async startServices(): Promise<void> {
    const { config, keys, sendMail, log } = this;
    const database = this.database!;
    this.services = await startDatabaseServices({ config, keys, database, sendMail, log });
  }

  /** A service by name, whichever object stands for it at present. */
  service(name: "rest" | "auth" | "storage" | "realtime"): Pick<HttpService, "fetch"> {
    return {
      fetch: (request) => this.services?.[name].fetch(request) ?? Promise.resolve(notNow()),
    };
  }

  /**
   * Deletes the database and makes it anew from bootstrap, migrations and seed.
   *
   * @param progress gets one line per step
   * @throws {StackError} when a reset is under way, or a migration fails; the old data are gone then
   */
  async reset(progress: (line: string) => void): Promise<void> {
    if (this.resetting) {
      throw new StackError("A reset is under way already.", "Wait until it is through.");
    }
    this.resetting = true;
    const served = this.services !== null;
    try {
      progress("Stopping the services");
      await this.stop();
      progress("Deleting the database and the files of buckets");
      await removeDatabase(this.config.stateDir, this.log);
      await rm(storageFolder(this.config.stateDir), { recursive: true, force: true });
      progress("Making it anew");
      await this.start({ ...this.log, info: progress });
      if (!served) return;
      progress("Starting the services");
      await this.startServices();
    } finally {
      this.resetting = false;
    }
  }

  async stop(): Promise<void> {
    await this.services?.close();
    this.services = null;
    await this.releaseGuard?.();
    this.releaseGuard = null;
    await this.database?.stop();
    this.database = null;
  }

  async status(): Promise<ProcessStatus> {
    const { data } = await locateFiles(this.config.stateDir);
    const text = await readFile(join(data, "postmaster.pid"), "utf8").catch(() => "");
    const pid = Number(text.split("\n")[0]) || null;
    return { name: "postgres", pid, state: pid === null ? "stopped" : "ready" };
  }
}

function notNow(): Response {
  return Response.json(
    { message: "The database is being made ready" },
    { status: 503, headers: { "Retry-After": "1" } },
  );
}
