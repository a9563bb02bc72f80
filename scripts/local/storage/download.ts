import type { FileHandle } from "node:fs/promises";
import type { StorageContext } from "./context.ts";
import type { Transaction } from "./database.ts";
import { invalidHeader, invalidRange, missingFile, noSuchBucket, noSuchKey } from "./errors.ts";
import { checkBucketName, checkObjectName } from "./names.ts";
import type { StorageRequest } from "./request.ts";
import { findBucket, findObject, type ObjectRow } from "./rows.ts";

/** Which part of a file is asked for; both ends belong to it. */
export interface ByteRange {
  first: number;
  last: number;
}

const CHUNK_BYTES = 64 * 1024;

/** `GET /object/:bucket/*`, `GET /object/authenticated/:bucket/*` */
export async function download(
  context: StorageContext,
  request: StorageRequest,
): Promise<Response> {
  return await sendFile(context, request, () => readable(request));
}

/** `GET /object/public/:bucket/*` */
export async function downloadPublic(
  context: StorageContext,
  request: StorageRequest,
): Promise<Response> {
  return await sendFile(context, request, () => publicObject(request));
}

/** `GET /object/sign/:bucket/*?token=` */
export async function downloadBySignedUrl(
  context: StorageContext,
  request: StorageRequest,
): Promise<Response> {
  const [bucket, name] = request.params as [string, string];
  checkBucketName(bucket);
  const token = request.url.searchParams.get("token") ?? "";
  const { exp } = await context.signer.verify(token, "download", `${bucket}/${name}`);
  checkObjectName(name);
  return await sendFile(
    context,
    request,
    () => request.db.asService((t) => findObject(t, bucket, name)),
    new Date(exp * 1000),
  );
}

/** `HEAD /object/…` */
export async function head(_context: StorageContext, request: StorageRequest): Promise<Response> {
  return describe(request, await readable(request));
}

/** `HEAD /object/public/…` */
export async function headPublic(
  _context: StorageContext,
  request: StorageRequest,
): Promise<Response> {
  return describe(request, await publicObject(request));
}

/** `GET /object/info/…` */
export async function info(_context: StorageContext, request: StorageRequest): Promise<Response> {
  return showInfo(await readable(request));
}

/** `GET /object/info/public/…` */
export async function infoPublic(
  _context: StorageContext,
  request: StorageRequest,
): Promise<Response> {
  return showInfo(await publicObject(request));
}

/** In a public bucket everybody reads; else the policies decide. */
async function readable(request: StorageRequest): Promise<ObjectRow> {
  const [bucket, name] = request.params as [string, string];
  checkBucketName(bucket);
  checkObjectName(name);
  const find = (t: Transaction) => findObject(t, bucket, name);
  const { public: open } = await request.db.asService((t) => findBucket(t, bucket));
  if (open) return await request.db.asService(find);
  if (!request.scope.caller.authenticated) throw noSuchBucket();
  return await request.db.asCaller(find);
}

async function publicObject(request: StorageRequest): Promise<ObjectRow> {
  const [bucket, name] = request.params as [string, string];
  checkBucketName(bucket);
  checkObjectName(name);
  return await request.db.asService(async (t) => {
    const { public: open } = await findBucket(t, bucket);
    if (!open) throw noSuchBucket();
    return await findObject(t, bucket, name);
  });
}

/** @param expires of a signed URL: the answer may be kept until then and no longer */
async function sendFile(
  context: StorageContext,
  request: StorageRequest,
  find: () => Promise<ObjectRow>,
  expires?: Date,
): Promise<Response> {
  const [object, file] = await openLatest(context, find);
  try {
    const headers = headersOf(request, object, expires);
    if (isUnchanged(request.headers, object)) {
      await file.close();
      for (const name of ["content-length", "content-type"]) headers.delete(name);
      return new Response(null, { status: 304, headers });
    }
    const { size } = await file.stat();
    const range = wantedRange(request.headers, size, object);
    if (range !== null) {
      headers.set("content-range", `bytes ${range.first}-${range.last}/${size}`);
    }
    const { first, last } = range ?? { first: 0, last: size - 1 };
    headers.set("content-length", String(last - first + 1));
    if (request.method === "HEAD") await file.close();
    const body = request.method === "HEAD" ? null : streamOf(file, first, last + 1);
    return new Response(body, { status: range === null ? 200 : 206, headers });
  } catch (error) {
    await file.close();
    throw error;
  }
}

/** Between the row and its file somebody may have put another version there: then look again. */
async function openLatest(
  { files }: StorageContext,
  find: () => Promise<ObjectRow>,
): Promise<[ObjectRow, FileHandle]> {
  for (let attempt = 0; attempt < 3; attempt++) {
    const object = await find();
    const { bucket_id: bucket, name, version } = object;
    const file = await files.open({ bucket, name, version });
    if (file !== null) return [object, file];
  }
  throw missingFile();
}

function describe(request: StorageRequest, object: ObjectRow): Response {
  const headers = headersOf(request, object);
  const length = object.metadata?.contentLength ?? object.metadata?.size;
  if (length !== undefined) headers.set("content-length", String(length));
  return new Response(null, { headers });
}

function showInfo(object: ObjectRow): Response {
  const metadata = object.metadata ?? {};
  const body = {
    id: object.id,
    name: object.name,
    version: object.version,
    bucket_id: object.bucket_id,
    size: metadata.size ?? null,
    content_type: metadata.mimetype ?? null,
    cache_control: metadata.cacheControl ?? null,
    etag: metadata.eTag ?? null,
    metadata: object.user_metadata,
    last_modified: object.updated_at,
    created_at: object.created_at,
  };
  const headers = new Headers();
  if (metadata.eTag) setHeader(headers, "etag", metadata.eTag);
  if (metadata.cacheControl) setHeader(headers, "cache-control", metadata.cacheControl);
  setLastModified(headers, metadata.lastModified);
  return Response.json(body, { headers });
}

function headersOf(request: StorageRequest, object: ObjectRow, expires?: Date): Headers {
  const metadata = object.metadata ?? {};
  const type = metadata.mimetype ?? "application/octet-stream";
  const headers = new Headers({ "accept-ranges": "bytes" });
  // A page of a user's would run scripts under the address of the project.
  setHeader(headers, "content-type", type.includes("text/html") ? "text/plain" : type);
  setHeader(headers, "x-robots-tag", metadata.xRobotsTag ?? "none");
  if (metadata.eTag) setHeader(headers, "etag", metadata.eTag);
  setLastModified(headers, metadata.lastModified);
  if (expires) headers.set("expires", expires.toUTCString());
  else setHeader(headers, "cache-control", metadata.cacheControl ?? "no-cache");
  const name = request.url.searchParams.get("download");
  if (name !== null && request.method === "GET") {
    const encoded = encodeURIComponent(name);
    headers.set(
      "content-disposition",
      name === "" ? "attachment;" : `attachment; filename=${encoded}; filename*=UTF-8''${encoded}`,
    );
  }
  return headers;
}

/** Rows that SQL wrote hold what they like. */
function setHeader(headers: Headers, name: string, value: string): void {
  try {
    headers.set(name, value);
  } catch {
    throw invalidHeader(name);
  }
}

function setLastModified(headers: Headers, time: string | undefined): void {
  const date = new Date(time ?? "");
  if (!Number.isNaN(date.getTime())) headers.set("last-modified", date.toUTCString());
}

function isUnchanged(headers: Headers, { metadata }: ObjectRow): boolean {
  const tags = headers.get("if-none-match");
  if (tags !== null) {
    return tags.trim() === "*" ||
      tags.split(",").some((tag) => tag.trim().replace(/^W\//, "") === metadata?.eTag);
  }
  const since = Date.parse(headers.get("if-modified-since") ?? "");
  const modified = Date.parse(metadata?.lastModified ?? "");
  // HTTP knows whole seconds.
  return Math.floor(modified / 1000) * 1000 <= since;
}

function wantedRange(headers: Headers, size: number, { metadata }: ObjectRow): ByteRange | null {
  const range = headers.get("range");
  if (range === null) return null;
  // A client that holds the beginning of an older version wants all of the new one.
  const condition = headers.get("if-range");
  if (condition !== null && condition !== metadata?.eTag) return null;
  return parseRange(range, size);
}

/** @throws {StorageError} `InvalidRange` */
export function parseRange(range: string, size: number): ByteRange {
  const [, from, to] = /^bytes=(\d*)-(\d*)$/.exec(range) ?? [];
  if (from === undefined || to === undefined || (from === "" && to === "")) throw invalidRange();
  if (from === "") {
    const count = Number(to);
    if (count === 0 || size === 0) throw invalidRange();
    return { first: Math.max(size - count, 0), last: size - 1 };
  }
  const first = Number(from);
  const last = to === "" ? size - 1 : Math.min(Number(to), size - 1);
  if (first >= size || last < first) throw invalidRange();
  return { first, last };
}

function streamOf(file: FileHandle, from: number, to: number): ReadableStream<Uint8Array> {
  let at = from;
  return new ReadableStream({
    async pull(controller) {
      try {
        const wanted = Math.min(CHUNK_BYTES, to - at);
        const { bytesRead, buffer } = wanted > 0
          ? await file.read(new Uint8Array(wanted), 0, wanted, at)
          : { bytesRead: 0, buffer: new Uint8Array() };
        if (bytesRead === 0) {
          await file.close();
          return controller.close();
        }
        at += bytesRead;
        controller.enqueue(buffer.subarray(0, bytesRead));
      } catch (error) {
        await file.close().catch(() => {});
        throw error;
      }
    },
    cancel: () => file.close(),
  }, { highWaterMark: 1 });
}

/** Whether the caller sees the object: what signing a URL asks. */
export async function requireReadable(request: StorageRequest): Promise<void> {
  const [bucket, name] = request.params as [string, string];
  checkBucketName(bucket);
  checkObjectName(name);
  const [found] = await request.db.asCaller((t) =>
    t`select from storage.objects where bucket_id = ${bucket} and name = ${name}`
  );
  if (found === undefined) throw noSuchKey();
}
