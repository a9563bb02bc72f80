import { z } from "zod";
import {
  count,
  failure,
  figure,
  milliseconds,
  percent,
  permission,
  time,
  uptime,
  uuid,
} from "./fields.ts";

/** Answers of edition 3, to the letter of seed 000. */

export const state3 = z.string().regex(/^[a-z]+$/);
const shortAgent = z.object({ id: uuid, name: z.string(), status: state3 });

const step = z.object({
  name: z.string(),
  status: z.enum(["pending", "in_progress", "completed", "failed"]),
  started_at: time.optional(),
  completed_at: time.optional(),
});

const progress = z.object({
  status: z.enum(["initiating", "in_progress", "completed", "failed", "cancelled"]),
  progress: z.number().min(0).max(100),
  estimated_completion: time.nullable(),
  steps: z.array(step),
});

export const created3 = z.object({
  success: z.literal(true),
  agent: shortAgent.extend({
    created_at: time,
    supabase: z.object({
      database_id: uuid,
      real_time_channel: z.string(),
      real_time_topic: z.string(),
    }),
    portainer: z.object({
      stack_id: z.string().nullable(),
      stack_name: z.string(),
      endpoint_id: z.number().int().nullable(),
      deployment_url: z.string().nullable(),
    }),
  }),
  deployment: progress,
});

const container = z.object({
  id: z.string(),
  name: z.string(),
  status: z.enum(["created", "running", "restarting", "exited", "dead", "paused"]),
  health: z.enum(["healthy", "unhealthy", "starting"]).nullable(),
  uptime: uptime.nullable(),
  restart_count: count,
});

const service = z.object({
  id: z.string(),
  name: z.string(),
  replicas: z.object({ running: count, desired: count }),
  ports: z.array(z.object({
    published: z.number().int().nullable(),
    target: z.number().int(),
    protocol: z.string(),
  })),
});

export const agent3 = z.object({
  agent: shortAgent.extend({
    created_at: time,
    deployed_at: time.nullable(),
    revision: count.nullable(),
    last_activity: time.nullable(),
    supabase: z.object({ database_record: z.object({ id: uuid, updated_at: time }) }),
    portainer: z.object({
      stack_id: z.string().nullable(),
      stack_status: z.enum(["active", "inactive"]).nullable(),
      containers: z.array(container),
      services: z.array(service),
    }),
    metrics: z.object({
      cpu_usage: percent,
      memory_usage: figure,
      memory_limit: figure,
      network_rx: figure,
      network_tx: figure,
      requests_per_minute: figure,
      error_rate: figure,
      uptime: figure,
    }),
    health: z.object({
      status: z.enum(["healthy", "unhealthy", "starting"]).nullable(),
      last_check: time.nullable(),
      checks: z.array(z.object({
        name: z.string(),
        status: z.enum(["passing", "failing"]),
        response_time: milliseconds.nullable(),
      })),
    }),
    // Ours.
    error: failure.nullable(),
    operation: progress.extend({
      operation_id: uuid,
      kind: z.string(),
      error: failure.nullable(),
    }).nullable(),
  }),
});

export const list3 = z.object({
  agents: z.array(shortAgent.extend({
    platform: z.string().nullable(),
    created_at: time,
    containers: z.object({ count, healthy: count, unhealthy: count }),
    metrics: z.object({
      cpu_usage: percent,
      memory_usage: figure,
      requests_per_minute: figure,
    }),
  })),
  pagination: z.object({ total: count, limit: count, offset: count, has_more: z.boolean() }),
  summary: z.object({
    total_agents: count,
    running: count,
    stopped: count,
    deploying: count,
    failed: count,
  }),
});

export const search3 = z.object({
  results: z.array(shortAgent.extend({
    description: z.string().nullable(),
    platform: z.string().nullable(),
    relevance_score: z.number().min(0).max(1).nullable(),
    highlighted_fields: z.object({ name: z.string(), description: z.string().nullable() }),
  })),
  total_results: count,
  search_time: milliseconds,
});

const commandStatus = z.enum(["in_progress", "completed", "failed", "cancelled"]);

export const scaled3 = z.object({
  success: z.literal(true),
  operation_id: uuid,
  scaling: z.object({
    from_replicas: count,
    to_replicas: count,
    strategy: z.enum(["rolling", "recreate"]),
    estimated_completion: time.nullable(),
    status: commandStatus,
  }),
  agent: shortAgent.extend({ status: z.literal("scaling") }),
});

/** Revisions are in no seed; a rollback is answered in scale's form. */
export const rolledBack3 = z.object({
  success: z.literal(true),
  operation_id: uuid,
  rollback: z.object({
    from_revision: count.nullable(),
    to_revision: count,
    estimated_completion: time.nullable(),
    status: commandStatus,
  }),
  agent: shortAgent.extend({ status: z.literal("updating") }),
});

export const revisions3 = z.object({
  revisions: z.array(z.object({
    revision: count,
    status: z.enum(["rolling_out", "deployed", "failed"]),
    running: z.boolean(),
    created_at: time,
    finished_at: time.nullable(),
    operation_id: uuid,
    restored_from: count.nullable(),
    definition: z.object({
      name: z.string(),
      replicas: count,
      resources: z.object({ memory: z.string().optional(), cpu: z.string().optional() }),
      portainer: z.record(z.string(), z.unknown()),
      template: z.object({ name: z.string(), version: count, image: z.string() }).nullable(),
    }),
    environment: z.array(z.strictObject({ name: z.string() })),
    error: failure.nullable(),
  })),
  running_revision: count.nullable(),
  pagination: z.object({ limit: count, has_more: z.boolean(), next_before: count.nullable() }),
});

/** Restart, stop and start: seed 000 documents no answer; ours follows scale's. */
export const command3 = z.object({
  success: z.literal(true),
  operation_id: uuid,
  agent: shortAgent,
});

const batchStatus = z.enum([
  "in_progress",
  "completed",
  "partially_completed",
  "failed",
  "cancelled",
]);
const agentError = z.object({
  code: z.string(),
  message: z.string(),
  details: z.record(z.string(), z.unknown()),
});

/** Batches: seed 000 documents no answer; ours follows scale's. */
export const batch3 = z.object({
  success: z.boolean(),
  batch_id: uuid,
  operation: z.string(),
  status: batchStatus,
  max_concurrent: count,
  total: count,
  accepted: count,
  pending: count,
  running: count,
  succeeded: count,
  failed: count,
  cancelled: count,
  rejected: z.array(z.object({ agent_id: uuid, error: agentError })),
  results: z.array(z.object({
    agent_id: uuid,
    operation_id: uuid.nullable(),
    status: z.enum(["pending", ...commandStatus.options]),
    progress: figure,
    error: agentError.nullable(),
    started_at: time.nullable(),
    completed_at: time.nullable(),
  })),
  created_at: time,
  completed_at: time.nullable(),
});

const points = z.array(z.object({ timestamp: time, value: figure }));
const series = { current: figure, average: figure, max: figure, min: figure, data_points: points };

export const metrics3 = z.object({
  metrics: z.object({
    cpu: z.object(series),
    memory: z.object({ ...series, limit: figure }),
    network: z.object({ rx_bytes: figure, tx_bytes: figure, rx_rate: figure, tx_rate: figure }),
    // Ours: what the agent reports of its requests.
    requests_per_minute: z.object(series),
    error_rate: z.object(series),
    response_time_ms: z.object(series),
  }),
  timeframe: z.string(),
  interval: z.string(),
});

export const logLine3 = z.object({
  timestamp: time,
  container_id: z.string().nullable(),
  container_name: z.string().nullable(),
  level: z.enum(["debug", "info", "warn", "error"]),
  message: z.string(),
  source: z.string().nullable(),
});

export const logs3 = z.object({
  logs: z.array(logLine3),
  pagination: z.object({
    total_lines: count,
    returned_lines: count,
    has_more: z.boolean(),
    // Ours: cursors for `before` and `after`.
    next_cursor: z.string().nullable(),
    previous_cursor: z.string().nullable(),
  }),
});

const condition3 = z.enum(["healthy", "degraded", "unhealthy", "unavailable"]);
const component3 = z.object({ status: condition3 });
const timed3 = component3.extend({
  response_time: milliseconds.nullable(),
  last_check: time.nullable(),
});

export const emitted3 = z.object({
  success: z.literal(true),
  event: z.object({
    id: uuid,
    agent_id: uuid,
    channel: z.string(),
    event: z.string(),
    topic: z.string(),
  }),
});

/** Ours: what agents report, and the keys by which they do. */
const reported = z.object({ success: z.literal(true), agent_id: uuid });

export const agentKey3 = reported.extend({
  api_key: z.string().startsWith("alk_"),
  key_id: uuid,
  expires_at: time,
  permissions: z.array(permission),
});

export const storedLogs3 = reported.extend({
  accepted: count,
  last_id: z.string(),
  duplicate: z.boolean(),
});

export const storedMetrics3 = reported.extend({
  stored: z.boolean(),
  reported: z.object({
    instances: count,
    requests_total: figure,
    requests_failed: figure,
    requests_per_minute: figure,
    error_rate: figure,
    response_time_ms: figure,
    checks: z.array(z.object({
      name: z.string(),
      status: z.enum(["passing", "failing"]),
      response_time_ms: figure,
    })),
  }).nullable(),
});

export const storedStatus3 = reported.extend({
  status: z.enum(["idle", "thinking", "responding", "error", "offline"]),
  last_activity: time,
});

export const storedMessages3 = reported.extend({
  conversation_id: z.string(),
  accepted: count,
  already_known: count,
  duplicate: z.boolean(),
});

export const health3 = z.object({
  status: condition3,
  timestamp: time,
  components: z.object({
    supabase: timed3,
    portainer: timed3.extend({
      endpoints: z.object({ kubernetes: condition3, docker: condition3 }),
    }),
    kubernetes: component3.extend({
      nodes: z.object({ total: count, ready: count, not_ready: count }).nullable(),
      pods: z.object({
        total: count,
        running: count.nullable(),
        pending: count.nullable(),
        failed: count.nullable(),
      }).nullable(),
    }),
    database: component3.extend({
      connections: z.object({
        active: count.nullable(),
        idle: count.nullable(),
        max: count.nullable(),
      }),
    }),
  }),
  version: z.string(),
  uptime: uptime.nullable(),
});

export const system3 = z.object({
  system: z.object({
    cpu_usage: percent,
    memory_usage: percent,
    disk_usage: percent,
    network_rx: figure,
    network_tx: figure,
  }),
  containers: z.object({ total: count, running: count, stopped: count, failed: count }),
  agents: z.object({ total: count, active: count, deploying: count, failed: count }),
  performance: z.object({
    average_response_time: milliseconds.nullable(),
    requests_per_minute: z.number().nonnegative(),
    error_rate: z.number().min(0).max(1).nullable(),
  }),
});

export const error3 = z.object({
  error: z.object({
    code: z.string(),
    message: z.string(),
    details: z.record(z.string(), z.unknown()),
    timestamp: time,
    correlation_id: z.string(),
  }),
});
