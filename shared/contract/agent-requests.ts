import { z } from "zod";
import { durationSeconds, HEALTH_INTERVAL_SECONDS } from "./durations.ts";
import { parseQuantity } from "./quantities.ts";
import {
  jsonObject,
  name,
  slug,
  text,
  variableName,
  variableValue,
  whole,
} from "./request-fields.ts";

/**
 * Request bodies of the agent routes. One schema takes the bodies of all three editions, because a
 * client may be written from any of them: the seeds' words for the same thing stand side by side
 * (`personality` | `character`, `selectedPlugins` | `plugins`, `platforms` as list or as object).
 *
 * Unknown fields of a body are refused: a misspelt `enviroment` or `replica` that is silently
 * dropped would deploy something else than was asked for, and the caller would hear of it last.
 * Open are only `character` and `settings`, whose words belong to the agent's framework, not to us.
 * Bounds here keep a request readable; what an installation allows (replicas, agents) is in SQL.
 */

const quantity = (example: string) =>
  z.union([z.string(), z.number()], `must be a quantity such as ${example}`)
    .transform(String)
    .refine((value) => (parseQuantity(value) ?? 0) > 0, `must be a quantity such as ${example}`);

function environment<Value extends z.ZodType>(value: Value) {
  return z.record(
    variableName,
    value,
    "must be an object of names and values",
  ).refine((all) => Object.keys(all).length <= 200, "must be at most 200 variables");
}

const plugins = z.array(text(300).min(1, "must be a package name"), "must be a list of names")
  .max(100, "must be at most 100 package names");

const platformName = z.string().regex(
  /^[a-z0-9][a-z0-9_-]{0,49}$/,
  "must be a name such as discord, telegram, twitter",
);

/** Seed 001 gives each platform its credentials: `{ discord: { token, guildId } }`. */
const platforms = z.union([
  z.array(platformName).max(20, "must be at most 20 names"),
  z.record(
    platformName,
    z.record(
      z.string().regex(/^[A-Za-z][A-Za-z0-9_]{0,63}$/, "must be a plain name"),
      variableValue,
    ),
  ).refine((all) => Object.keys(all).length <= 20, "must be at most 20 names"),
], "must be a list of names or an object of credentials");

/** Whole seconds, because Kubernetes knows no others. */
const duration = z.string("must be from 1s to 1h, such as 30s").refine((text) => {
  const seconds = durationSeconds(text);
  return seconds !== null && seconds >= 1 && seconds <= 3600;
}, "must be from 1s to 1h, such as 30s");

const healthChecks = z.strictObject({
  enabled: z.boolean("must be true or false").optional(),
  interval: duration.optional(),
  timeout: duration.optional(),
  retries: whole(1, 100).optional(),
}, "must be an object").refine(
  ({ interval, timeout }) =>
    (durationSeconds(timeout) ?? 0) <= (durationSeconds(interval) ?? HEALTH_INTERVAL_SECONDS),
  {
    path: ["timeout"],
    message: "must not be longer than the interval, which is 30s when not given",
  },
);

const resources = z.strictObject({
  memory: quantity("512Mi or 1Gi").optional(),
  cpu: quantity("250m or 1.5").optional(),
  replicas: whole(1, 1000).optional(),
}, "must be an object");

const scaling = z.strictObject({
  minReplicas: whole(1, 1000).optional(),
  maxReplicas: whole(1, 1000).optional(),
  targetCPU: whole(1, 100).nullable().optional(),
  targetMemory: whole(1, 100).nullable().optional(),
}, "must be an object");

/** Ways to roll out a change, seed 000's `portainer.deployment_strategy`. */
export const DEPLOYMENT_STRATEGIES = ["rolling", "recreate", "blue-green"] as const;

const portainer = z.strictObject({
  template: text(63).optional(),
  stack_name: slug.optional(),
  deployment_strategy: z.enum(
    DEPLOYMENT_STRATEGIES,
    `must be one of ${DEPLOYMENT_STRATEGIES.join(", ")}`,
  ).optional(),
  health_checks: healthChecks.optional(),
}, "must be an object");

const supabaseConfig = z.strictObject({
  project_ref: text(100).optional(),
  // A connection string holds a password: it goes to the environment, never to the table.
  database_url: text(2048).optional(),
  real_time: z.strictObject({
    enabled: z.boolean("must be true or false").optional(),
    // How many and which names: private.real_time_faults knows.
    channels: z.array(text(200)).optional(),
  }, "must be an object").optional(),
  storage: z.strictObject({
    bucket: text(100).optional(),
    public_access: z.boolean("must be true or false").optional(),
  }, "must be an object").optional(),
  // Ours: its containers are given a key by which they report of themselves.
  reporting: z.boolean("must be true or false").optional(),
}, "must be an object");

const sharedFields = {
  name: name.optional(),
  description: text(5000).nullable().optional(),
  character: jsonObject(262_144).optional(),
  personality: jsonObject(262_144).optional(),
  plugins: plugins.optional(),
  selectedPlugins: plugins.optional(),
  platforms: platforms.optional(),
  resources: resources.optional(),
  replicas: whole(1, 1000).optional(),
  scaling: scaling.nullable().optional(),
  portainer: portainer.optional(),
  supabase_config: supabaseConfig.optional(),
  // What seeds 003 and 004 give an agent, so that /api can write whatever PostgREST can.
  framework: text(50).optional(),
  model: text(200).nullable().optional(),
  system_prompt: text(100_000).nullable().optional(),
  settings: jsonObject(65_536).optional(),
  role: text(200).nullable().optional(),
  avatar: text(2048).nullable().optional(),
  enabled_tools: z.array(text(200)).max(100, "must be at most 100 names").optional(),
};

/** A rule over several fields, told also when single fields are wrong: all faults at once. */
function rule(path: string[], message: string) {
  return { path, message, when: ({ value }: { value: unknown }) => isObject(value) };
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

const notBoth = (one: string, other: string) => (body: Record<string, unknown>) =>
  body[one] === undefined || body[other] === undefined;

/** Body of `POST /api/agents` (seeds 000, 001, 002). */
export const createAgentBody = z.strictObject({
  ...sharedFields,
  agentName: name.optional(),
  environment: environment(variableValue).optional(),
  cluster_id: z.uuid("must be a UUID").optional(),
}, "must be an object")
  .refine(notBoth("agentName", "name"), rule(["agentName"], "cannot stand beside name"))
  .refine(
    notBoth("personality", "character"),
    rule(["personality"], "cannot stand beside character"),
  )
  .refine(
    notBoth("selectedPlugins", "plugins"),
    rule(["selectedPlugins"], "cannot stand beside plugins"),
  )
  .refine(
    (body) => body.agentName !== undefined || body.name !== undefined,
    rule(["agentName"], "is required"),
  );
export type CreateAgentBody = z.output<typeof createAgentBody>;

/** Body of `PUT /api/agents/{id}` (seeds 001, 002): what stays unnamed stays as it is. */
export const updateAgentBody = z.strictObject({
  ...sharedFields,
  agentName: name.optional(),
  environment: environment(variableValue.nullable()).optional(),
}, "must be an object")
  .refine(notBoth("agentName", "name"), rule(["agentName"], "cannot stand beside name"))
  .refine(
    notBoth("personality", "character"),
    rule(["personality"], "cannot stand beside character"),
  )
  .refine(
    notBoth("selectedPlugins", "plugins"),
    rule(["selectedPlugins"], "cannot stand beside plugins"),
  )
  .refine(
    (body) => Object.keys(body).length > 0,
    rule(["body"], "must name what to change"),
  );
export type UpdateAgentBody = z.output<typeof updateAgentBody>;

/** Ways to bring containers to a new state (`strategy`, `restart_policy`; seed 000). */
export const ROLLOUT_STRATEGIES = ["rolling", "recreate"] as const;

/** Body of `POST /api/agents/{id}/scale` (seeds 000, 001; `scaling_policy` of seed 002). */
export const scaleAgentBody = z.strictObject({
  replicas: whole(1, 1000),
  strategy: z.enum(
    ROLLOUT_STRATEGIES,
    "must be rolling or recreate; blue-green is for updates, by portainer.deployment_strategy",
  ).default("rolling"),
  scaling_policy: z.strictObject({
    min_replicas: whole(1, 1000).optional(),
    max_replicas: whole(1, 1000).optional(),
    target_cpu: whole(1, 100).nullable().optional(),
    target_memory: whole(1, 100).nullable().optional(),
  }, "must be an object").optional(),
}, "must be an object").refine(
  ({ scaling_policy: policy }) =>
    (policy?.min_replicas ?? 1) <= (policy?.max_replicas ?? Number.POSITIVE_INFINITY),
  { path: ["scaling_policy", "max_replicas"], message: "must not be below min_replicas" },
);
export type ScaleAgentBody = z.output<typeof scaleAgentBody>;

/** Body of `POST /api/agents/{id}/restart` (seed 000); seeds 001 and 002 send none. */
export const restartAgentBody = z.strictObject({
  restart_policy: z.enum(ROLLOUT_STRATEGIES, "must be rolling or recreate").default("rolling"),
  max_unavailable: whole(1, 1000).default(1),
}, "must be an object");

/** Body of `POST /api/agents/{id}/rollback`; without a revision it is the last that came up well before the present one. */
export const rollbackAgentBody = z.strictObject({
  revision: whole(1, 2_147_483_647).optional(),
}, "must be an object");

/** `stop`, `start` and `delete` take nothing; `{}` is what many clients send. */
export const emptyBody = z.strictObject({}, "must be empty");

/** Body of `POST /api/security/scan/{id}`; the seeds send none. `force` scans anew although the last scan is fresh. */
export const scanAgentBody = z.strictObject({
  force: z.boolean("must be true or false").default(false),
}, "must be an object");
