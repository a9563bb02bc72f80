import { z } from "zod";
import type { StorageContext } from "./context.ts";
import { requireReadable } from "./download.ts";
import { checkBucketName, checkObjectName } from "./names.ts";
import { readJson, type StorageRequest, userMetadataOf } from "./request.ts";
import { askPermission } from "./upload.ts";

const expiry = z.int().min(1).max(8_640_000_000_000);
const one = z.object({ expiresIn: expiry });
const many = z.object({ expiresIn: expiry, paths: z.array(z.string()).min(1).max(1000) });

/** Hosted projects' time to begin an upload by a signed URL. */
const UPLOAD_SECONDS = 7200;

/** `POST /object/sign/:bucket/*`. Transformations are passed over, as where a project has none. */
export async function signUrl(context: StorageContext, request: StorageRequest): Promise<Response> {
  const { expiresIn } = await readJson(request, one);
  await requireReadable(request);
  const url = request.params.join("/");
  const token = await context.signer.sign("download", { url }, expiresIn);
  return Response.json({ signedURL: `/object/sign/${url}?token=${token}` });
}

/** `POST /object/sign/:bucket` */
export async function signUrls(
  context: StorageContext,
  request: StorageRequest,
): Promise<Response> {
  const { expiresIn, paths } = await readJson(request, many);
  const bucket = request.params[0]!;
  checkBucketName(bucket);
  const rows = await request.db.asCaller((t) =>
    t<{ name: string }[]>`
      select name from storage.objects where bucket_id = ${bucket} and name = any (${paths})`
  );
  const known = new Set(rows.map(({ name }) => name));
  const answers = await Promise.all(paths.map(async (path) => {
    if (!known.has(path)) {
      const error = "Either the object does not exist or you do not have access to it";
      return { error, path, signedURL: null };
    }
    const url = `${bucket}/${path}`;
    const token = await context.signer.sign("download", { url }, expiresIn);
    return { error: null, path, signedURL: `/object/sign/${url}?token=${token}` };
  }));
  return Response.json(answers);
}

/** `POST /object/upload/sign/:bucket/*` */
export async function signUploadUrl(
  context: StorageContext,
  request: StorageRequest,
): Promise<Response> {
  const [bucket, name] = request.params as [string, string];
  checkBucketName(bucket);
  checkObjectName(name);
  const upsert = request.headers.get("x-upsert") === "true";
  const owner = request.scope.caller.claims.sub ?? null;
  await askPermission(
    request,
    { bucket, name, owner, upsert },
    { mimetype: request.headers.get("content-type") },
    userMetadataOf(request.headers.get("x-metadata")),
  );
  const url = `${bucket}/${name}`;
  const claims = { url, upsert, ...(owner !== null && { owner }) };
  const token = await context.signer.sign("upload", claims, UPLOAD_SECONDS);
  return Response.json({ url: `/object/upload/sign/${url}?token=${token}`, token });
}
