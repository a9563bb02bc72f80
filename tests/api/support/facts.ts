import type {
  AgentRow,
  AnswerContext,
  CommandFacts,
  DeploymentRow,
  MetricsRow,
  SnapshotFacts,
} from "../../../shared/contract/facts.ts";

const id = "11111111-1111-4111-8111-111111111111";
const userId = "22222222-2222-4222-8222-222222222222";

export const agentRow: AgentRow = {
  id,
  user_id: userId,
  name: "market-watcher",
  description: null,
  status: "deployed",
  plugins: [],
  platforms: ["discord", "telegram"],
  replicas: 3,
  resources: { memory: "1Gi", cpu: "500m" },
  portainer: {},
  supabase_config: { project_ref: "abcdefghijklmnop", real_time: { enabled: true } },
  last_activity_at: "2024-01-15T15:45:00+00:00",
  created_at: "2024-01-15T10:30:00.123456+00:00",
  updated_at: "2024-01-15T15:45:00+00:00",
};

export const deploymentRow: DeploymentRow = {
  id: "33333333-3333-4333-8333-333333333333",
  state: "running",
  orchestrator: "portainer-swarm",
  endpoint_id: 1,
  stack_id: "123",
  stack_name: "market-watcher",
  namespace: null,
  revision: 2,
  replicas_desired: 3,
  replicas_ready: 3,
  url: "https://market-watcher.example.com",
  console_url: "https://portainer.example.com/#!/1/docker/stacks/123",
  containers: [{
    id: "c1",
    name: "market-watcher_agent.1",
    status: "running",
    health: "healthy",
    started_at: "2024-01-15T10:30:00Z",
    restart_count: 0,
  }, {
    id: "c2",
    name: "market-watcher_agent.2",
    status: "exited",
    health: "unhealthy",
    started_at: "2024-01-15T10:00:00Z",
    restart_count: 2,
  }],
  services: [{
    id: "s1",
    name: "market-watcher_agent",
    replicas: { running: 3, desired: 3 },
    ports: [{ published: 3000, target: 3000, protocol: "tcp" }],
  }],
  health: {
    status: "healthy",
    last_check: "2024-01-15T15:45:00Z",
    checks: [{ name: "http_health", status: "passing", response_time: "45ms" }],
  },
  error: null,
  deployed_at: "2024-01-15T10:35:00Z",
  updated_at: "2024-01-15T12:45:00Z",
};

/** 0.45 cores of 1, 768 MiB of 1 GiB. */
export const metricsRow: MetricsRow = {
  timestamp: "2024-01-15T15:44:00Z",
  cpu_usage: 0.452,
  cpu_limit: 1,
  memory_usage: 805_306_368,
  memory_limit: 1_073_741_824,
  network_rx: 12_345_678,
  network_tx: 9_876_543,
  requests_total: 1250,
  requests_failed: 50,
  requests_per_minute: 150,
  error_rate: 0.04,
  response_time_ms: 45.4,
};

export const snapshot: SnapshotFacts = {
  agent: agentRow,
  deployment: deploymentRow,
  operation: null,
  reported: null,
  metrics: metricsRow,
};

export const queued: CommandFacts = {
  agent: { ...agentRow, status: "queued" },
  deployment: {
    ...deploymentRow,
    state: "queued",
    stack_id: null,
    console_url: null,
    url: null,
    deployed_at: null,
    containers: [],
    services: [],
    replicas_ready: 0,
  },
  operation: {
    id: "44444444-4444-4444-8444-444444444444",
    kind: "deploy",
    state: "queued",
    request: { replicas: 3 },
    steps: [
      { name: "validate_configuration", status: "completed", completed_at: "2024-01-15T10:30:15Z" },
      { name: "create_container_template", status: "pending" },
    ],
    progress: 25,
    estimated_completion: "2024-01-15T10:35:00Z",
    created_at: "2024-01-15T10:30:00Z",
  },
  event_id: "55555555-5555-4555-8555-555555555555",
  estimate: { low_seconds: 300, median_seconds: 400, high_seconds: 600, samples: 20 },
};

export const context: AnswerContext = {
  userId,
  now: new Date("2024-01-15T15:45:00Z"),
  platform: {
    tablesExist: true,
    rlsActive: true,
    realTimeActive: true,
    logsRealTime: true,
    conversationsTable: null,
    metricsTable: "agent_metrics",
    logsTable: "agent_logs",
  },
};
