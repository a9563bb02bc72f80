import type { Edition } from "./editions.ts";

/** Where a route is and who knows it; without schemas, so that clients and the router stay light. */
export interface Endpoint {
  method: "GET" | "POST" | "PUT" | "DELETE";
  /** As the function sees it. */
  path: string;
  /** Under which address clients know it, where that is another. */
  public?: string;
  /** Editions whose document knows the route; without `API-Version` the answer merges these. */
  documented: readonly Edition[];
  /** Whether the key of an agent may call it; by default it may not. */
  forAgents?: boolean;
  /** Whether a token that outlives its account may call it; by default it gets 401. */
  forErased?: boolean;
}

/**
 * All routes of `/api` by the names that OpenAPI and the SDK call them. Of routes that match the same
 * path the first one wins. `operations.ts` says what each takes and answers.
 */
export const ENDPOINTS = {
  createAgent: { method: "POST", path: "/api/agents", documented: [1, 2, 3] },
  listAgents: { method: "GET", path: "/api/agents", documented: [1, 2, 3] },
  searchAgents: { method: "GET", path: "/api/agents/search", documented: [3] },
  createBatch: { method: "POST", path: "/api/agents/batch", documented: [3] },
  readBatch: { method: "GET", path: "/api/agents/batch/{id}", documented: [3] },
  cancelBatch: { method: "DELETE", path: "/api/agents/batch/{id}", documented: [3] },
  readAgent: { method: "GET", path: "/api/agents/{id}", documented: [3] },
  updateAgent: { method: "PUT", path: "/api/agents/{id}", documented: [1, 2] },
  deleteAgent: { method: "DELETE", path: "/api/agents/{id}", documented: [1, 2] },
  readAgentStatus: { method: "GET", path: "/api/agents/{id}/status", documented: [1, 2] },
  scaleAgent: { method: "POST", path: "/api/agents/{id}/scale", documented: [1, 2, 3] },
  restartAgent: { method: "POST", path: "/api/agents/{id}/restart", documented: [1, 2, 3] },
  stopAgent: { method: "POST", path: "/api/agents/{id}/stop", documented: [3] },
  startAgent: { method: "POST", path: "/api/agents/{id}/start", documented: [3] },
  listRevisions: { method: "GET", path: "/api/agents/{id}/revisions", documented: [3] },
  rollbackAgent: { method: "POST", path: "/api/agents/{id}/rollback", documented: [3] },
  readAgentLogs: { method: "GET", path: "/api/agents/{id}/logs", documented: [1, 2, 3] },
  readAgentMetrics: { method: "GET", path: "/api/agents/{id}/metrics", documented: [1, 2, 3] },
  emitEvent: { method: "POST", path: "/api/agents/{id}/events", documented: [3], forAgents: true },
  createAgentKey: { method: "POST", path: "/api/agents/{id}/keys", documented: [3] },
  reportLogs: { method: "POST", path: "/api/agents/{id}/logs", documented: [3], forAgents: true },
  reportMetrics: {
    method: "POST",
    path: "/api/agents/{id}/metrics",
    documented: [3],
    forAgents: true,
  },
  reportStatus: {
    method: "PUT",
    path: "/api/agents/{id}/status",
    documented: [3],
    forAgents: true,
  },
  reportConversation: {
    method: "POST",
    path: "/api/agents/{id}/conversations",
    documented: [3],
    forAgents: true,
  },
  createStack: { method: "POST", path: "/api/stacks", documented: [3] },
  listStacks: { method: "GET", path: "/api/stacks", documented: [3] },
  readStack: { method: "GET", path: "/api/stacks/{id}", documented: [3] },
  updateStack: { method: "PUT", path: "/api/stacks/{id}", documented: [3] },
  deleteStack: { method: "DELETE", path: "/api/stacks/{id}", documented: [3] },
  joinChannel: {
    method: "POST",
    path: "/api/-/realtime/channels",
    public: "/realtime/v1/channels",
    documented: [2],
  },
  readProfile: { method: "GET", path: "/api/users/profile", documented: [1, 2] },
  updateProfile: { method: "PUT", path: "/api/users/profile", documented: [1, 2] },
  // Who asks again is told how far it is.
  eraseAccount: {
    method: "DELETE",
    path: "/api/users/profile",
    documented: [2, 3],
    forErased: true,
  },
  exportAccount: { method: "GET", path: "/api/users/export", documented: [2, 3] },
  readHealth: { method: "GET", path: "/api/health", documented: [1, 2, 3] },
  readMetrics: { method: "GET", path: "/api/metrics", documented: [3] },
  readSystemMetrics: { method: "GET", path: "/api/system/metrics", documented: [1, 2] },
  listSecurityEvents: { method: "GET", path: "/api/security/events", documented: [1, 2] },
  scanAgent: { method: "POST", path: "/api/security/scan/{id}", documented: [1, 2] },
  generateKey: { method: "POST", path: "/api/auth/generate-key", documented: [1] },
} as const satisfies Record<string, Endpoint>;

export type EndpointName = keyof typeof ENDPOINTS;

/** Editions whose document knows an endpoint. */
export type DocumentedEdition<Name extends EndpointName> =
  typeof ENDPOINTS[Name]["documented"][number];
