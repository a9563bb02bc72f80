import { z } from "zod";
import {
  createAgentBody,
  emptyBody,
  restartAgentBody,
  rollbackAgentBody,
  scaleAgentBody,
  scanAgentBody,
  updateAgentBody,
} from "./agent-requests.ts";
import { generateKeyBody } from "./key-requests.ts";
import { batchBody } from "./batch-requests.ts";
import type { Edition } from "./editions.ts";
import type { DocumentedEdition, EndpointName } from "./endpoints.ts";
import type { ErrorCode } from "./errors.ts";
import { emitEventBody, joinChannelBody } from "./event-requests.ts";
import { erasureBody, profileBody } from "./profile-requests.ts";
import {
  listAgentsQuery,
  listRevisionsQuery,
  logsQuery,
  metricsQuery,
  searchAgentsQuery,
  securityEventsQuery,
} from "./queries.ts";
import {
  createAgentKeyBody,
  reportConversationBody,
  reportLogsBody,
  reportMetricsBody,
  reportStatusBody,
} from "./report-requests.ts";
import * as one from "./responses/edition-1.ts";
import * as two from "./responses/edition-2.ts";
import * as three from "./responses/edition-3.ts";
import * as stacks from "./responses/stacks-3.ts";
import { createStackBody, listStacksQuery, updateStackBody } from "./stack-requests.ts";

/** What an endpoint takes and answers. */
export interface Operation {
  summary: string;
  description?: string;
  /** Schema of the query; some are in the words of an edition. */
  query?: (edition: Edition) => z.ZodObject;
  body?: z.ZodType;
  status: 200 | 201 | 202;
  answers: Partial<Record<Edition, z.ZodType>>;
  /** The answer as it comes in pieces, by its media type. */
  streams?: Partial<Record<Edition, z.ZodType>>;
  /** Whether `Location` says where what was made is. */
  located?: boolean;
  /** Codes beyond those that every request can end with. */
  errors: readonly ErrorCode[];
}

/** Times of a query are read against the clock; what they look like does not depend on it. */
const ANY_TIME = new Date(0);

const AGENT = ["AGENT_NOT_FOUND"] as const;
const COMMAND = [...AGENT, "OPERATION_IN_PROGRESS", "INVALID_STATE"] as const;
const MODEL = ["INVALID_FRAMEWORK", "INVALID_MODEL"] as const;

/**
 * Each endpoint's request and answers by the schemas of this folder: what OpenAPI is generated from and
 * the types of the SDK are inferred from.
 */
export const OPERATIONS = {
  createAgent: {
    summary: "Create an agent and queue its deployment",
    body: createAgentBody,
    status: 201,
    answers: { 1: one.created1, 2: two.created2, 3: three.created3 },
    located: true,
    errors: [
      ...MODEL,
      "AGENT_LIMIT_REACHED",
      "RESOURCE_LIMIT_EXCEEDED",
      "RESOURCE_EXHAUSTED",
      "SECURITY_SCAN_FAILED",
    ],
  },
  listAgents: {
    summary: "List agents",
    query: listAgentsQuery,
    status: 200,
    answers: { 1: one.list1, 2: two.list2, 3: three.list3 },
    errors: [],
  },
  searchAgents: {
    summary: "Search agents by words of name, description and platforms",
    query: (edition) => searchAgentsQuery(edition, ANY_TIME),
    status: 200,
    answers: { 3: three.search3 },
    errors: [],
  },
  createBatch: {
    summary: "Ask one operation of many agents",
    body: batchBody,
    status: 202,
    answers: { 3: three.batch3 },
    located: true,
    errors: MODEL,
  },
  readBatch: {
    summary: "How far a batch is",
    status: 200,
    answers: { 3: three.batch3 },
    errors: ["NOT_FOUND"],
  },
  cancelBatch: {
    summary: "Cancel what of a batch has not begun",
    status: 200,
    answers: { 3: three.batch3 },
    errors: ["NOT_FOUND", "INVALID_STATE"],
  },
  readAgent: {
    summary: "One agent with its containers, figures and health",
    status: 200,
    answers: { 3: three.agent3 },
    errors: AGENT,
  },
  updateAgent: {
    summary: "Change an agent and roll the change out",
    description: "What the body does not name stays as it is.",
    body: updateAgentBody,
    status: 202,
    answers: { 1: one.updated1, 2: two.updated2 },
    errors: [...COMMAND, ...MODEL, "RESOURCE_LIMIT_EXCEEDED", "SECURITY_SCAN_FAILED"],
  },
  deleteAgent: {
    summary: "Delete an agent",
    description: "Personal data goes at once, the containers by an operation.",
    status: 202,
    answers: { 1: one.deleted1, 2: two.deleted2 },
    errors: [...AGENT, "OPERATION_IN_PROGRESS"],
  },
  readAgentStatus: {
    summary: "Status and health of an agent",
    status: 200,
    answers: { 1: one.status1, 2: two.status2 },
    errors: AGENT,
  },
  scaleAgent: {
    summary: "Change the number of replicas",
    body: scaleAgentBody,
    status: 202,
    answers: { 1: one.scaled1, 2: two.scaled2, 3: three.scaled3 },
    errors: [...COMMAND, "RESOURCE_LIMIT_EXCEEDED"],
  },
  restartAgent: {
    summary: "Restart the containers of an agent",
    body: restartAgentBody,
    status: 202,
    answers: { 1: one.restarted1, 2: two.restarted2, 3: three.command3 },
    errors: COMMAND,
  },
  stopAgent: {
    summary: "Stop an agent",
    body: emptyBody,
    status: 202,
    answers: { 3: three.command3 },
    errors: COMMAND,
  },
  startAgent: {
    summary: "Start an agent that was stopped",
    body: emptyBody,
    status: 202,
    answers: { 3: three.command3 },
    errors: [...COMMAND, "RESOURCE_LIMIT_EXCEEDED", "RESOURCE_EXHAUSTED", "SECURITY_SCAN_FAILED"],
  },
  listRevisions: {
    summary: "What was rolled out of an agent, newest first",
    query: () => listRevisionsQuery,
    status: 200,
    answers: { 3: three.revisions3 },
    errors: AGENT,
  },
  rollbackAgent: {
    summary: "Make an agent again what it was in a revision",
    description: "Without a revision: the last that came up well before the present one.",
    body: rollbackAgentBody,
    status: 202,
    answers: { 3: three.rolledBack3 },
    errors: [
      ...COMMAND,
      ...MODEL,
      "REVISION_NOT_FOUND",
      "RESOURCE_LIMIT_EXCEEDED",
      "SECURITY_SCAN_FAILED",
    ],
  },
  readAgentLogs: {
    summary: "Log lines of an agent, newest page first",
    description: "With follow=true the answer goes on as lines are written: as JSON lines, or as " +
      "server-sent events when the request accepts text/event-stream. A header Last-Event-ID with " +
      "the id of the last event goes on behind it.",
    query: () => logsQuery(ANY_TIME),
    status: 200,
    answers: { 1: one.logs1, 2: two.logs2, 3: three.logs3 },
    streams: { 1: one.logLine1, 2: two.logLine2, 3: three.logLine3 },
    errors: AGENT,
  },
  readAgentMetrics: {
    summary: "Figures of an agent",
    query: () => metricsQuery,
    status: 200,
    answers: { 1: one.metrics1, 2: two.metrics2, 3: three.metrics3 },
    errors: AGENT,
  },
  emitEvent: {
    summary: "Say something on a channel of an agent",
    body: emitEventBody,
    status: 201,
    answers: { 3: three.emitted3 },
    errors: [...AGENT, "NOT_FOUND", "INVALID_STATE"],
  },
  createAgentKey: {
    summary: "Make a key by which an agent reports",
    description: "The key is shown this once.",
    body: createAgentKeyBody,
    status: 201,
    answers: { 3: three.agentKey3 },
    errors: [...AGENT, "INVALID_STATE", "RESOURCE_LIMIT_EXCEEDED"],
  },
  reportLogs: {
    summary: "Report log lines of an agent",
    description:
      "Each line is {message, level, timestamp, source, metadata}. All are stored or none.",
    body: reportLogsBody,
    status: 201,
    answers: { 3: three.storedLogs3 },
    errors: AGENT,
  },
  reportMetrics: {
    summary: "Report figures of an agent's requests",
    description: "Any of requests_total, requests_failed, requests_per_minute, error_rate, " +
      "response_time_ms, checks, timestamp.",
    body: reportMetricsBody,
    status: 201,
    answers: { 3: three.storedMetrics3 },
    errors: [...AGENT, "RESOURCE_LIMIT_EXCEEDED"],
  },
  reportStatus: {
    summary: "Report what an agent is doing",
    description: "idle, thinking, responding, error or offline.",
    body: reportStatusBody,
    status: 200,
    answers: { 3: three.storedStatus3 },
    errors: [...AGENT, "INVALID_STATE"],
  },
  reportConversation: {
    summary: "Report messages that an agent exchanged",
    description:
      "Each message is {role, content, sender, timestamp, id, metadata}. All are stored " +
      "or none.",
    body: reportConversationBody,
    status: 201,
    answers: { 3: three.storedMessages3 },
    errors: AGENT,
  },
  createStack: {
    summary: "Make a stack from a template and queue its deployment",
    body: createStackBody,
    status: 201,
    answers: { 3: stacks.stackCreated3 },
    located: true,
    errors: ["RESOURCE_LIMIT_EXCEEDED", "RESOURCE_EXHAUSTED"],
  },
  listStacks: {
    summary: "List stacks",
    query: () => listStacksQuery,
    status: 200,
    answers: { 3: stacks.stacks3 },
    errors: [],
  },
  readStack: {
    summary: "One stack with its services",
    status: 200,
    answers: { 3: stacks.stack3 },
    errors: ["NOT_FOUND"],
  },
  updateStack: {
    summary: "Change a stack and roll the change out",
    description:
      "What the body does not name stays as it is; a variable of value null is taken away.",
    body: updateStackBody,
    status: 202,
    answers: { 3: stacks.stackUpdated3 },
    errors: ["NOT_FOUND", "OPERATION_IN_PROGRESS", "INVALID_STATE", "RESOURCE_LIMIT_EXCEEDED"],
  },
  deleteStack: {
    summary: "Delete a stack with its volumes",
    status: 202,
    answers: { 3: stacks.stackDeleted3 },
    errors: ["NOT_FOUND", "OPERATION_IN_PROGRESS"],
  },
  joinChannel: {
    summary: "Whether a Realtime topic can be joined, and how",
    body: joinChannelBody,
    status: 201,
    answers: { 2: two.channel2 },
    errors: ["REAL_TIME_SUBSCRIPTION_FAILED"],
  },
  readProfile: {
    summary: "Who the caller is",
    status: 200,
    answers: { 1: one.profile1, 2: two.profile2 },
    errors: [],
  },
  updateProfile: {
    summary: "Change the caller's profile",
    body: profileBody,
    status: 200,
    answers: { 1: one.profile1, 2: two.profile2 },
    errors: ["UPSTREAM_UNAVAILABLE"],
  },
  eraseAccount: {
    summary: "Erase the account and all that is its",
    description:
      "confirm is the email of the account; not needed within ten minutes of signing in.",
    body: erasureBody,
    status: 202,
    answers: { 2: two.erased2, 3: two.erased2 },
    errors: [],
  },
  exportAccount: {
    summary: "Download all that is kept of the caller",
    status: 200,
    answers: { 2: two.exported2, 3: two.exported2 },
    errors: ["RESOURCE_EXHAUSTED"],
  },
  readHealth: {
    summary: "Health of the platform, each part measured",
    status: 200,
    answers: { 1: one.health1, 2: two.health2, 3: three.health3 },
    errors: [],
  },
  readMetrics: {
    summary: "Figures of the system, containers, agents and requests",
    status: 200,
    answers: { 3: three.system3 },
    errors: [],
  },
  readSystemMetrics: {
    summary: "Figures of the system and its resources",
    status: 200,
    answers: { 1: one.system1, 2: two.system2 },
    errors: [],
  },
  listSecurityEvents: {
    summary: "Security events that concern the caller",
    query: () => securityEventsQuery(ANY_TIME),
    status: 200,
    answers: { 1: one.securityEvents1, 2: two.securityEvents2 },
    errors: [],
  },
  scanAgent: {
    summary: "Scan the containers of an agent",
    description: "Waits a few seconds for the scan; asked again, it answers with the same one.",
    body: scanAgentBody,
    status: 200,
    answers: { 1: one.scan1, 2: two.scan2 },
    errors: [...AGENT, "INVALID_STATE"],
  },
  generateKey: {
    summary: "Make an API key",
    description: "The key is shown this once.",
    body: generateKeyBody,
    status: 201,
    answers: { 1: one.generatedKey1 },
    errors: ["RESOURCE_LIMIT_EXCEEDED"],
  },
} as const satisfies {
  [Name in EndpointName]: Operation & { answers: Record<DocumentedEdition<Name>, z.ZodType> };
};

type Operations = typeof OPERATIONS;

/** What a request may send as its body. */
export type BodyOf<Name extends EndpointName> = Operations[Name] extends { body: infer Body }
  ? z.input<Body & z.ZodType>
  : undefined;

/** A parameter as it is sent, or as it is meant: `"20"` or 20. */
type Parameter<Sent, Meant> = Sent | Extract<Meant, number | boolean | Date>;

/** What a request may ask for in its query. */
export type QueryOf<Name extends EndpointName> = Operations[Name] extends
  { query: (edition: Edition) => infer Query } ? {
    [Key in keyof z.input<Query & z.ZodObject>]: Parameter<
      z.input<Query & z.ZodObject>[Key],
      z.output<Query & z.ZodObject>[Key & keyof z.output<Query & z.ZodObject>]
    >;
  }
  : undefined;

/** The answer of an edition. */
export type AnswerOf<Name extends EndpointName, In extends Edition> =
  Operations[Name]["answers"] extends { [Key in In]: infer Answer } ? z.output<Answer & z.ZodType>
    : never;
