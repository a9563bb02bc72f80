import type { Sql } from "postgres";

/** What an installation can tune; rows of `public.settings`, read again at each run. */
export interface WorkerSettings {
  /** Operations one worker carries out at a time. */
  concurrency: number;
  /** How long a claimed operation belongs to a worker that shows no sign of life. */
  leaseSeconds: number;
  /** How often in a row an operation may have ended its worker before it is given up. */
  maxLosses: number;
  /** Time an operation may wait for containers to become ready. */
  deadlineSeconds: number;
  /** How long a call that was cut off may still be at work upstream before it is made again. */
  settleSeconds: number;
  /** The same before a removal is believed: what appears after that would be nobody's. */
  removalSettleSeconds: number;
  /** How long after its start a container may be unhealthy before the rollout counts as failed. */
  unhealthySeconds: number;
  /** Deployments one worker watches at the same moment, and at most so many of one cluster. */
  collections: number;
  collectionsPerCluster: number;
  /** Seconds between two looks at the containers of a deployment, and two reads of its logs. */
  stateSeconds: number;
  logsSeconds: number;
  /** Longest time one look at a deployment (state, logs, metrics together) may take. */
  collectionTimeoutSeconds: number;
  /** Upper bound of what one look reads of the logs of a deployment. */
  logReadBytes: number;
  /** Deployments whose logs may be caught up with at the same moment, page by page, and how large a page is. */
  logCatchUps: number;
  logPageBytes: number;
  /** After so many bytes a deployment that is still behind makes room for another. */
  logCatchUpBytes: number;
  /** How far collection may fall behind an agent's output before it skips to the present. */
  logLagSeconds: number;
}

const DEFAULTS: WorkerSettings = {
  concurrency: 8,
  leaseSeconds: 15,
  maxLosses: 8,
  deadlineSeconds: 900,
  settleSeconds: 10,
  removalSettleSeconds: 60,
  unhealthySeconds: 90,
  collections: 32,
  collectionsPerCluster: 8,
  stateSeconds: 2,
  logsSeconds: 1,
  collectionTimeoutSeconds: 15,
  logReadBytes: 262_144,
  logCatchUps: 2,
  logPageBytes: 4_194_304,
  logCatchUpBytes: 16_777_216,
  logLagSeconds: 20,
};

const ROWS: Record<keyof WorkerSettings, [category: string, key: string]> = {
  concurrency: ["operations", "concurrency"],
  leaseSeconds: ["operations", "lease_seconds"],
  maxLosses: ["operations", "max_losses"],
  deadlineSeconds: ["operations", "deadline_seconds"],
  settleSeconds: ["operations", "settle_seconds"],
  removalSettleSeconds: ["operations", "removal_settle_seconds"],
  unhealthySeconds: ["operations", "unhealthy_seconds"],
  collections: ["collection", "concurrency"],
  collectionsPerCluster: ["collection", "concurrency_per_cluster"],
  stateSeconds: ["collection", "state_seconds"],
  logsSeconds: ["collection", "logs_seconds"],
  collectionTimeoutSeconds: ["collection", "timeout_seconds"],
  logReadBytes: ["collection", "log_read_bytes"],
  logCatchUps: ["collection", "log_catch_ups"],
  logPageBytes: ["collection", "log_page_bytes"],
  logCatchUpBytes: ["collection", "log_catch_up_bytes"],
  logLagSeconds: ["collection", "log_lag_seconds"],
};

/**
 * Reads the settings; what has no row, or no positive number in it, keeps its default. Zero `collections` is a worker that
 * watches nothing.
 */
export async function readSettings(sql: Sql): Promise<WorkerSettings> {
  const rows = await sql<{ category: string; key: string; value: unknown }[]>`
    select category, key, value from public.settings where category in ('operations', 'collection')
  `;
  const settings = { ...DEFAULTS };
  for (const name of Object.keys(ROWS) as (keyof WorkerSettings)[]) {
    const [category, key] = ROWS[name];
    const value = rows.find((row) => row.category === category && row.key === key)?.value;
    if (typeof value !== "number" || !Number.isFinite(value)) continue;
    if (value > 0 || (value === 0 && name === "collections")) settings[name] = value;
  }
  return settings;
}
