import { z } from "zod";
import {
  created1,
  health1,
  list1,
  logLine1,
  logs1,
  metrics1,
  scaled1,
  scan1,
  status1,
  system1,
  updated1,
} from "./edition-1.ts";
import {
  count,
  eventType,
  figure,
  milliseconds,
  permission,
  severity,
  size,
  time,
  uuid,
} from "./fields.ts";

/** Answers of edition 2, to the letter of seed 002: mostly edition 1 with the user and Supabase. */

export const created2 = created1.extend({
  user_id: uuid,
  supabase_integration: z.object({
    tables_created: z.boolean(),
    rls_policies_applied: z.boolean(),
    real_time_enabled: z.boolean(),
  }),
});

export const status2 = status1.extend({
  name: z.string(),
  user_id: uuid,
  health: status1.shape.health.extend({
    supabase: z.object({
      connection: z.literal("HEALTHY"),
      real_time_active: z.boolean(),
      rls_policies: z.enum(["ACTIVE", "INACTIVE"]),
    }),
  }),
  supabase_config: z.object({
    project_ref: z.string().nullable(),
    tables: z.object({
      conversations: z.string().nullable(),
      metrics: z.string().nullable(),
      logs: z.string().nullable(),
    }),
  }),
});

const listed2 = list1.shape.agents.element.omit({ owner: true }).extend({
  user_id: uuid,
  platforms: z.array(z.string()),
  supabase_integration: z.boolean(),
});
export const list2 = list1.extend({ agents: z.array(listed2), user_id: uuid });

export const scaled2 = scaled1.extend({
  user_id: uuid,
  scaling_event_logged: z.boolean(),
  supabase_event_id: uuid,
});

export const updated2 = updated1.extend({ user_id: uuid, supabase_event_id: uuid.nullable() });

export const restarted2 = z.object({
  agentId: uuid,
  user_id: uuid,
  status: z.literal("RESTARTING"),
  message: z.literal("Agent restart initiated"),
  supabase_event_logged: z.boolean(),
  real_time_notification_sent: z.boolean(),
  timestamp: time,
});

export const deleted2 = z.object({
  agentId: uuid,
  user_id: uuid,
  status: z.literal("DELETING"),
  message: z.literal("Agent deletion initiated"),
  supabase_cleanup: z.object({
    data_retention_policy: z.string().regex(/^\d+_days$/),
    personal_data_removal: z.literal("immediate"),
    audit_log_preserved: z.literal(true),
  }),
  timestamp: time,
});

/** `DELETE /api/users/profile`: in the manner of an agent's deletion. */
export const erased2 = z.object({
  user_id: uuid,
  status: z.enum(["DELETING", "DELETED"]),
  message: z.literal("Account deletion initiated"),
  supabase_cleanup: deleted2.shape.supabase_cleanup,
  erasure: z.object({
    id: uuid,
    state: z.enum(["pending", "finished"]),
    agents: z.number().int(),
    stacks: z.number().int(),
    pending: z.record(z.string(), z.union([z.number(), z.boolean()])),
    requested_at: time,
    finished_at: time.nullable(),
  }),
  timestamp: time,
});

/** `GET /api/users/export`: the rows of each table, as they are stored. */
export const exported2 = z.object({
  exported_at: time,
  user_id: uuid,
  data: z.record(z.string(), z.array(z.unknown())),
});

export const metrics2 = metrics1.extend({
  user_id: uuid,
  metrics: metrics1.shape.metrics.extend({
    supabase: z.object({
      database_connections: figure,
      real_time_subscriptions: figure,
      rls_queries_per_minute: figure,
      auth_requests_per_hour: figure,
    }),
  }),
});

export const logLine2 = logLine1.omit({ pod: true }).extend({
  id: z.string(),
  source: z.string().nullable(),
  metadata: z.record(z.string(), z.unknown()),
});

export const logs2 = logs1.extend({
  user_id: uuid,
  logs: z.array(logLine2),
  real_time_available: z.boolean(),
});

export const profile2 = z.object({
  user: z.object({
    id: uuid,
    email: z.email().nullable(),
    created_at: time,
    last_sign_in_at: time.nullable(),
    app_metadata: z.record(z.string(), z.unknown()),
    user_metadata: z.looseObject({ permissions: z.array(permission) }),
    role: z.literal("authenticated"),
  }),
  profile: z.object({
    username: z.string(),
    notification_preferences: z.record(z.string(), z.boolean()),
    agent_count: count,
    storage_used: size.nullable(),
  }),
});

const component2 = z.object({ status: health1.shape.status });

export const health2 = z.object({
  status: health1.shape.status,
  timestamp: time,
  version: z.string(),
  user_id: uuid,
  components: z.object({
    supabase: component2.extend({
      database: component2.extend({
        responseTime: milliseconds.nullable(),
        connections: count.nullable(),
        rls_active: z.boolean().nullable(),
      }),
      auth: component2.extend({
        active_sessions: count.nullable(),
        jwt_valid: z.boolean().nullable(),
      }),
      realtime: component2.extend({
        active_connections: count.nullable(),
        subscriptions: count.nullable(),
      }),
      storage: component2.extend({ buckets: count.nullable(), total_size: size.nullable() }),
    }),
    kubernetes: component2.extend({
      nodes: count.nullable(),
      pods: count.nullable(),
      user_agents: count,
    }),
    container_registry: component2.extend({
      available: z.boolean().nullable(),
      last_scan: time.nullable(),
    }),
  }),
  user_permissions: z.array(permission),
});

/** Seed 002 repeats seed 001 here. */
export const system2 = system1;

export const securityEvents2 = z.object({
  events: z.array(z.object({
    id: uuid,
    event_type: eventType,
    severity,
    user_id: uuid.nullable(),
    agent_id: uuid.nullable(),
    message: z.string(),
    timestamp: time,
    ip_address: z.union([z.ipv4(), z.ipv6()]).nullable(),
    user_agent: z.string().nullable(),
    details: z.record(z.string(), z.unknown()),
    automated_response: z.object({ action_taken: z.string(), duration: z.string().optional() })
      .nullable(),
  })),
  total: count,
  user_id: uuid,
});

export const scan2 = scan1.extend({
  user_id: uuid,
  results: scan1.shape.results.unwrap().extend({
    supabase_compliance: z.object({
      rls_policies_verified: z.boolean(),
      data_encryption_enabled: z.boolean(),
      audit_logging_active: z.boolean(),
    }),
  }).nullable(),
  security_event_logged: z.boolean(),
});

/** `POST /realtime/v1/channels`, of which seed 002 documents no answer. */
export const channel2 = z.object({
  topic: z.string(),
  kind: z.enum(["broadcast", "postgres_changes"]),
  status: z.literal("AVAILABLE"),
  websocket_url: z.url(),
  /** What to send to join. */
  join: z.object({
    topic: z.string(),
    event: z.literal("phx_join"),
    payload: z.object({
      config: z.record(z.string(), z.unknown()),
      access_token: z.string(),
    }),
    ref: z.string(),
    join_ref: z.string(),
  }),
  /** What to send every so many seconds. */
  heartbeat: z.object({
    topic: z.literal("phoenix"),
    event: z.literal("heartbeat"),
    payload: z.object({}),
    ref: z.string(),
  }),
  heartbeat_seconds: count,
  expires_at: time,
});

export const error2 = z.object({
  error: z.object({
    code: z.string(),
    message: z.string(),
    timestamp: time,
    requestId: z.string(),
    user_id: uuid.nullable(),
    supabase_details: z.object({
      rls_applied: z.boolean(),
      user_isolation: z.string().nullable(),
    }),
  }),
});
