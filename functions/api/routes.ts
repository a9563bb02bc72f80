import type { Route } from "./route.ts";

/** The routes of `/api`: where they are documented and where they are written. */
const agent = () => import("./routes/read-agent.ts").then((module) => module.handler);
const systemMetrics = () => import("./routes/system-metrics.ts").then((module) => module.handler);

export const ROUTES: readonly Route[] = [
  {
    method: "POST",
    path: "/api/agents",
    documented: [1, 2, 3],
    load: () => import("./routes/create-agent.ts").then((module) => module.handler),
  },
  {
    method: "GET",
    path: "/api/agents",
    documented: [1, 2, 3],
    load: () => import("./routes/list-agents.ts").then((module) => module.handler),
  },
  {
    method: "GET",
    path: "/api/agents/search",
    documented: [3],
    load: () => import("./routes/search-agents.ts").then((module) => module.handler),
  },
  {
    method: "POST",
    path: "/api/agents/batch",
    documented: [3],
    load: () => import("./routes/create-batch.ts").then((module) => module.handler),
  },
  {
    method: "GET",
    path: "/api/agents/batch/{id}",
    documented: [3],
    load: () => import("./routes/read-batch.ts").then((module) => module.handler),
  },
  {
    method: "DELETE",
    path: "/api/agents/batch/{id}",
    documented: [3],
    load: () => import("./routes/cancel-batch.ts").then((module) => module.handler),
  },
  { method: "GET", path: "/api/agents/{id}", documented: [3], load: agent },
  {
    method: "PUT",
    path: "/api/agents/{id}",
    documented: [1, 2],
    load: () => import("./routes/update-agent.ts").then((module) => module.handler),
  },
  {
    method: "DELETE",
    path: "/api/agents/{id}",
    documented: [1, 2],
    load: () => import("./routes/delete-agent.ts").then((module) => module.handler),
  },
  { method: "GET", path: "/api/agents/{id}/status", documented: [1, 2], load: agent },
  {
    method: "POST",
    path: "/api/agents/{id}/scale",
    documented: [1, 2, 3],
    load: () => import("./routes/scale-agent.ts").then((module) => module.handler),
  },
  {
    method: "POST",
    path: "/api/agents/{id}/restart",
    documented: [1, 2, 3],
    load: () => import("./routes/restart-agent.ts").then((module) => module.handler),
  },
  {
    method: "POST",
    path: "/api/agents/{id}/stop",
    documented: [3],
    load: () => import("./routes/stop-agent.ts").then((module) => module.handler),
  },
  {
    method: "POST",
    path: "/api/agents/{id}/start",
    documented: [3],
    load: () => import("./routes/start-agent.ts").then((module) => module.handler),
  },
  {
    method: "GET",
    path: "/api/agents/{id}/revisions",
    documented: [3],
    load: () => import("./routes/list-revisions.ts").then((module) => module.handler),
  },
  {
    method: "POST",
    path: "/api/agents/{id}/rollback",
    documented: [3],
    load: () => import("./routes/rollback-agent.ts").then((module) => module.handler),
  },
  {
    method: "GET",
    path: "/api/agents/{id}/logs",
    documented: [1, 2, 3],
    load: () => import("./routes/agent-logs.ts").then((module) => module.handler),
  },
  {
    method: "GET",
    path: "/api/agents/{id}/metrics",
    documented: [1, 2, 3],
    load: () => import("./routes/agent-metrics.ts").then((module) => module.handler),
  },
  {
    method: "POST",
    path: "/api/agents/{id}/events",
    documented: [3],
    load: () => import("./routes/emit-event.ts").then((module) => module.handler),
  },
  {
    method: "POST",
    path: "/api/stacks",
    documented: [3],
    load: () => import("./routes/create-stack.ts").then((module) => module.handler),
  },
  {
    method: "GET",
    path: "/api/stacks",
    documented: [3],
    load: () => import("./routes/list-stacks.ts").then((module) => module.handler),
  },
  {
    method: "GET",
    path: "/api/stacks/{id}",
    documented: [3],
    load: () => import("./routes/read-stack.ts").then((module) => module.handler),
  },
  {
    method: "PUT",
    path: "/api/stacks/{id}",
    documented: [3],
    load: () => import("./routes/update-stack.ts").then((module) => module.handler),
  },
  {
    method: "DELETE",
    path: "/api/stacks/{id}",
    documented: [3],
    load: () => import("./routes/delete-stack.ts").then((module) => module.handler),
  },
  {
    method: "POST",
    path: "/api/-/realtime/channels",
    documented: [2],
    load: () => import("./routes/join-channel.ts").then((module) => module.handler),
  },
  {
    method: "GET",
    path: "/api/users/profile",
    documented: [1, 2],
    load: () => import("./routes/read-profile.ts").then((module) => module.handler),
  },
  {
    method: "PUT",
    path: "/api/users/profile",
    documented: [1, 2],
    load: () => import("./routes/update-profile.ts").then((module) => module.handler),
  },
  {
    method: "DELETE",
    path: "/api/users/profile",
    documented: [2, 3],
    load: () => import("./routes/erase-account.ts").then((module) => module.handler),
  },
  {
    method: "GET",
    path: "/api/users/export",
    documented: [2, 3],
    load: () => import("./routes/export-account.ts").then((module) => module.handler),
  },
  {
    method: "GET",
    path: "/api/health",
    documented: [1, 2, 3],
    load: () => import("./routes/health.ts").then((module) => module.handler),
  },
  { method: "GET", path: "/api/metrics", documented: [3], load: systemMetrics },
  { method: "GET", path: "/api/system/metrics", documented: [1, 2], load: systemMetrics },
  {
    method: "GET",
    path: "/api/security/events",
    documented: [1, 2],
    load: () => import("./routes/security-events.ts").then((module) => module.handler),
  },
  {
    method: "POST",
    path: "/api/security/scan/{id}",
    documented: [1, 2],
    load: () => import("./routes/scan-agent.ts").then((module) => module.handler),
  },
  {
    method: "POST",
    path: "/api/auth/generate-key",
    documented: [1],
    load: () => import("./routes/generate-key.ts").then((module) => module.handler),
  },
];
