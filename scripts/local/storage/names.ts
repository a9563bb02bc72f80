import { invalidBucketName, invalidInput, invalidKey, invalidMimeType } from "./errors.ts";

/** What S3 takes without special handling, and what the platform adds to it. */
const OBJECT_NAME = /^[A-Za-z0-9_/!.*'() &$=@;:+,?-]+$/;
const BUCKET_NAME = /^[A-Za-z0-9_!.*'() &$=@;:+,?-]{1,100}$/;
const MIME_TYPE =
  /^([a-zA-Z0-9\-+.]+)\/([a-zA-Z0-9\-+.]+|\*)(;\s*charset=[a-zA-Z0-9-]+)?$|^\*\/\*$|^\*$/;

/** @throws {StorageError} `InvalidKey` */
export function checkObjectName(name: string): void {
  if (!OBJECT_NAME.test(name)) throw invalidKey(name);
}

/** @throws {StorageError} `InvalidBucketName` */
export function checkBucketName(name: string): void {
  if (!BUCKET_NAME.test(name)) throw invalidBucketName();
}

/** @throws {StorageError} `InvalidMimeType` for the first that is none */
export function checkMimeTypes(types: string[]): void {
  const wrong = types.find((type) => type.length > 1000 || !MIME_TYPE.test(type));
  if (wrong !== undefined) throw invalidMimeType(wrong);
}

/**
 * Whether a bucket that takes only `allowed` takes a file of this type.
 *
 * @throws {StorageError} `InvalidMimeType`
 */
export function requireMimeType(type: string, allowed: string[]): void {
  const [kind, form] = type.split("/");
  const fits = form !== undefined && allowed.some((one) => {
    const [allowedKind, allowedForm] = one.split("/");
    return allowedKind === kind && (allowedForm === "*" || allowedForm === form);
  });
  if (!fits) throw invalidMimeType(type);
}

/** Marks a folder in the dashboard; it may be empty whatever the bucket asks of files. */
export function isFolderPlaceholder(name: string): boolean {
  return name.endsWith(".emptyFolderPlaceholder");
}

const UNITS: Record<string, number> = { b: 1, kb: 1e3, mb: 1e6, gb: 1e9 };

/** Bytes of a limit as buckets are given it: a number, or `20MB`. */
export function parseSizeLimit(limit: number | string): number {
  if (typeof limit === "number") return limit;
  const [, amount, unit] = /^(\d+(?:\.\d+)?)(gb|mb|kb|b)$/i.exec(limit) ?? [];
  if (amount === undefined || unit === undefined) {
    throw invalidInput("Invalid file size format, hint: use 20GB / 20MB / 30KB / 3B");
  }
  return Math.floor(Number(Number(amount).toPrecision(3)) * UNITS[unit.toLowerCase()]!);
}
