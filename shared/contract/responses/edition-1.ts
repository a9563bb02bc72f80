import { z } from "zod";
import {
  count,
  deployTime,
  eventType,
  failure,
  figure,
  milliseconds,
  percent,
  permission,
  severity,
  size,
  time,
  uptime,
  uuid,
} from "./fields.ts";

/** Answers of edition 1, to the letter of seed 001. */

export const state1 = z.string().regex(/^[A-Z]+$/);
const health = z.enum(["HEALTHY", "UNHEALTHY", "DEGRADED", "STARTING"]).nullable();

export const created1 = z.object({
  agentId: uuid,
  status: state1,
  createdAt: time,
  estimatedDeployTime: deployTime.nullable(),
});

export const status1 = z.object({
  agentId: uuid,
  status: state1,
  url: z.url().nullable(),
  health: z.object({
    overall: health,
    kubernetes: z.object({
      status: health,
      replicas: count.nullable(),
      readyReplicas: count.nullable(),
    }),
    application: z.object({
      status: health,
      uptime: uptime.nullable(),
      responseTime: milliseconds.nullable(),
    }),
  }),
  deployedAt: time.nullable(),
  lastUpdated: time,
  // Ours.
  error: failure.nullable(),
});

export const list1 = z.object({
  agents: z.array(z.object({
    agentId: uuid,
    name: z.string(),
    status: state1,
    owner: uuid,
    createdAt: time,
    url: z.url().nullable(),
  })),
  total: count,
  limit: count,
  offset: count,
});

export const scaled1 = z.object({
  agentId: uuid,
  currentReplicas: count,
  targetReplicas: count,
  status: z.literal("SCALING"),
  updatedAt: time,
});

/** `PUT /api/agents/{id}`, of which seed 001 documents no answer: edition 2's without user and event. */
export const updated1 = z.object({
  agentId: uuid,
  status: state1,
  changes_applied: z.record(z.string(), z.literal(true)),
  updatedAt: time,
});

const announced = (status: string, message: string) =>
  z.object({
    agentId: uuid,
    status: z.literal(status),
    message: z.literal(message),
    timestamp: time,
  });

export const restarted1 = announced("RESTARTING", "Agent restart initiated");
export const deleted1 = announced("DELETING", "Agent deletion initiated");

export const metrics1 = z.object({
  agentId: uuid,
  metrics: z.object({
    cpu: z.object({ usage: figure, limit: figure, percentage: percent }),
    memory: z.object({ usage: figure, limit: figure, percentage: percent }),
    network: z.object({ bytesIn: figure, bytesOut: figure }),
    requests: z.object({
      total: figure,
      success: figure,
      errors: figure,
      rate: figure,
      // Ours.
      error_rate: figure,
      response_time_ms: figure,
    }),
  }),
  timestamp: time,
});

export const logLine1 = z.object({
  timestamp: time,
  level: z.enum(["DEBUG", "INFO", "WARN", "ERROR"]),
  message: z.string(),
  pod: z.string().nullable(),
});

export const logs1 = z.object({
  agentId: uuid,
  logs: z.array(logLine1),
  totalLines: count,
  truncated: z.boolean(),
  // Ours: cursors for `before` and `after`.
  nextCursor: z.string().nullable(),
  previousCursor: z.string().nullable(),
});

export const generatedKey1 = z.object({
  apiKey: z.string().startsWith("alk_"),
  keyId: z.string(),
  expiresAt: time,
});

export const profile1 = z.object({
  userId: uuid,
  username: z.string(),
  email: z.email().nullable(),
  role: z.enum(["USER", "OPERATOR", "ADMIN"]),
  createdAt: time,
  lastLogin: time.nullable(),
  permissions: z.array(permission),
});

const condition1 = z.enum(["HEALTHY", "DEGRADED", "UNHEALTHY", "UNAVAILABLE"]);

export const health1 = z.object({
  status: condition1,
  timestamp: time,
  version: z.string(),
  components: z.object({
    database: z.object({
      status: condition1,
      responseTime: milliseconds.nullable(),
      connections: count.nullable(),
    }),
    kubernetes: z.object({ status: condition1, nodes: count.nullable(), pods: count.nullable() }),
    redis: z.object({
      status: condition1,
      memory: size.nullable(),
      connections: count.nullable(),
    }),
    registry: z.object({ status: condition1, available: z.boolean().nullable() }),
  }),
});

const resource = z.object({ total: figure, used: figure, percentage: percent });

export const system1 = z.object({
  system: z.object({
    totalAgents: count,
    runningAgents: count,
    failedAgents: count,
    deployments: z.object({ successful: count, failed: count, successRate: percent }),
  }),
  resources: z.object({ cpu: resource, memory: resource, storage: resource }),
  timestamp: time,
});

export const securityEvents1 = z.object({
  events: z.array(z.object({
    id: uuid,
    type: eventType,
    severity,
    agentId: uuid.nullable(),
    message: z.string(),
    timestamp: time,
    details: z.record(z.string(), z.unknown()),
  })),
  total: count,
});

const scanResults1 = z.object({
  passed: z.boolean().nullable(),
  // Null where nobody scanned the images: unknown is not none.
  vulnerabilities: z.object({ critical: count, high: count, medium: count, low: count }).nullable(),
  recommendations: z.array(z.string()),
});

/** Results and time of a scan that is not finished, or has failed, are null. */
export const scan1 = z.object({
  agentId: uuid,
  scanId: uuid,
  status: z.enum(["QUEUED", "RUNNING", "COMPLETED", "FAILED"]),
  results: scanResults1.nullable(),
  scannedAt: time.nullable(),
});

export const error1 = z.object({
  error: z.object({
    code: z.string(),
    message: z.string(),
    timestamp: time,
    requestId: z.string(),
  }),
});
