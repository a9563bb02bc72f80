import type { z } from "zod";
import { validationError } from "./errors.ts";

type Issue = z.core.$ZodIssue;

/** What a value of the wrong type should be, where a schema has no words of its own for it. */
const WANTED: Record<string, string> = {
  string: "must be text",
  number: "must be a number",
  boolean: "must be true or false",
  array: "must be a list",
  object: "must be an object",
  record: "must be an object",
};

function collect(issue: Issue, base: PropertyKey[], fields: Record<string, string>): void {
  const path = [...base, ...issue.path];
  const at = path.map(String).join(".") || "body";
  if (issue.code === "unrecognized_keys") {
    for (const key of issue.keys) fields[[...path, key].map(String).join(".")] = "is not known";
    return;
  }
  if (issue.code === "invalid_key") {
    fields[at] ??= issue.issues[0]?.message ?? "is not a valid name";
    return;
  }
  if (issue.code === "invalid_union") {
    // The branch that got furthest is the one that was meant; its faults are the useful ones.
    const branches = issue.errors.filter((branch) => branch.some((each) => each.path.length > 0));
    if (branches.length > 0) {
      for (const each of branches[0]!) collect(each, path, fields);
      return;
    }
  }
  const missing = issue.code === "invalid_type" && "input" in issue && issue.input === undefined;
  fields[at] ??= missing ? "is required" : issue.message;
}

/**
 * Reads input by a schema.
 * @throws ApiError VALIDATION_ERROR whose details name every bad field at once, by its dotted path
 */
export function parseInput<Schema extends z.ZodType>(
  schema: Schema,
  input: unknown,
): z.output<Schema> {
  const result = schema.safeParse(input, {
    reportInput: true,
    error: (issue) => issue.code === "invalid_type" ? WANTED[issue.expected] : undefined,
  });
  if (result.success) return result.data;
  const fields: Record<string, string> = {};
  for (const issue of result.error.issues) collect(issue, [], fields);
  throw validationError(fields);
}
