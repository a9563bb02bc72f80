/** Request bodies as clients of the three documents send them; values are our own. */

/** Seed 000: `POST /api/agents`. */
export const createBody3 = {
  agentName: "market-watcher",
  description: "Watches markets and explains what moves them",
  character: {
    name: "Watcher",
    bio: ["Follows markets around the clock", "Explains moves in plain words"],
    personality: "Calm and exact",
    instructions: ["Quote the source", "Say when a figure is old"],
    adjectives: ["calm", "exact"],
    topics: ["markets", "economics"],
  },
  plugins: ["@elizaos/plugin-discord", "@elizaos/plugin-web3", "@elizaos/plugin-coingecko"],
  platforms: ["discord"],
  resources: { memory: "1Gi", cpu: "500m", replicas: 3 },
  scaling: { minReplicas: 1, maxReplicas: 10, targetCPU: 70, targetMemory: 80 },
  environment: {
    DISCORD_TOKEN: "secret-discord-token",
    COINGECKO_API_KEY: "secret-coingecko-key",
    TRADING_API_KEY: "secret-trading-key",
  },
  portainer: {
    template: "eliza-agent-template",
    stack_name: "market-watcher",
    deployment_strategy: "rolling",
    health_checks: { enabled: true, interval: "30s", timeout: "10s", retries: 3 },
  },
  supabase_config: {
    project_ref: "abcdefghijklmnop",
    real_time: { enabled: true, channels: ["agent_status", "signals", "performance_metrics"] },
  },
};

/** Seed 001: credentials stand inside `platforms`. */
export const createBody1 = {
  agentName: "community-helper",
  description: "Answers newcomers",
  personality: {
    system: "You help newcomers.",
    bio: ["I answer questions", "I point to the documentation"],
    adjectives: ["patient", "clear"],
    topics: ["onboarding"],
  },
  selectedPlugins: ["@elizaos/plugin-discord", "@elizaos/plugin-web3"],
  resources: { memory: "1Gi", cpu: "500m", replicas: 1 },
  platforms: { discord: { token: "secret-platform-token", guildId: "1234567890" } },
};

/** Seed 002: with a database URL, which is a secret. */
export const createBody2 = {
  agentName: "release-notes",
  description: "Writes release notes",
  character: {
    name: "Scribe",
    bio: "Turns commits into sentences",
    personality: "Terse",
    system: "You write release notes.",
    adjectives: ["terse"],
    topics: ["software"],
  },
  plugins: ["@elizaos/plugin-discord", "@elizaos/plugin-supabase"],
  platforms: ["discord"],
  resources: { memory: "1Gi", cpu: "500m", replicas: 1 },
  environment: { DISCORD_TOKEN: "secret-discord-token", COINGECKO_API_KEY: "secret-key" },
  supabase_config: {
    project_ref: "abcdefghijklmnop",
    database_url: "postgresql://postgres:secret-password@db.example.com:5432/postgres",
    real_time: { enabled: true, channels: ["agent_status", "performance_metrics"] },
  },
};

/** Seed 001: `POST /api/auth/generate-key`; address and name must be the caller's own. */
export const generateKeyBody1 = (email: string) => ({
  username: email.split("@")[0],
  email,
  role: "USER",
});

/** `POST /api/agents/{id}/scale`, as each document sends it. */
export const scaleBodies = {
  1: { replicas: 3 },
  2: { replicas: 3, scaling_policy: { min_replicas: 1, max_replicas: 5, target_cpu: 70 } },
  3: { replicas: 5, strategy: "rolling" },
};

/** `PUT /api/agents/{id}`, as seeds 001 and 002 send it. */
export const updateBodies = {
  1: { description: "Explains markets twice a day", resources: { memory: "2Gi", cpu: "1000m" } },
  2: {
    description: "Explains markets twice a day",
    resources: { memory: "2Gi", cpu: "1000m" },
    supabase_config: {
      real_time: { enabled: true, channels: ["agent_status", "performance_metrics", "error_logs"] },
      storage: { bucket: "market-charts", public_access: false },
    },
  },
};

/** Seed 000: `POST /api/agents/{id}/restart`; the other documents send no body. */
export const restartBody3 = { restart_policy: "rolling", max_unavailable: 1 };

/** Seed 000: `POST /api/agents/batch`. */
export const batchBody3 = (agentIds: string[]) => ({
  operation: "restart",
  agent_ids: agentIds,
  options: { restart_policy: "rolling", max_concurrent: 2 },
});

/** Seed 000: `POST /api/stacks`. */
export const stackBody3 = {
  name: "support-agents",
  template: "eliza-agent-template",
  environment: [
    { name: "AGENT_NAME", value: "support" },
    { name: "DISCORD_TOKEN", value: "secret-discord-token" },
    { name: "REPLICAS", value: "5" },
  ],
  labels: { environment: "production", team: "support", project: "helpdesk" },
};

/** `PUT /api/users/profile`, as seeds 001 and 002 send it. A new address needs Auth, so it is not here. */
export const profileBodies = {
  1: { notifications: { email: true, slack: false } },
  2: {
    user_metadata: { full_name: "Ada Example", avatar_url: "https://example.com/ada.png" },
    notification_preferences: { email: true, real_time: false, security_alerts: true },
  },
};
