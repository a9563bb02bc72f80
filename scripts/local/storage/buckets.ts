import { z } from "zod";
import type { StorageContext } from "./context.ts";
import {
  alreadyExists,
  invalidBucketName,
  noSuchBucket,
  StorageError,
  tooLarge,
} from "./errors.ts";
import { checkBucketName, checkMimeTypes, parseSizeLimit } from "./names.ts";
import { removeFiles } from "./removal.ts";
import { readJson, readQuery, type StorageRequest } from "./request.ts";
import { type BucketRow, findBucket, ownerColumns } from "./rows.ts";

const limits = {
  public: z.boolean().optional(),
  file_size_limit: z.union([z.int().min(0), z.string()]).nullish(),
  allowed_mime_types: z.array(z.string()).nullish(),
};
const newBucket = z.object({
  id: z.string().optional(),
  name: z.string(),
  type: z.enum(["STANDARD", "ANALYTICS"]).optional(),
  ...limits,
});
const listing = z.object({
  limit: z.coerce.number().int().min(1).optional(),
  offset: z.coerce.number().int().min(0).optional(),
  sortColumn: z.enum(["id", "name", "created_at", "updated_at"]).optional(),
  sortOrder: z.enum(["asc", "desc"]).optional(),
  search: z.string().optional(),
});

/** Rows taken from a bucket in one transaction while it is emptied. */
const EMPTY_PAGE = 500;

/** `POST /bucket` */
export async function createBucket(
  context: StorageContext,
  request: StorageRequest,
): Promise<Response> {
  const body = await readJson(request, newBucket);
  if (body.name.trim() !== body.name || body.name.endsWith("--iceberg")) throw invalidBucketName();
  checkBucketName(body.name);
  if (body.type === "ANALYTICS") {
    throw new StorageError(
      409,
      "FeatureNotEnabled",
      "The feature Iceberg buckets are not enabled for this tenant is not enabled for this resource",
    );
  }
  const columns = {
    id: body.id || body.name,
    name: body.name,
    ...ownerColumns(request.scope.caller.claims.sub ?? null),
    public: body.public ?? false,
    ...limitColumns(context, body),
  };
  try {
    await request.db.asCaller((t) => t`insert into storage.buckets ${t(columns)}`);
  } catch (error) {
    if ((error as { code?: string }).code === "23505") {
      throw alreadyExists("BucketAlreadyExists", error);
    }
    throw error;
  }
  return Response.json({ name: body.name });
}

/** `GET /bucket` */
export async function listBuckets(
  _context: StorageContext,
  request: StorageRequest,
): Promise<Response> {
  const { limit, offset, sortColumn, sortOrder, search } = readQuery(request, listing);
  const rows = await request.db.asCaller((t) =>
    t<BucketRow[]>`
      select id, name, owner, public, type, file_size_limit::float8 as file_size_limit,
        allowed_mime_types, created_at, updated_at
      from storage.buckets
      where ${search ? t`strpos(lower(name), lower(${search})) > 0` : t`true`}
      ${
      sortColumn === undefined
        ? t``
        : t`order by ${t(sortColumn)} ${sortOrder === "desc" ? t`desc` : t`asc`}`
    }
      limit ${limit ?? null} offset ${offset ?? 0}`
  );
  return Response.json(rows.map((row) => ({ ...row, owner: row.owner ?? "" })));
}

/** `GET /bucket/:id` */
export async function showBucket(
  _context: StorageContext,
  request: StorageRequest,
): Promise<Response> {
  const { type: _type, ...bucket } = await request.db.asCaller((t) =>
    findBucket(t, request.params[0]!)
  );
  return Response.json({ ...bucket, owner: bucket.owner ?? "" });
}

/** `PUT /bucket/:id` */
export async function updateBucket(
  context: StorageContext,
  request: StorageRequest,
): Promise<Response> {
  const body = await readJson(request, z.object(limits));
  checkBucketName(request.params[0]!);
  const changes = {
    ...(body.public !== undefined && { public: body.public }),
    ...limitColumns(context, body),
  };
  if (Object.keys(changes).length === 0) {
    throw new StorageError(400, "InvalidRequest", "No content provided");
  }
  const { count } = await request.db.asCaller((t) =>
    t`update storage.buckets set ${t(changes)} where id = ${request.params[0]!}`
  );
  if (count === 0) throw noSuchBucket();
  return Response.json({ message: "Successfully updated" });
}

/** `DELETE /bucket/:id` */
export async function deleteBucket(
  _context: StorageContext,
  request: StorageRequest,
): Promise<Response> {
  const id = request.params[0]!;
  // What the caller may not see counts as well: their own view could show a full bucket as empty.
  await request.db.asService(async (t) => {
    await findBucket(t, id);
    const [object] = await t`select from storage.objects where bucket_id = ${id} limit 1`;
    if (object !== undefined) {
      throw new StorageError(
        409,
        "ResourceNotEmpty",
        "The bucket you tried to delete is not empty",
      );
    }
  });
  // An object that came in between keeps the row by its foreign key.
  const { count } = await request.db.asCaller((t) =>
    t`delete from storage.buckets where id = ${id}`
  );
  if (count === 0) throw noSuchBucket();
  return Response.json({ message: "Successfully deleted" });
}

/** `POST /bucket/:id/empty`: here all of it is gone with the answer; the platform queues it. */
export async function emptyBucket(
  context: StorageContext,
  request: StorageRequest,
): Promise<Response> {
  const bucket = request.params[0]!;
  const before = new Date();
  await request.db.asCaller((t) => findBucket(t, bucket));
  for (let taken = EMPTY_PAGE; taken === EMPTY_PAGE;) {
    const rows = await request.db.asCaller((t) =>
      t<{ name: string; version: string | null }[]>`
        delete from storage.objects where id in (
          select id from storage.objects where bucket_id = ${bucket} and created_at < ${before}
          limit ${EMPTY_PAGE}
        ) returning name, version`
    );
    await removeFiles(context, rows.map(({ name, version }) => ({ bucket, name, version })));
    taken = rows.length;
  }
  return Response.json({
    message: "Empty bucket has been queued. Completion may take up to an hour.",
  });
}

function limitColumns(
  { fileSizeLimit }: StorageContext,
  body: { file_size_limit?: number | string | null; allowed_mime_types?: string[] | null },
): { file_size_limit?: number | null; allowed_mime_types?: string[] | null } {
  const columns: ReturnType<typeof limitColumns> = {};
  if (body.file_size_limit === null) columns.file_size_limit = null;
  else if (body.file_size_limit !== undefined) {
    columns.file_size_limit = parseSizeLimit(body.file_size_limit);
    if (columns.file_size_limit > fileSizeLimit) throw tooLarge();
  }
  if (body.allowed_mime_types !== undefined) {
    const types = body.allowed_mime_types?.filter((type) => type !== "") ?? null;
    if (types !== null) checkMimeTypes(types);
    columns.allowed_mime_types = types;
  }
  return columns;
}
