import { join } from "node:path";
import type postgres from "postgres";
import { describeError } from "./errors.ts";
import type { StackKeys, TokenVerifier } from "./keys.ts";
import type { Log } from "./log.ts";
import type { HttpService } from "./service.ts";
import { createFileStore, type FileRef } from "./storage/files.ts";
import { answer } from "./storage/routes.ts";
import { createUrlSigner } from "./storage/signing.ts";

export interface StorageOptions {
  /** A pool of connections as `supabase_storage_admin`; the caller ends it. */
  sql: postgres.Sql;
  keys: Pick<StackKeys, "signingKey">;
  verifyToken: TokenVerifier;
  /** The stack's; files are in its folder `storage`. */
  stateDir: string;
  /** Most bytes of one file. */
  fileSizeLimit: number;
  log: Log;
}

/**
 * `/storage/v1` of the local stack: Supabase Storage's wire format over the `storage` schema of
 * `bootstrap/storage.sql`. It sees paths without the prefix (`/object/avatars/cat.png`). Rows decide
 * what there is and policies who may; files are only bytes.
 *
 * What it does not have answers 501: image transformations, resumable (TUS) uploads, the S3 protocol,
 * analytics and vector buckets, the CDN. Emptying a bucket is done with the answer, not an hour later.
 */
export async function createStorage(options: StorageOptions): Promise<HttpService> {
  const { sql, keys, verifyToken, fileSizeLimit, log } = options;
  const files = await createFileStore(storageFolder(options.stateDir));
  const context = { sql, files, verifyToken, signer: createUrlSigner(keys), fileSizeLimit, log };
  const sweeping = files.sweep(() => storedFiles(sql))
    .then((taken) => {
      if (taken > 0) log.info(`took away ${taken} files that an interrupted process left`);
    })
    .catch((error) => log.warn(`files could not be swept: ${describeError(error)}`));
  return {
    fetch: (request) => answer(context, request),
    close: () => sweeping,
  };
}

/** Where a stack keeps the files of its buckets. */
export function storageFolder(stateDir: string): string {
  return join(stateDir, "storage");
}

async function* storedFiles(sql: postgres.Sql): AsyncGenerator<FileRef> {
  const pages = sql<FileRef[]>`
    select bucket_id as bucket, name, version from storage.objects where version is not null`
    .cursor(1000);
  for await (const rows of pages) yield* rows;
}
