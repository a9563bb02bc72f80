/**
 * What the database says of an agent, as the presenters of all editions get it: rows as JSON, times
 * as text. Only the columns that an answer shows are named; rows may hold more.
 */

export interface AgentRow {
  id: string;
  user_id: string;
  name: string;
  description: string | null;
  status: string;
  plugins: string[];
  platforms: string[];
  replicas: number;
  resources: { memory?: string; cpu?: string };
  portainer: { stack_name?: string };
  supabase_config: {
    project_ref?: string;
    real_time?: { enabled?: boolean; channels?: string[] };
  };
  last_activity_at: string | null;
  created_at: string;
  updated_at: string;
}

export interface ContainerRow {
  id: string;
  name: string;
  status: string;
  health: "healthy" | "unhealthy" | "starting" | null;
  image?: string | null;
  started_at: string | null;
  finished_at?: string | null;
  restart_count: number;
}

export interface ServiceRow {
  id: string;
  name: string;
  image?: string | null;
  replicas: { running: number; desired: number };
  ports: { published: number | null; target: number; protocol: string }[];
}

export interface HealthCheckRow {
  name: string;
  status: "passing" | "failing";
  /** Such as `25ms`. */
  response_time: string | null;
}

export interface DeploymentRow {
  id: string;
  state: string;
  orchestrator: string | null;
  endpoint_id: number | null;
  stack_id: string | null;
  stack_name: string;
  namespace: string | null;
  /** Of `agent_revisions`; 0 before the first came up. */
  revision: number;
  replicas_desired: number;
  replicas_ready: number;
  url: string | null;
  console_url: string | null;
  containers: ContainerRow[];
  services: ServiceRow[];
  health: { status: string; last_check: string | null; checks: HealthCheckRow[] };
  error: { code: string; message: string } | null;
  deployed_at: string | null;
  updated_at: string;
}

export interface StepRow {
  name: string;
  status: "pending" | "in_progress" | "completed" | "failed";
  started_at?: string | null;
  completed_at?: string | null;
}

export interface OperationRow {
  id: string;
  kind: string;
  state: string;
  request: Record<string, unknown>;
  steps: StepRow[];
  /** Percent. */
  progress: number;
  estimated_completion: string | null;
  created_at: string;
  /** Why it failed. */
  error?: Record<string, unknown> | null;
}

/** Cores and bytes, summed over the replicas; null for what could not be measured. */
export interface MetricsRow {
  timestamp: string;
  cpu_usage: number | null;
  cpu_limit: number | null;
  memory_usage: number | null;
  memory_limit: number | null;
  network_rx: number | null;
  network_tx: number | null;
  requests_total: number | null;
  requests_failed: number | null;
  requests_per_minute: number | null;
  error_rate: number | null;
  response_time_ms: number | null;
}

/** What the instances of an agent freshly reported of its requests, together. */
export interface ReportedFacts {
  instances: number;
  requests_total: number | null;
  requests_failed: number | null;
  requests_per_minute: number | null;
  /** 0 to 1. */
  error_rate: number | null;
  response_time_ms: number | null;
  checks: { name: string; status: "passing" | "failing"; response_time_ms: number | null }[];
}

/** What the catalog says of the Supabase side; each null when it could not be read. */
export interface PlatformFacts {
  tablesExist: boolean;
  rlsActive: boolean;
  /** The agents' tables are in the publication that Realtime follows. */
  realTimeActive: boolean;
  logsRealTime: boolean;
  /** Name of the table when it exists. */
  conversationsTable: string | null;
  metricsTable: string | null;
  logsTable: string | null;
}

/** How long operations of the kind took lately on the cluster; null without any. */
export interface Estimate {
  low_seconds: number;
  median_seconds: number;
  high_seconds: number;
  samples: number;
}

/** Answer of a command RPC. */
export interface CommandFacts {
  agent: AgentRow;
  deployment: DeploymentRow | null;
  operation: OperationRow | null;
  event_id: string | null;
  estimate: Estimate | null;
  /** `update_agent` only. */
  changes?: Record<string, boolean>;
  /** `delete_agent` only. */
  retention_days?: number;
}

export interface RevisionRow {
  revision: number;
  state: "rolling_out" | "deployed" | "failed";
  running: boolean;
  definition: Record<string, unknown>;
  environment_keys: string[];
  restored_from: number | null;
  operation_id: string;
  error: { code: string; message: string } | null;
  created_at: string;
  finished_at: string | null;
}

/** Answer of `list_agent_revisions`. */
export interface RevisionListFacts {
  /** Newest first. */
  revisions: RevisionRow[];
  running: number | null;
  limit: number;
  has_more: boolean;
}

/** Answer of `emit_agent_event`. */
export interface EmittedFacts {
  /** Of the message, as clients receive it. */
  id: string;
  agent_id: string;
  channel: string;
  event: string;
  topic: string;
}

/** Answer of `agent_snapshot`. */
export interface SnapshotFacts {
  agent: AgentRow;
  deployment: DeploymentRow | null;
  operation: OperationRow | null;
  metrics: MetricsRow | null;
  reported: ReportedFacts | null;
}

/** Answer of `list_agents`. */
export interface ListFacts {
  agents: { agent: AgentRow; deployment: DeploymentRow | null; metrics: MetricsRow | null }[];
  total: number;
  summary: {
    total_agents: number;
    running: number;
    stopped: number;
    deploying: number;
    failed: number;
  };
}

/** What a search found: an agent as far as its answer shows it. */
interface FoundAgent {
  agent: Pick<
    AgentRow,
    | "id"
    | "user_id"
    | "name"
    | "description"
    | "status"
    | "platforms"
    | "created_at"
    | "last_activity_at"
  >;
  deployment: Pick<DeploymentRow, "state"> | null;
  metrics: MetricsRow | null;
  /** 0–1; null when no words were searched for. */
  relevance_score: number | null;
  /** HTML: what matches in `<mark>`, all else escaped. */
  highlighted_fields: { name: string; description: string | null; platform: string };
}

/** Answer of `search_agents`. */
export interface SearchFacts {
  results: FoundAgent[];
  total: number;
  /** Too many of everybody's match to be counted: the newest are ranked. */
  total_is_estimate: boolean;
  limit: number;
  offset: number;
  /** Whether only similar words were found, so that the query was probably mistyped. */
  similar: boolean;
  /** Milliseconds. */
  search_ms: number;
}

/** Answer of `create_batch`, `batch_snapshot` and `cancel_batch`. */
export interface BatchFacts {
  batch: {
    id: string;
    operation: string;
    state: "running" | "succeeded" | "partial" | "failed" | "cancelled";
    max_concurrent: number;
    total: number;
    waiting: number;
    running: number;
    succeeded: number;
    failed: number;
    cancelled: number;
    created_at: string;
    finished_at: string | null;
  };
  /** In the order of the request. */
  results: {
    agent_id: string;
    /** `rejected`, `waiting` or the state of the operation. */
    state: string;
    operation_id: string | null;
    progress: number | null;
    error: { code: string; message: string; details?: unknown } | null;
    started_at: string | null;
    finished_at: string | null;
  }[];
}

export interface LogRow {
  id: number | string;
  timestamp: string;
  level: string;
  message: string;
  source: string | null;
  container_id: string | null;
  container_name: string | null;
  metadata: Record<string, unknown>;
}

/** What a presenter may need beside the facts of its route. */
export interface AnswerContext {
  userId: string;
  now: Date;
  platform: PlatformFacts | null;
}
