/** The documented requests that the demo sends, with values that are nobody's. */

/** Body of `POST /api/agents` as seed 000 documents it. */
export const tradingBot = {
  agentName: "my-trading-bot",
  description: "AI trading assistant with real-time market analysis",
  character: {
    name: "TradingBot",
    bio: [
      "Expert cryptocurrency trader with real-time market analysis",
      "Provides investment insights and portfolio management",
      "Always stays up-to-date with market trends",
    ],
    personality: "Professional, analytical, and data-driven",
    instructions: [
      "Always provide accurate market data",
      "Explain trading strategies clearly",
      "Never give financial advice without disclaimers",
    ],
    adjectives: ["analytical", "professional", "precise", "helpful"],
    topics: ["cryptocurrency", "trading", "market analysis", "portfolio management"],
  },
  plugins: [
    "@elizaos/plugin-discord",
    "@elizaos/plugin-web3",
    "@elizaos/plugin-coingecko",
  ],
  platforms: ["discord"],
  resources: { memory: "1Gi", cpu: "500m", replicas: 3 },
  scaling: { minReplicas: 1, maxReplicas: 10, targetCPU: 70, targetMemory: 80 },
  environment: {
    DISCORD_TOKEN: "your-discord-token",
    COINGECKO_API_KEY: "your-api-key",
    TRADING_API_KEY: "your-trading-key",
  },
  portainer: {
    template: "eliza-agent-template",
    stack_name: "eliza-trading-bot",
    deployment_strategy: "rolling",
    health_checks: { enabled: true, interval: "30s", timeout: "10s", retries: 3 },
  },
  supabase_config: {
    project_ref: "your-project-ref",
    real_time: {
      enabled: true,
      channels: ["agent_status", "trading_signals", "performance_metrics"],
    },
  },
};

/** Body of `POST /api/agents` as seed 001 documents it. */
export const tradingBotOfEdition1 = {
  agentName: "my-trading-bot",
  description: "AI trading assistant",
  personality: {
    system: "You are a professional cryptocurrency trading assistant.",
    bio: [
      "I'm an AI trading assistant specialized in cryptocurrency markets",
      "I provide technical analysis and market insights",
    ],
    adjectives: ["analytical", "precise", "risk-aware"],
    topics: ["cryptocurrency", "trading", "technical analysis"],
  },
  selectedPlugins: ["@elizaos/plugin-discord", "@elizaos/plugin-web3"],
  resources: { memory: "1Gi", cpu: "500m", replicas: 1 },
  platforms: { discord: { token: "your-discord-bot-token", guildId: "your-server-id" } },
};

/** Body of `POST /api/agents` as seed 002 documents it. */
export const tradingBotOfEdition2 = {
  agentName: "my-trading-bot",
  description: "AI trading assistant",
  character: {
    name: "TradingBot",
    bio: "Expert cryptocurrency trader with real-time market analysis",
    personality: "Professional, analytical, and helpful",
    system: "You are a professional cryptocurrency trading assistant.",
    adjectives: ["analytical", "precise", "risk-aware"],
    topics: ["cryptocurrency", "trading", "technical analysis"],
  },
  plugins: ["@elizaos/plugin-discord", "@elizaos/plugin-web3", "@elizaos/plugin-supabase"],
  platforms: ["discord"],
  resources: { memory: "1Gi", cpu: "500m", replicas: 1 },
  environment: { DISCORD_TOKEN: "your-discord-bot-token", COINGECKO_API_KEY: "your-api-key" },
  supabase_config: {
    project_ref: "your-project-ref",
    database_url: "postgresql://postgres:[password]@db.your-project.supabase.co:5432/postgres",
    real_time: {
      enabled: true,
      channels: ["agent_status", "user_interactions", "performance_metrics"],
    },
  },
};
