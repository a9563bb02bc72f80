import type { Sql } from "postgres";
import type { TokenVerifier } from "../keys.ts";
import type { Log } from "../log.ts";
import type { Catalog } from "./catalog.ts";
import type { Connections } from "./connections.ts";
import type { Channel } from "./channel.ts";
import type { Hub } from "./hub.ts";
import type { Ledger } from "./ledger.ts";
import type { Rate } from "./rate.ts";
import type { Registry } from "./subscriptions.ts";

/** What the parts of Realtime share. */
export interface Context {
  sql: Sql;
  verifyToken: TokenVerifier;
  log: Log;
  limits: RealtimeLimits;
  hub: Hub;
  registry: Registry;
  ledger: Ledger;
  catalog: Catalog;
  connections: Connections;
  /** Joined channels, which hear when the database is followed again. */
  channels: Set<Channel>;
  /** Shared by all clients. */
  presenceRate: Rate;
  /** Whether changes of the database arrive. */
  following(): boolean;
}

export interface RealtimeLimits {
  /** One frame of a client. */
  frameBytes: number;
  /** One broadcast's payload. */
  payloadBytes: number;
  channelsPerClient: number;
  joinsPerSecond: number;
  /** Messages of one client besides heartbeats. */
  messagesPerSecond: number;
  /** Of all clients: joins that ask for presence, and changes of it. */
  presencesPerSecond: number;
  /** Changes of its presence that one channel may make in a window. */
  presencesPerWindow: number;
  presenceWindowMs: number;
  /** What may wait for a client that reads too slowly. */
  bufferedBytes: number;
  /** A client sends a heartbeat every 25 s. */
  idleMs: number;
}

/** The platform's figures where it has them. */
export const DEFAULT_LIMITS: RealtimeLimits = {
  frameBytes: 5_000_000,
  payloadBytes: 3_000_500,
  channelsPerClient: 100,
  joinsPerSecond: 100,
  messagesPerSecond: 1_000,
  presencesPerSecond: 1_000,
  presencesPerWindow: 5,
  presenceWindowMs: 30_000,
  bufferedBytes: 8 * 1024 * 1024,
  idleMs: 60_000,
};
