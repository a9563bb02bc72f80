import type { StorageContext } from "./context.ts";
import { databaseRefusal, StorageError } from "./errors.ts";
import type { FileRef } from "./files.ts";

/**
 * Takes away files that no row names any more. What cannot be taken away now is at the next start; the
 * request is done all the same.
 */
export async function removeFiles(
  { files, log }: StorageContext,
  refs: FileRef[],
): Promise<void> {
  try {
    await files.remove(refs);
  } catch (error) {
    log.warn(`files could not be removed: ${(error as Error).message}`);
  }
}

/**
 * Takes away a file whose row was not to be. When the connection broke nobody knows whether the row
 * stands: then the file stays, and the next start takes it away if no row names it.
 */
export async function removeUnlessRecorded(
  context: StorageContext,
  ref: FileRef,
  error: unknown,
): Promise<void> {
  const refused = error instanceof StorageError || databaseRefusal(error) !== null;
  if (refused) await removeFiles(context, [ref]);
}
