import { z } from "zod";
import { count, time, uuid } from "./fields.ts";

/** Answers of edition 3 about stacks. Seed 000 shows the one of `GET /api/stacks/{id}`; the others follow it. */

const status = z.enum([
  "active",
  "deploying",
  "updating",
  "rolling_back",
  "failed",
  "deleting",
]);

const shortStack = z.object({ id: uuid, name: z.string(), status });

const stack = shortStack.extend({
  created_at: time,
  updated_at: time,
  services: z.array(z.object({
    name: z.string(),
    replicas: z.object({ running: count, desired: count }),
    image: z.string(),
    ports: z.array(z.number().int().positive()),
    status: z.enum(["running", "degraded", "pending", "failed"]),
  })),
  networks: z.array(z.object({ name: z.string(), driver: z.string(), encrypted: z.boolean() })),
  volumes: z.array(z.object({ name: z.string(), driver: z.string() })),
  template: z.object({ name: z.string(), version: count }),
  labels: z.record(z.string(), z.string()),
  // Names only: values never leave Vault.
  environment: z.array(z.object({ name: z.string() }).strict()),
  portainer_stack_id: z.string().nullable(),
});

/** `GET /api/stacks/{id}` */
export const stack3 = z.object({ stack });

/** `GET /api/stacks` */
export const stacks3 = z.object({
  stacks: z.array(stack),
  pagination: z.object({ total: count, limit: count, offset: count, has_more: z.boolean() }),
});

const progress = z.object({
  status: z.enum(["initiating", "in_progress", "completed", "failed", "cancelled"]),
  progress: z.number().min(0).max(100),
  estimated_completion: time.nullable(),
  steps: z.array(z.object({
    name: z.string(),
    status: z.enum(["pending", "in_progress", "completed", "failed"]),
    started_at: time.optional(),
    completed_at: time.optional(),
  })),
});

/** `POST /api/stacks` */
export const stackCreated3 = z.object({
  success: z.literal(true),
  operation_id: uuid,
  stack,
  deployment: progress,
});

const names = z.object({
  added: z.array(z.string()),
  removed: z.array(z.string()),
  changed: z.array(z.string()),
});
const fromTo = <Value extends z.ZodType>(value: Value) => z.object({ from: value, to: value });
const templateName = z.object({ name: z.string(), version: count });

/** `PUT /api/stacks/{id}`; without a difference there is no operation. */
export const stackUpdated3 = z.object({
  success: z.literal(true),
  operation_id: uuid.nullable(),
  stack,
  changes: z.object({
    template: fromTo(templateName).nullable(),
    services: names.extend({
      changed: z.array(z.object({
        name: z.string(),
        replicas: fromTo(count).optional(),
        image: fromTo(z.string()).optional(),
        fields: z.array(z.string()).optional(),
      })),
    }),
    environment: names,
    labels: names,
    networks: names,
    volumes: names,
  }),
  update: progress.nullable(),
});

/** `DELETE /api/stacks/{id}` */
export const stackDeleted3 = z.object({
  success: z.literal(true),
  operation_id: uuid,
  stack: shortStack,
  deletion: progress,
});
