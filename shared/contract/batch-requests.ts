import { z } from "zod";
import {
  restartAgentBody,
  rollbackAgentBody,
  scaleAgentBody,
  updateAgentBody,
} from "./agent-requests.ts";
import { agentSpec, scalingOf } from "./agent-spec.ts";
import { whole } from "./request-fields.ts";

/** What a batch can do: each operation of a single agent; `deploy` is another word for `start`. */
export const BATCH_OPERATIONS = [
  "restart",
  "stop",
  "start",
  "scale",
  "update",
  "rollback",
  "delete",
  "deploy",
] as const;
export type BatchOperation = typeof BATCH_OPERATIONS[number];

/** The options that the single operations take. */
const OPTIONS_OF: Partial<Record<BatchOperation, readonly string[]>> = {
  restart: ["restart_policy", "max_unavailable"],
  scale: ["replicas", "strategy", "scaling_policy"],
  update: ["changes"],
  rollback: ["revision"],
};

const MOST_AGENTS = 100;
const manyAgents = `must name 1 to ${MOST_AGENTS} agents`;

const options = z.strictObject({
  max_concurrent: whole(1, 100).optional(),
  restart_policy: restartAgentBody.shape.restart_policy.unwrap().optional(),
  max_unavailable: restartAgentBody.shape.max_unavailable.unwrap().optional(),
  replicas: scaleAgentBody.shape.replicas.optional(),
  strategy: scaleAgentBody.shape.strategy.unwrap().optional(),
  scaling_policy: scaleAgentBody.shape.scaling_policy,
  changes: updateAgentBody.optional(),
  revision: rollbackAgentBody.shape.revision,
}, "must be an object");

/**
 * Body of `POST /api/agents/batch` (seed 000: `operation`, `agent_ids`, `restart_policy`,
 * `max_concurrent`); the further options are those of the single operations.
 */
export const batchBody = z.strictObject({
  operation: z.enum(BATCH_OPERATIONS, `must be one of ${BATCH_OPERATIONS.join(", ")}`),
  agent_ids: z.array(z.uuid("must be a UUID").toLowerCase(), manyAgents)
    .min(1, manyAgents).max(MOST_AGENTS, manyAgents)
    .refine((ids) => new Set(ids).size === ids.length, "must name each agent once"),
  options: options.default({}),
}, "must be an object").superRefine(({ operation, options }, context) => {
  const taken = OPTIONS_OF[operation] ?? [];
  const say = (option: string, message: string) =>
    context.addIssue({ code: "custom", path: ["options", option], message });
  for (const option of Object.keys(options)) {
    if (option !== "max_concurrent" && !taken.includes(option)) {
      say(option, `is no option of ${operation}`);
    }
  }
  if (operation === "scale" && options.replicas === undefined) say("replicas", "is required");
  if (operation === "update" && options.changes === undefined) say("changes", "is required");
});
export type BatchBody = z.output<typeof batchBody>;

/**
 * The options in the form that `create_batch` takes.
 * @throws ApiError VALIDATION_ERROR as `agentSpec`
 */
export function batchOptions({ options }: BatchBody): Record<string, unknown> {
  const { scaling_policy, changes, ...rest } = options;
  return {
    ...rest,
    ...(scaling_policy === undefined ? {} : { scaling_policy: scalingOf({ scaling_policy }) }),
    ...(changes === undefined ? {} : { changes: agentSpec(changes) }),
  };
}
