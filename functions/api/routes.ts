import { ENDPOINTS } from "../../shared/contract/endpoints.ts";
import type { Route } from "./route.ts";

/** The routes of `/api` and where they are written. */
const agent = () => import("./routes/read-agent.ts").then((module) => module.handler);
const systemMetrics = () => import("./routes/system-metrics.ts").then((module) => module.handler);

export const ROUTES: readonly Route[] = [
  {
    ...ENDPOINTS.createAgent,
    load: () => import("./routes/create-agent.ts").then((module) => module.handler),
  },
  {
    ...ENDPOINTS.listAgents,
    load: () => import("./routes/list-agents.ts").then((module) => module.handler),
  },
  {
    ...ENDPOINTS.searchAgents,
    load: () => import("./routes/search-agents.ts").then((module) => module.handler),
  },
  {
    ...ENDPOINTS.createBatch,
    load: () => import("./routes/create-batch.ts").then((module) => module.handler),
  },
  {
    ...ENDPOINTS.readBatch,
    load: () => import("./routes/read-batch.ts").then((module) => module.handler),
  },
  {
    ...ENDPOINTS.cancelBatch,
    load: () => import("./routes/cancel-batch.ts").then((module) => module.handler),
  },
  { ...ENDPOINTS.readAgent, load: agent },
  {
    ...ENDPOINTS.updateAgent,
    load: () => import("./routes/update-agent.ts").then((module) => module.handler),
  },
  {
    ...ENDPOINTS.deleteAgent,
    load: () => import("./routes/delete-agent.ts").then((module) => module.handler),
  },
  { ...ENDPOINTS.readAgentStatus, load: agent },
  {
    ...ENDPOINTS.scaleAgent,
    load: () => import("./routes/scale-agent.ts").then((module) => module.handler),
  },
  {
    ...ENDPOINTS.restartAgent,
    load: () => import("./routes/restart-agent.ts").then((module) => module.handler),
  },
  {
    ...ENDPOINTS.stopAgent,
    load: () => import("./routes/stop-agent.ts").then((module) => module.handler),
  },
  {
    ...ENDPOINTS.startAgent,
    load: () => import("./routes/start-agent.ts").then((module) => module.handler),
  },
  {
    ...ENDPOINTS.listRevisions,
    load: () => import("./routes/list-revisions.ts").then((module) => module.handler),
  },
  {
    ...ENDPOINTS.rollbackAgent,
    load: () => import("./routes/rollback-agent.ts").then((module) => module.handler),
  },
  {
    ...ENDPOINTS.readAgentLogs,
    load: () => import("./routes/agent-logs.ts").then((module) => module.handler),
  },
  {
    ...ENDPOINTS.readAgentMetrics,
    load: () => import("./routes/agent-metrics.ts").then((module) => module.handler),
  },
  {
    ...ENDPOINTS.emitEvent,
    load: () => import("./routes/emit-event.ts").then((module) => module.handler),
  },
  {
    ...ENDPOINTS.createAgentKey,
    load: () => import("./routes/create-agent-key.ts").then((module) => module.handler),
  },
  {
    ...ENDPOINTS.reportLogs,
    load: () => import("./routes/report-logs.ts").then((module) => module.handler),
  },
  {
    ...ENDPOINTS.reportMetrics,
    load: () => import("./routes/report-metrics.ts").then((module) => module.handler),
  },
  {
    ...ENDPOINTS.reportStatus,
    load: () => import("./routes/report-status.ts").then((module) => module.handler),
  },
  {
    ...ENDPOINTS.reportConversation,
    load: () => import("./routes/report-conversation.ts").then((module) => module.handler),
  },
  {
    ...ENDPOINTS.createStack,
    load: () => import("./routes/create-stack.ts").then((module) => module.handler),
  },
  {
    ...ENDPOINTS.listStacks,
    load: () => import("./routes/list-stacks.ts").then((module) => module.handler),
  },
  {
    ...ENDPOINTS.readStack,
    load: () => import("./routes/read-stack.ts").then((module) => module.handler),
  },
  {
    ...ENDPOINTS.updateStack,
    load: () => import("./routes/update-stack.ts").then((module) => module.handler),
  },
  {
    ...ENDPOINTS.deleteStack,
    load: () => import("./routes/delete-stack.ts").then((module) => module.handler),
  },
  {
    ...ENDPOINTS.joinChannel,
    load: () => import("./routes/join-channel.ts").then((module) => module.handler),
  },
  {
    ...ENDPOINTS.readProfile,
    load: () => import("./routes/read-profile.ts").then((module) => module.handler),
  },
  {
    ...ENDPOINTS.updateProfile,
    load: () => import("./routes/update-profile.ts").then((module) => module.handler),
  },
  {
    ...ENDPOINTS.eraseAccount,
    load: () => import("./routes/erase-account.ts").then((module) => module.handler),
  },
  {
    ...ENDPOINTS.exportAccount,
    load: () => import("./routes/export-account.ts").then((module) => module.handler),
  },
  {
    ...ENDPOINTS.readHealth,
    load: () => import("./routes/health.ts").then((module) => module.handler),
  },
  { ...ENDPOINTS.readMetrics, load: systemMetrics },
  { ...ENDPOINTS.readSystemMetrics, load: systemMetrics },
  {
    ...ENDPOINTS.listSecurityEvents,
    load: () => import("./routes/security-events.ts").then((module) => module.handler),
  },
  {
    ...ENDPOINTS.scanAgent,
    load: () => import("./routes/scan-agent.ts").then((module) => module.handler),
  },
  {
    ...ENDPOINTS.generateKey,
    load: () => import("./routes/generate-key.ts").then((module) => module.handler),
  },
];
