import { z } from "zod";
import { validationError } from "./errors.ts";
import { wholeText } from "./queries.ts";
import { slug, text, variableName, variableValue, whole } from "./request-fields.ts";

/**
 * Request bodies of the stack routes (seed 000). As with agents, unknown fields are refused and bounds only keep a
 * request readable; what a template takes is checked in SQL against its declared parameters.
 */

const version = whole(1, 1_000_000);

const labels = z.record(
  z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._/-]{0,127}$/, "must be a plain name"),
  text(1024),
  "must be an object of names and texts",
).refine((all) => Object.keys(all).length <= 50, "must be at most 50 labels");

const templateName = z.string().regex(/^[a-z0-9][a-z0-9_-]{0,62}$/, "must be a template's name");

function environment<Value extends z.ZodType>(value: Value) {
  return z.array(
    z.strictObject({ name: variableName, value }, "must be {name, value}"),
    "must be a list of {name, value}",
  ).max(200, "must be at most 200 variables");
}

/** Body of `POST /api/stacks`. */
export const createStackBody = z.strictObject({
  name: slug,
  template: templateName,
  template_version: version.optional(),
  environment: environment(variableValue).optional(),
  labels: labels.optional(),
  cluster_id: z.uuid("must be a UUID").optional(),
}, "must be an object");

/** Body of `PUT /api/stacks/{id}`: what stays unnamed stays as it is; a variable of value null is taken away. */
export const updateStackBody = z.strictObject({
  template: templateName.optional(),
  template_version: version.optional(),
  environment: environment(variableValue.nullable()).optional(),
  labels: labels.optional(),
}, "must be an object").refine(
  (body) => Object.keys(body).length > 0,
  { path: ["body"], message: "must name what to change" },
);

/**
 * The canonical form that `create_stack` and `update_stack` take.
 * @throws ApiError VALIDATION_ERROR when a variable is given twice
 */
export function stackSpec(
  body: z.output<typeof createStackBody> | z.output<typeof updateStackBody>,
): Record<string, unknown> {
  const { environment: list, ...spec } = body;
  if (list === undefined) return spec;
  const faults: Record<string, string> = {};
  const values: Record<string, string | null> = {};
  for (const { name, value } of list) {
    if (Object.hasOwn(values, name)) faults[`environment.${name}`] = "is given twice";
    values[name] = value;
  }
  if (Object.keys(faults).length > 0) throw validationError(faults);
  return { ...spec, environment: values };
}

/** Edition 3's words for the states of a stack; Portainer's `active` is ours too. */
export const STACK_STATES: Record<string, string> = {
  queued: "deploying",
  deploying: "deploying",
  running: "active",
  updating: "updating",
  rolling_back: "rolling_back",
  failed: "failed",
  deleting: "deleting",
};

const stackStates = [...new Set(Object.values(STACK_STATES))] as [string, ...string[]];

/** Query of `GET /api/stacks`. */
export const listStacksQuery = z.object({
  status: z.enum(stackStates, `must be one of ${stackStates.join(", ")}`).transform((word) =>
    Object.keys(STACK_STATES).filter((state) => STACK_STATES[state] === word)
  ).optional(),
  limit: wholeText(1, 100, 20),
  offset: wholeText(0, 100_000, 0),
});
