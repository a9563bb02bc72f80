import type { Transaction } from "./database.ts";
import { noSuchBucket, noSuchKey } from "./errors.ts";

/** Metadata of a file, as `storage.objects.metadata` keeps it. */
export interface FileMetadata {
  eTag: string;
  size: number;
  mimetype: string;
  cacheControl: string;
  lastModified: string;
  contentLength: number;
  httpStatusCode: number;
  xRobotsTag?: string;
}

export interface ObjectRow {
  id: string;
  bucket_id: string;
  name: string;
  owner: string | null;
  owner_id: string | null;
  version: string | null;
  created_at: Date;
  updated_at: Date;
  last_accessed_at: Date;
  metadata: Partial<FileMetadata> | null;
  user_metadata: Record<string, unknown> | null;
}

export interface BucketRow {
  id: string;
  name: string;
  owner: string | null;
  public: boolean;
  type: string;
  file_size_limit: number | null;
  allowed_mime_types: string[] | null;
  created_at: Date;
  updated_at: Date;
}

/** What is written of an object besides its name. */
export interface ObjectState {
  owner: string | null;
  version: string;
  metadata: object | null;
  user_metadata: object | null;
}

type Json = Parameters<Transaction["json"]>[0];

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;

/** Owners are text since they need not be users of Auth; the old column takes those that are. */
export function ownerColumns(owner: string | null) {
  return { owner: owner !== null && UUID.test(owner) ? owner : null, owner_id: owner };
}

/** @throws {StorageError} `NoSuchBucket` */
export async function findBucket(t: Transaction, id: string): Promise<BucketRow> {
  const [bucket] = await t<BucketRow[]>`
    select id, name, owner, public, type, file_size_limit::float8 as file_size_limit, allowed_mime_types,
      created_at, updated_at
    from storage.buckets where id = ${id}`;
  if (bucket === undefined) throw noSuchBucket();
  return bucket;
}

/** @throws {StorageError} `NoSuchKey` */
export async function findObject(
  t: Transaction,
  bucket: string,
  name: string,
  lock = false,
): Promise<ObjectRow> {
  const object = await lookUpObject(t, bucket, name, lock);
  if (object === null) throw noSuchKey();
  return object;
}

export async function lookUpObject(
  t: Transaction,
  bucket: string,
  name: string,
  lock = false,
): Promise<ObjectRow | null> {
  const [object] = await t<ObjectRow[]>`
    select * from storage.objects where bucket_id = ${bucket} and name = ${name}
    ${lock ? t`for update` : t``}`;
  return object ?? null;
}

export async function insertObject(
  t: Transaction,
  bucket: string,
  name: string,
  state: ObjectState,
): Promise<void> {
  // Without `returning`: that would ask the policies for reading too.
  await t`insert into storage.objects ${t(columnsOf(t, bucket, name, state))}`;
}

export async function upsertObject(
  t: Transaction,
  bucket: string,
  name: string,
  state: ObjectState,
): Promise<ObjectRow> {
  const columns = columnsOf(t, bucket, name, state);
  const { bucket_id: _bucket, name: _name, ...changes } = columns;
  const [object] = await t<ObjectRow[]>`
    insert into storage.objects ${t(columns)}
    on conflict (name, bucket_id) do update set ${t(changes)}
    returning *`;
  return object!;
}

/** Uploads to one name come after one another, whether the name is taken or not. */
export async function lockName(t: Transaction, bucket: string, name: string): Promise<void> {
  await t`select set_config('lock_timeout', '5s', true)`;
  await t`select pg_advisory_xact_lock(hashtextextended(${`storage:${bucket}/${name}`}, 0))`;
}

function columnsOf(t: Transaction, bucket: string, name: string, state: ObjectState) {
  return {
    bucket_id: bucket,
    name,
    ...ownerColumns(state.owner),
    version: state.version,
    metadata: state.metadata === null ? null : t.json(state.metadata as Json),
    user_metadata: state.user_metadata === null ? null : t.json(state.user_metadata as Json),
  };
}
