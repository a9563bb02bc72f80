import type postgres from "postgres";
import type { TokenVerifier } from "../keys.ts";
import type { Log } from "../log.ts";
import type { FileStore } from "./files.ts";
import type { UrlSigner } from "./signing.ts";

/** What every endpoint works with. */
export interface StorageContext {
  /** A pool of connections as `supabase_storage_admin`, which may become the API roles. */
  sql: postgres.Sql;
  files: FileStore;
  verifyToken: TokenVerifier;
  signer: UrlSigner;
  /** Most bytes of one file, whatever its bucket says. */
  fileSizeLimit: number;
  log: Log;
}
