import { Buffer } from "node:buffer";
import { z } from "zod";
import type { StorageContext } from "./context.ts";
import { StorageError } from "./errors.ts";
import { checkBucketName } from "./names.ts";
import { readJson, type StorageRequest } from "./request.ts";

const order = z.enum(["asc", "desc"]).optional();
const search = z.object({
  prefix: z.string(),
  limit: z.int().min(1).optional(),
  offset: z.int().min(0).optional(),
  search: z.string().optional(),
  sortBy: z.object({
    column: z.enum(["name", "updated_at", "created_at", "last_accessed_at"]),
    order,
  }).optional(),
});
const searchV2 = z.object({
  prefix: z.string().optional(),
  limit: z.int().min(1).optional(),
  cursor: z.string().optional(),
  with_delimiter: z.boolean().optional(),
  sortBy: z.object({ column: z.enum(["name", "updated_at", "created_at"]), order }).optional(),
});

interface Entry {
  name: string;
  /** Null for a folder. */
  id: string | null;
  updated_at: Date | null;
  created_at: Date | null;
  last_accessed_at: Date | null;
  metadata: object | null;
}

/** Where a page ended. */
interface Cursor {
  after: string;
  column: "name" | "updated_at" | "created_at";
  order: "asc" | "desc";
  /** The last entry's time, when sorted by one. */
  time: string;
}

const MOST = 1000;

/** `POST /object/list/:bucket` */
export async function listObjects(
  _context: StorageContext,
  request: StorageRequest,
): Promise<Response> {
  const body = await readJson(request, search);
  const bucket = request.params[0]!;
  checkBucketName(bucket);
  // It is always taken for a folder.
  const prefix = body.prefix === "" || body.prefix.endsWith("/") ? body.prefix : `${body.prefix}/`;
  const levels = (prefix + (body.search ?? "")).split("/").length;
  const entries = await request.db.asCaller((t) =>
    t<Entry[]>`
      select * from storage.search(
        ${prefix}, ${bucket}, ${body.limit ?? 100}, ${levels}, ${body.offset ?? 0},
        ${body.search ?? ""}, ${body.sortBy?.column ?? "name"}, ${body.sortBy?.order ?? "asc"}
      )`
  );
  return Response.json(entries);
}

/** `POST /object/list-v2/:bucket` */
export async function listObjectsV2(
  _context: StorageContext,
  request: StorageRequest,
): Promise<Response> {
  const body = await readJson(request, searchV2);
  const bucket = request.params[0]!;
  checkBucketName(bucket);
  const limit = Math.min(body.limit ?? MOST, MOST);
  const prefix = body.prefix ?? "";
  const cursor: Cursor = body.cursor ? decodeCursor(body.cursor) : {
    after: "",
    column: body.sortBy?.column ?? "name",
    order: body.sortBy?.order ?? "asc",
    time: "",
  };
  const entries = await request.db.asCaller((t) =>
    body.with_delimiter
      ? t<Entry[]>`
        select * from storage.search_v2(
          ${prefix}, ${bucket}, ${limit + 1}, ${prefix.split("/").length}, ${cursor.after},
          ${cursor.order}, ${cursor.column}, ${cursor.time}
        )`
      : t<Entry[]>`
        select id, name, metadata, updated_at, created_at, last_accessed_at
        from storage.objects
        where bucket_id = ${bucket} and starts_with(name, ${prefix})
          and name collate "C" >= ${prefix} and name collate "C" < ${prefix} || chr(1114111)
          ${cursor.after === "" ? t`` : t`and ${beyond(t, cursor)}`}
        order by
          ${cursor.column === "name" ? t`` : t`${timeOf(t, cursor)} ${direction(t, cursor)},`}
          name collate "C" ${direction(t, cursor)}
        limit ${limit + 1}`
  );
  const page = entries.slice(0, limit);
  const hasNext = entries.length > limit;
  const last = page.at(-1);
  return Response.json({
    hasNext,
    ...(hasNext && last && {
      nextCursor: encodeCursor({
        ...cursor,
        after: last.name,
        time: cursor.column === "name" ? "" : last[cursor.column]?.toISOString() ?? "",
      }),
      nextCursorKey: last.name,
    }),
    folders: page.filter(({ id }) => id === null).map((entry) => ({
      ...entry,
      name: `${entry.name}/`,
    })),
    objects: page.filter(({ id }) => id !== null),
  });
}

type Sql = Parameters<Parameters<StorageRequest["db"]["asCaller"]>[0]>[0];

function direction(t: Sql, { order }: Cursor) {
  return order === "desc" ? t`desc` : t`asc`;
}

/** Cursors carry milliseconds, rows microseconds. */
function timeOf(t: Sql, { column }: Cursor) {
  return t`date_trunc('milliseconds', ${t(column)})`;
}

function beyond(t: Sql, cursor: Cursor) {
  const { column, order, after, time } = cursor;
  const than = order === "desc" ? t`<` : t`>`;
  return column === "name"
    ? t`name collate "C" ${than} ${after}`
    : t`(${timeOf(t, cursor)}, name collate "C") ${than} (${time}::timestamptz, ${after})`;
}

function encodeCursor(cursor: Cursor): string {
  return Buffer.from(JSON.stringify(Object.values(cursor))).toString("base64");
}

function decodeCursor(text: string): Cursor {
  const shape = z.tuple([
    z.string(),
    z.enum(["name", "updated_at", "created_at"]),
    z.enum(["asc", "desc"]),
    z.union([z.literal(""), z.iso.datetime()]),
  ]);
  try {
    const [after, column, order, time] = shape.parse(
      JSON.parse(Buffer.from(text, "base64").toString()),
    );
    return { after, column, order, time };
  } catch {
    throw new StorageError(400, "InvalidParameter", "Invalid Parameter continuation token");
  }
}
