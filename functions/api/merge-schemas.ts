import type { Part } from "./openapi.ts";

const same = (one: unknown, other: unknown) => JSON.stringify(one) === JSON.stringify(other);

/** The kinds of value that a schema allows, each as a schema of its own. */
const choices = (schema: Part): Part[] =>
  Array.isArray(schema.anyOf) && Object.keys(schema).length === 1 ? schema.anyOf : [schema];

/** Whether two schemas are of values that are put together, not chosen between. */
function areMerged(one: Part, other: Part): boolean {
  return one.type === other.type && (one.type === "array" || one.type === "object") &&
    ("items" in one || "properties" in one) && ("items" in other || "properties" in other);
}

/**
 * The schema of what `mergeAnswers` makes of two answers: objects have the fields of both, lists the
 * merged elements, and where the answers clash it is what either says.
 */
export function mergeSchemas(one: Part, other: Part): Part {
  if (same(one, other)) return one;
  const merged = [...choices(one)];
  for (const choice of choices(other)) {
    const at = merged.findIndex((each) => areMerged(each, choice));
    if (at >= 0) merged[at] = mergeAlike(merged[at]!, choice);
    else if (!merged.some((each) => same(each, choice))) merged.push(choice);
  }
  return merged.length === 1 ? merged[0]! : { anyOf: merged };
}

function mergeAlike(one: Part, other: Part): Part {
  if (one.type === "array") {
    return { ...one, items: mergeSchemas(one.items as Part, other.items as Part) };
  }
  const properties: Record<string, Part> = { ...(one.properties as Record<string, Part>) };
  for (const [name, schema] of Object.entries(other.properties as Record<string, Part>)) {
    properties[name] = properties[name] === undefined
      ? schema
      : mergeSchemas(properties[name], schema);
  }
  const required = new Set([one.required ?? [], other.required ?? []].flat() as string[]);
  return { ...one, properties, ...(required.size > 0 && { required: [...required] }) };
}
