import type { StorageContext } from "./context.ts";
import { alreadyExists, diskFull, invalidHeader, invalidRequest, tooLarge } from "./errors.ts";
import { type FileRef, TooManyBytes } from "./files.ts";
import { MalformedForm, readForm } from "./multipart.ts";
import { checkBucketName, checkObjectName, isFolderPlaceholder, requireMimeType } from "./names.ts";
import { removeFiles, removeUnlessRecorded } from "./removal.ts";
import { parseObject, type StorageRequest, userMetadataOf } from "./request.ts";
import {
  type FileMetadata,
  findBucket,
  insertObject,
  lockName,
  lookUpObject,
  type ObjectRow,
  upsertObject,
} from "./rows.ts";

/** Where a file goes and how. */
export interface Destination {
  bucket: string;
  name: string;
  owner: string | null;
  upsert: boolean;
  /** By a signed URL: the policies were asked when it was signed. */
  permitted: boolean;
}

/** A file on its way. */
interface Incoming {
  chunks: AsyncIterable<Uint8Array>;
  mimeType: string;
  cacheControl: string;
  userMetadata: Record<string, unknown> | null;
}

const MOST_METADATA_BYTES = 1 << 20;

/** `POST /object/:bucket/*` */
export async function createObject(
  context: StorageContext,
  request: StorageRequest,
): Promise<Response> {
  const upsert = request.headers.get("x-upsert") === "true";
  return await uploadByCaller(context, request, upsert);
}

/** `PUT /object/:bucket/*` */
export async function updateObject(
  context: StorageContext,
  request: StorageRequest,
): Promise<Response> {
  return await uploadByCaller(context, request, true);
}

async function uploadByCaller(
  context: StorageContext,
  request: StorageRequest,
  upsert: boolean,
): Promise<Response> {
  const [bucket, name] = request.params as [string, string];
  const owner = request.scope.caller.claims.sub ?? null;
  const { id } = await upload(context, request, { bucket, name, owner, upsert, permitted: false });
  return Response.json({ Id: id, Key: `${bucket}/${name}` });
}

/** `PUT /object/upload/sign/:bucket/*?token=` */
export async function uploadBySignedUrl(
  context: StorageContext,
  request: StorageRequest,
): Promise<Response> {
  const [bucket, name] = request.params as [string, string];
  checkBucketName(bucket);
  const claims = await context.signer.verify(
    request.url.searchParams.get("token") ?? "",
    "upload",
    `${bucket}/${name}`,
  );
  await upload(context, request, {
    bucket,
    name,
    owner: claims.owner ?? null,
    upsert: claims.upsert === true,
    permitted: true,
  });
  return Response.json({ Key: `${bucket}/${name}` });
}

/**
 * Whether the caller may put an object there: policies for insert, and for `upsert` those for select
 * and update too.
 */
export async function askPermission(
  request: StorageRequest,
  { bucket, name, owner, upsert }: Omit<Destination, "permitted">,
  metadata: object,
  userMetadata: object | null,
): Promise<void> {
  const state = { owner, version: "1", metadata, user_metadata: userMetadata };
  try {
    await request.db.tryAsCaller(async (t) => {
      if (upsert) await upsertObject(t, bucket, name, state);
      else await insertObject(t, bucket, name, state);
    });
  } catch (error) {
    if ((error as { code?: string }).code === "23505") {
      throw alreadyExists("KeyAlreadyExists", error);
    }
    throw error;
  }
}

async function upload(
  context: StorageContext,
  request: StorageRequest,
  destination: Destination,
): Promise<ObjectRow> {
  const { bucket, name } = destination;
  checkBucketName(bucket);
  checkObjectName(name);
  const rules = await request.db.asService((t) => findBucket(t, bucket));
  const placeholder = isFolderPlaceholder(name);
  const mostBytes = placeholder
    ? 0
    : Math.min(context.fileSizeLimit, rules.file_size_limit ?? Infinity);
  const allowed = placeholder ? [] : rules.allowed_mime_types ?? [];
  const { incoming, declaredSize } = await incomingFile(request, mostBytes, allowed);
  if (!destination.permitted) {
    await askPermission(
      request,
      destination,
      { mimetype: incoming.mimeType, contentLength: declaredSize },
      incoming.userMetadata,
    );
  }
  return await store(context, request, destination, incoming, mostBytes);
}

/** Bytes first, then the row: a process that dies in between leaves a file that the next start takes away. */
async function store(
  context: StorageContext,
  request: StorageRequest,
  destination: Destination,
  incoming: Incoming,
  mostBytes: number,
): Promise<ObjectRow> {
  const { files } = context;
  const { bucket, name, owner, upsert } = destination;
  const ref: FileRef = { bucket, name, version: crypto.randomUUID() };
  let metadata: FileMetadata;
  try {
    const draft = await files.receive(incoming.chunks, mostBytes);
    metadata = {
      eTag: draft.eTag,
      size: draft.size,
      mimetype: incoming.mimeType,
      cacheControl: incoming.cacheControl,
      lastModified: new Date().toISOString(),
      contentLength: draft.size,
      httpStatusCode: 200,
      ...robots(request.headers),
    };
    await files.keep(draft, ref);
  } catch (error) {
    throw refusalOf(error);
  }
  let former: ObjectRow | null;
  let object: ObjectRow;
  try {
    [former, object] = await request.db.asService(async (t) => {
      await lockName(t, bucket, name);
      const former = await lookUpObject(t, bucket, name, true);
      // Two at once that both found the name free: the second is late.
      if (former !== null && !upsert) throw alreadyExists("KeyAlreadyExists");
      const user_metadata = incoming.userMetadata ?? {};
      const state = { owner, version: ref.version!, metadata, user_metadata };
      return [former, await upsertObject(t, bucket, name, state)] as const;
    });
  } catch (error) {
    await removeUnlessRecorded(context, ref, error);
    throw error;
  }
  if (former !== null) await removeFiles(context, [{ bucket, name, version: former.version }]);
  return object;
}

/** What a failure to take in a file means to its sender; other errors are themselves. */
export function refusalOf(error: unknown): unknown {
  if (error instanceof TooManyBytes) return tooLarge();
  if (error instanceof MalformedForm) return invalidRequest(error.message);
  const { code } = error as { code?: string };
  return code === "ENOSPC" || code === "EDQUOT" || code === "EFBIG" ? diskFull(error) : error;
}

async function incomingFile(
  request: StorageRequest,
  mostBytes: number,
  allowed: string[],
): Promise<{ incoming: Incoming; declaredSize: number | null }> {
  const { headers } = request;
  const type = headers.get("content-type") ?? "application/octet-stream";
  const length = headers.get("content-length");
  const declaredSize = length === null ? null : Number(length);
  let incoming: Incoming;
  if (type.startsWith("multipart/form-data")) {
    incoming = await fromForm(request.body, type);
  } else {
    if (declaredSize !== null && declaredSize > mostBytes) throw tooLarge();
    incoming = {
      chunks: request.body,
      mimeType: type,
      cacheControl: headers.get("cache-control") ?? "no-cache",
      userMetadata: userMetadataOf(headers.get("x-metadata")),
    };
  }
  checkHeaderValue("content-type", incoming.mimeType);
  checkHeaderValue("cache-control", incoming.cacheControl);
  if (allowed.length > 0) requireMimeType(incoming.mimeType, allowed);
  return { incoming, declaredSize };
}

async function fromForm(body: AsyncIterable<Uint8Array>, type: string): Promise<Incoming> {
  let form: Awaited<ReturnType<typeof readForm>>;
  try {
    form = await readForm(body, type);
  } catch (error) {
    throw refusalOf(error);
  }
  if (form === null) throw invalidRequest("No content provided");
  const { fields } = form;
  const seconds = fields.get("cacheControl");
  const metadata = fields.get("metadata") ?? fields.get("userMetadata");
  if (metadata !== undefined && metadata.length > MOST_METADATA_BYTES) {
    throw tooLarge("user_metadata");
  }
  return {
    chunks: form.chunks,
    mimeType: fields.get("contentType") ?? form.contentType,
    cacheControl: seconds ? `max-age=${seconds}` : "no-cache",
    userMetadata: metadata === undefined ? null : parseObject(metadata),
  };
}

/** A form may hold any text where a header cannot; downloads would fail over it. */
function checkHeaderValue(name: string, value: string): void {
  if (!/^[\t\x20-\x7e\x80-\xff]*$/.test(value)) throw invalidHeader(name);
}

function robots(headers: Headers): { xRobotsTag?: string } {
  const tag = headers.get("x-robots-tag");
  return tag === null ? {} : { xRobotsTag: tag };
}
