import { parseBytes, parseDuration } from "./units.ts";

/** Readers of single values of a Compose file; each throws an Error that names the place. */

export function mapOf(value: unknown, path: string): Record<string, unknown> {
  if (value === undefined || value === null) return {};
  if (typeof value !== "object" || Array.isArray(value)) {
    throw new Error(`validating stack file: ${path} must be a mapping`);
  }
  return value as Record<string, unknown>;
}

export function listOf(value: unknown, path: string): unknown[] {
  if (value === undefined || value === null) return [];
  if (!Array.isArray(value)) throw new Error(`validating stack file: ${path} must be a array`);
  return value;
}

export function textOf(value: unknown, path: string): string {
  if (typeof value === "string") return value;
  if (typeof value === "number" || typeof value === "boolean") return String(value);
  throw new Error(`validating stack file: ${path} must be a string`);
}

export function numberOf(value: unknown, path: string): number {
  const number = typeof value === "string" && value.trim() ? Number(value) : value;
  if (typeof number !== "number" || !Number.isFinite(number) || number < 0) {
    throw new Error(`validating stack file: ${path} must be a number`);
  }
  return number;
}

export function booleanOf(value: unknown, path: string): boolean {
  if (typeof value === "boolean") return value;
  if (value === "true" || value === "false") return value === "true";
  throw new Error(`validating stack file: ${path} must be a boolean`);
}

/** Nanoseconds. */
export function durationOf(value: unknown, path: string): number {
  const nanoseconds = parseDuration(textOf(value, path));
  if (nanoseconds === null) {
    throw new Error(`validating stack file: ${path}: time: invalid duration "${value}"`);
  }
  return nanoseconds;
}

/** Bytes; 0 when the file says nothing. */
export function bytesOf(value: unknown, path: string): number {
  if (value === undefined || value === null) return 0;
  const bytes = parseBytes(textOf(value, path));
  if (bytes === null) throw new Error(`validating stack file: ${path}: invalid size: '${value}'`);
  return bytes;
}

/** Labels, as a mapping or as a list of `key=value`. */
export function stringsOf(value: unknown, path: string): Record<string, string> {
  const entries: [string, string][] = Array.isArray(value)
    ? value.map((item) => {
      const text = textOf(item, path);
      const at = text.indexOf("=");
      return at < 0 ? [text, ""] : [text.slice(0, at), text.slice(at + 1)];
    })
    : Object.entries(mapOf(value, path)).map(([key, item]) => [
      key,
      item === null ? "" : textOf(item, `${path}.${key}`),
    ]);
  return Object.fromEntries(entries);
}
