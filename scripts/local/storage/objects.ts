import { z } from "zod";
import type { StorageContext } from "./context.ts";
import { enter } from "./database.ts";
import { accessDenied, alreadyExists, invalidRequest, missingFile } from "./errors.ts";
import type { FileRef } from "./files.ts";
import { checkBucketName, checkObjectName } from "./names.ts";
import { removeFiles, removeUnlessRecorded } from "./removal.ts";
import { readJson, type StorageRequest, userMetadataOf } from "./request.ts";
import {
  findObject,
  lockName,
  lookUpObject,
  type ObjectRow,
  ownerColumns,
  upsertObject,
} from "./rows.ts";
import { askPermission } from "./upload.ts";

const relocation = z.object({
  bucketId: z.string(),
  sourceKey: z.string(),
  destinationBucket: z.string().nullish(),
  destinationKey: z.string(),
});
const copying = relocation.extend({
  copyMetadata: z.boolean().optional(),
  metadata: z.object({ cacheControl: z.string(), mimetype: z.string() }).partial().optional(),
});
const removal = z.object({ prefixes: z.array(z.string()).min(1) });

const MOST_NAMES = 1000;

/** `DELETE /object/:bucket/*` */
export async function deleteObject(
  context: StorageContext,
  request: StorageRequest,
): Promise<Response> {
  const [bucket, name] = request.params as [string, string];
  checkBucketName(bucket);
  const { version } = await request.db.asService(async (t) => {
    const object = await findObject(t, bucket, name, true);
    await enter(t, request.scope, request.scope.caller);
    const [gone] = await t`
      delete from storage.objects where bucket_id = ${bucket} and name = ${name} returning id`;
    if (gone === undefined) throw accessDenied();
    return object;
  });
  await removeFiles(context, [{ bucket, name, version }]);
  return Response.json({ message: "Successfully deleted" });
}

/** `DELETE /object/:bucket`: those of the list that the caller may delete, and the rest as if they were not there. */
export async function deleteObjects(
  context: StorageContext,
  request: StorageRequest,
): Promise<Response> {
  const bucket = request.params[0]!;
  const { prefixes: names } = await readJson(request, removal);
  checkBucketName(bucket);
  if (names.length > MOST_NAMES) {
    throw invalidRequest(`Bulk object requests are limited to ${MOST_NAMES} objects per request.`);
  }
  const rows = await request.db.asCaller((t) =>
    t<ObjectRow[]>`
      delete from storage.objects where bucket_id = ${bucket} and name = any (${names}) returning *`
  );
  await removeFiles(context, rows.map(({ name, version }) => ({ bucket, name, version })));
  return Response.json(rows.map(present));
}

/** `POST /object/move` */
export async function moveObject(
  context: StorageContext,
  request: StorageRequest,
): Promise<Response> {
  const body = await readJson(request, relocation);
  const { from, to } = placesOf(body);
  const owner = request.scope.caller.claims.sub ?? null;
  const changes = {
    name: to.name,
    bucket_id: to.bucket,
    version: crypto.randomUUID() as string,
    ...(owner !== null && ownerColumns(owner)),
  };
  const source = await request.db.tryAsCaller(async (t) => {
    const source = await findObject(t, from.bucket, from.name);
    const [moved] = await t`
      update storage.objects set ${t(changes)}
      where bucket_id = ${from.bucket} and name = ${from.name} returning id`;
    if (moved === undefined) throw accessDenied();
    return source;
  });
  if (from.bucket === to.bucket && from.name === to.name) {
    return Response.json({ message: "Successfully moved", Id: source.id });
  }
  const target: FileRef = { ...to, version: changes.version };
  try {
    const left = await request.db.asService(async (t) => {
      await lockName(t, to.bucket, to.name);
      // What it is now counts: it may have been written to since the policies were asked.
      const latest = await findObject(t, from.bucket, from.name, true);
      if (!await context.files.share({ ...from, version: latest.version }, target)) {
        throw missingFile();
      }
      await t`
        update storage.objects set ${t(changes)}
        where bucket_id = ${from.bucket} and name = ${from.name}`;
      return latest.version;
    });
    await removeFiles(context, [{ ...from, version: left }]);
  } catch (error) {
    await removeUnlessRecorded(context, target, error);
    throw error;
  }
  return Response.json({ message: "Successfully moved", Id: source.id, Key: to.name });
}

/** `POST /object/copy` */
export async function copyObject(
  context: StorageContext,
  request: StorageRequest,
): Promise<Response> {
  const body = await readJson(request, copying);
  const { from, to } = placesOf(body);
  const owner = request.scope.caller.claims.sub ?? null;
  const upsert = request.headers.get("x-upsert") === "true";
  const source = await request.db.asCaller((t) => findObject(t, from.bucket, from.name));
  const asIs = body.copyMetadata ?? true;
  const metadata = { ...source.metadata, ...(!asIs && body.metadata) };
  const userMetadata = asIs
    ? source.user_metadata
    : userMetadataOf(request.headers.get("x-metadata"));
  await askPermission(request, { ...to, owner, upsert }, metadata, userMetadata);

  const target: FileRef = { ...to, version: crypto.randomUUID() };
  try {
    if (!await context.files.share({ ...from, version: source.version }, target)) {
      throw missingFile();
    }
    const [former, object] = await request.db.asService(async (t) => {
      await lockName(t, to.bucket, to.name);
      const former = await lookUpObject(t, to.bucket, to.name, true);
      if (former !== null && !upsert) throw alreadyExists("KeyAlreadyExists");
      const state = {
        owner,
        version: target.version!,
        metadata: { ...metadata, lastModified: new Date().toISOString() },
        user_metadata: userMetadata,
      };
      return [former, await upsertObject(t, to.bucket, to.name, state)] as const;
    });
    if (former !== null) await removeFiles(context, [{ ...to, version: former.version }]);
    const Key = `${to.bucket}/${to.name}`;
    return Response.json({ Id: object.id, Key, ...present(object) });
  } catch (error) {
    await removeUnlessRecorded(context, target, error);
    throw error;
  }
}

type Place = Omit<FileRef, "version">;

function placesOf(body: z.infer<typeof relocation>): { from: Place; to: Place } {
  const from = { bucket: body.bucketId, name: body.sourceKey };
  const to = { bucket: body.destinationBucket || body.bucketId, name: body.destinationKey };
  checkBucketName(from.bucket);
  checkBucketName(to.bucket);
  checkObjectName(to.name);
  return { from, to };
}

/** A row as answers show it. */
export function present(row: ObjectRow): Record<string, unknown> {
  return {
    name: row.name,
    bucket_id: row.bucket_id,
    owner: row.owner ?? "",
    owner_id: row.owner_id ?? "",
    version: row.version ?? "",
    id: row.id,
    updated_at: row.updated_at,
    created_at: row.created_at,
    last_accessed_at: row.last_accessed_at,
    metadata: row.metadata,
    user_metadata: row.user_metadata,
  };
}
