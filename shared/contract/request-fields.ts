import { z } from "zod";
import { parseIsoTime } from "./times.ts";

/** Building blocks of the request schemas. Their messages end sentences that begin with the field's name. */

// PostgreSQL stores no NUL, and half a surrogate pair is not text in any encoding.
const isPlainText = (text: string) => !text.includes("\0") && text.isWellFormed();

/** Whether every text of a JSON value, names included, is one that PostgreSQL can store. */
function isPlain(value: unknown): boolean {
  if (typeof value === "string") return isPlainText(value);
  if (Array.isArray(value)) return value.every(isPlain);
  if (typeof value !== "object" || value === null) return true;
  return Object.entries(value).every(([name, each]) => isPlainText(name) && isPlain(each));
}

export const text = (max: number) =>
  z.string()
    .max(max, `must be at most ${max} characters`)
    .refine(isPlainText, "must be plain text");

/** What people call a thing. */
export const name = text(100)
  .refine((value) => value.trim() !== "", "must be 1 to 100 characters");

/** What machines call a thing: stacks and templates. */
export const slug = z.string().regex(
  /^[a-z0-9][a-z0-9_-]{0,62}$/,
  "must be lower-case letters, digits, - and _, at most 63",
);

export function whole(lowest: number, highest: number) {
  const message = `must be a whole number from ${lowest} to ${highest}`;
  return z.number(message).int(message).min(lowest, message).max(highest, message);
}

/** An object whose words belong to others. */
export function jsonObject(maxBytes: number) {
  return z.record(z.string(), z.unknown(), "must be an object")
    .refine(
      (value) => new TextEncoder().encode(JSON.stringify(value)).length <= maxBytes,
      `must be at most ${maxBytes / 1024} KiB of JSON`,
    )
    .refine(isPlain, "must be plain text");
}

/** A time, handed on in UTC. */
export const isoTimeText = z.string().transform((text, context) => {
  const moment = parseIsoTime(text);
  if (moment !== null) return moment.toISOString();
  context.addIssue({ code: "custom", message: "must be an ISO 8601 time with its zone" });
  return z.NEVER;
});

/** Name and value of an environment variable. */
export const variableName = z.string().regex(
  /^[A-Za-z_][A-Za-z0-9_]{0,127}$/,
  "must be letters, digits and _, and not begin with a digit",
);
export const variableValue = z
  .union([z.string(), z.number(), z.boolean()], "must be text, a number or true or false")
  .transform(String)
  .pipe(text(32_768));
