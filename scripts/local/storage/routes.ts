import { describeError } from "../errors.ts";
import {
  createBucket,
  deleteBucket,
  emptyBucket,
  listBuckets,
  showBucket,
  updateBucket,
} from "./buckets.ts";
import { RequestBody } from "./body.ts";
import type { StorageContext } from "./context.ts";
import { databaseFor } from "./database.ts";
import {
  download,
  downloadBySignedUrl,
  downloadPublic,
  head,
  headPublic,
  info,
  infoPublic,
} from "./download.ts";
import {
  databaseRefusal,
  errorResponse,
  invalidInput,
  noRoute,
  notImplemented,
  StorageError,
} from "./errors.ts";
import { listObjects, listObjectsV2 } from "./listing.ts";
import { copyObject, deleteObject, deleteObjects, moveObject } from "./objects.ts";
import { type Access, callerOf, type StorageRequest } from "./request.ts";
import { createObject, updateObject, uploadBySignedUrl } from "./upload.ts";
import { signUploadUrl, signUrl, signUrls } from "./urls.ts";

type Endpoint = (context: StorageContext, request: StorageRequest) => Promise<Response>;

/**
 * Method, path, who may come, what `storage.operation()` says, and what answers. `:name` stands for one
 * segment, `*` for all that follows. The first that fits answers, and what answers GET answers HEAD.
 */
const ENDPOINTS: [route: string, access: Access, operation: string, endpoint: Endpoint][] = [
  ["GET /bucket", "token", "storage.bucket.list", listBuckets],
  ["POST /bucket", "token", "storage.bucket.create", createBucket],
  ["GET /bucket/:id", "token", "storage.bucket.get", showBucket],
  ["PUT /bucket/:id", "token", "storage.bucket.update", updateBucket],
  ["DELETE /bucket/:id", "token", "storage.bucket.delete", deleteBucket],
  ["POST /bucket/:id/empty", "service", "storage.bucket.empty", emptyBucket],

  ["POST /object/copy", "token", "storage.object.copy", copyObject],
  ["POST /object/move", "token", "storage.object.move", moveObject],
  ["POST /object/list/:bucket", "token", "storage.object.list", listObjects],
  ["POST /object/list-v2/:bucket", "token", "storage.object.list_v2", listObjectsV2],
  ["POST /object/sign/:bucket", "token", "storage.object.sign_many", signUrls],
  ["POST /object/sign/:bucket/*", "token", "storage.object.sign", signUrl],
  ["GET /object/sign/:bucket/*", "nobody", "storage.object.get_signed", downloadBySignedUrl],
  ["POST /object/upload/sign/:bucket/*", "token", "storage.object.sign_upload_url", signUploadUrl],
  [
    "PUT /object/upload/sign/:bucket/*",
    "nobody",
    "storage.object.upload_signed",
    uploadBySignedUrl,
  ],

  ["HEAD /object/public/:bucket/*", "nobody", "storage.object.info_public", headPublic],
  ["GET /object/public/:bucket/*", "nobody", "storage.object.get_public", downloadPublic],
  ["GET /object/info/public/:bucket/*", "nobody", "storage.object.info_public", infoPublic],
  ["GET /object/info/authenticated/:bucket/*", "token", "object.get_authenticated_info", info],
  ["GET /object/info/:bucket/*", "maybe", "object.get_authenticated_info", info],
  ["HEAD /object/authenticated/:bucket/*", "token", "object.head_authenticated_info", head],
  ["GET /object/authenticated/:bucket/*", "token", "storage.object.get_authenticated", download],
  ["HEAD /object/:bucket/*", "maybe", "object.head_authenticated_info", head],
  ["GET /object/:bucket/*", "maybe", "storage.object.get_authenticated", download],
  ["POST /object/:bucket/*", "token", "storage.object.upload", createObject],
  ["PUT /object/:bucket/*", "token", "storage.object.upload_update", updateObject],
  ["DELETE /object/:bucket/*", "token", "storage.object.delete", deleteObject],
  ["DELETE /object/:bucket", "token", "storage.object.delete_many", deleteObjects],

  ["GET /status", "nobody", "", () => Promise.resolve(new Response(null))],
  // What the platform's build without a version says.
  ["GET /version", "nobody", "", () => Promise.resolve(new Response("0.0.0"))],
  ["GET /health", "nobody", "", health],
];

/** What the platform's Storage has and this one has not, by the beginning of the path. */
const ABSENT: Record<string, string> = {
  "/render/image": "image transformations; it serves the file as it is without `transform`",
  "/upload/resumable": "resumable uploads; upload in one request",
  "/s3": "S3 protocol",
  "/iceberg": "analytics buckets",
  "/vector": "vector buckets",
  "/cdn": "CDN, and so no cache to purge",
};

/** Of a refused upload; a sender of more may see a broken connection in place of the refusal. */
const MOST_PASSED_OVER = 256 * 1024 * 1024;

const ROUTES = ENDPOINTS.map(([route, access, operation, endpoint]) => {
  const [method, path] = route.split(" ") as [string, string];
  const pattern = path.replace(/:[a-z]+/g, "([^/]+)").replace("*", "(.*)");
  const end = path.endsWith("*") ? "" : "/?";
  return { method, path: new RegExp(`^${pattern}${end}$`), access, operation, endpoint };
});

/** Answers one request; every failure becomes Storage's error body. */
export async function answer(context: StorageContext, request: Request): Promise<Response> {
  const url = new URL(request.url);
  const body = new RequestBody(request.body);
  let response: Response;
  try {
    response = await route(context, request, url, body);
  } catch (error) {
    const refusal = error instanceof StorageError
      ? error
      : databaseRefusal(error) ?? unexpected(error);
    report(context, request, url, refusal);
    response = errorResponse(refusal);
  }
  await body.passOver(MOST_PASSED_OVER);
  return request.method === "HEAD" && response.body !== null
    ? new Response(null, response)
    : response;
}

async function route(
  context: StorageContext,
  request: Request,
  url: URL,
  body: RequestBody,
): Promise<Response> {
  const { method, headers } = request;
  const absent = Object.keys(ABSENT).find((path) => url.pathname.startsWith(path));
  if (absent !== undefined) throw notImplemented(ABSENT[absent]!);
  const found = ROUTES.find((route) =>
    (route.method === method || (method === "HEAD" && route.method === "GET")) &&
    route.path.test(url.pathname)
  );
  if (found === undefined) throw noRoute(method, url.pathname + url.search);
  const params = found.path.exec(url.pathname)!.slice(1).map(decode);
  const scope = {
    caller: await callerOf(context, headers, found.access),
    operation: found.operation,
    method,
    path: url.pathname,
    headers: Object.fromEntries(headers),
  };
  const db = databaseFor(context.sql, scope);
  return await found.endpoint(context, { method, url, headers, body, params, scope, db });
}

function decode(segment: string): string {
  try {
    return decodeURIComponent(segment);
  } catch {
    throw invalidInput(`'${segment}' is not a valid url component`);
  }
}

async function health(context: StorageContext): Promise<Response> {
  try {
    await context.sql`select from storage.buckets limit 1`;
    return Response.json({ healthy: true });
  } catch {
    return Response.json({ healthy: false });
  }
}

function unexpected(cause: unknown): StorageError {
  return new StorageError(500, "InternalError", "Internal Server Error", {
    error: "Internal",
    cause,
  });
}

/** Says what went wrong on our side. Bodies, tokens and query strings stay out of the log. */
function report(context: StorageContext, request: Request, url: URL, refusal: StorageError): void {
  const fields = {
    method: request.method,
    path: url.pathname,
    status: refusal.status,
    code: refusal.code,
  };
  if (refusal.status < 500 || refusal.status === 501) {
    context.log.debug("request refused", fields);
    return;
  }
  const { cause } = refusal.options;
  context.log.error(refusal.message, {
    ...fields,
    ...(cause !== undefined && { cause: describeError(cause) }),
  });
}
