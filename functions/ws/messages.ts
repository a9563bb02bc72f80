import { z } from "zod";

/** What can be followed: seed 000 calls it a channel, seed 004 an event. */
export const TOPICS = ["agent_status", "container_event", "metric_update", "agent.status"] as const;
export type Topic = typeof TOPICS[number];

/** A channel that an agent has opened in its `supabase_config.real_time`. */
export interface AgentChannel {
  agentId: string;
  channel: string;
}

/** Names of seed 004 whose source does not exist yet; asking for one is answered with an error. */
export const LATER_TOPICS = [
  "task.created",
  "task.updated",
  "task.completed",
  "task.failed",
  "worker.online",
  "worker.offline",
  "message.new",
  "notification",
  "system.alert",
];

const token = z.string().min(1).max(16_384).optional();
const agentId = z.uuid().optional();

const clientMessage = z.discriminatedUnion("type", [
  z.object({ type: z.literal("ping") }),
  z.object({ type: z.literal("auth"), token: z.string().min(1).max(16_384) }),
  z.object({
    type: z.enum(["subscribe", "unsubscribe"]),
    channel: z.string().max(100).optional(),
    event: z.string().max(100).optional(),
    agent_id: agentId,
    token,
  }).refine(({ channel, event }) => (channel === undefined) !== (event === undefined), {
    message: "give either channel or event",
    path: ["channel"],
  }),
]);

export type ClientMessage = z.infer<typeof clientMessage>;

/** Reads one frame of a client; a string says what is wrong with it. */
export function readMessage(text: string): ClientMessage | string {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return "The message is no JSON";
  }
  const parsed = clientMessage.safeParse(value);
  if (parsed.success) return parsed.data;
  const issues = parsed.error.issues.map(({ path, message }) =>
    path.length > 0 ? `${path.join(".")}: ${message}` : message
  );
  return issues.join("; ");
}
