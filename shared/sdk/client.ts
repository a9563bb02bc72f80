import { createClient, type Session, type SupabaseClient } from "@supabase/supabase-js";
import type { Edition } from "../contract/editions.ts";
import type { DocumentedEdition, EndpointName } from "../contract/endpoints.ts";
import type { AnswerOf, BodyOf, QueryOf } from "../contract/operations.ts";
import { AgentTopics, type AgentUpdate } from "./agent-feed.ts";
import { DeploymentWatch } from "./deployment-watch.ts";
import { AgentLaunchpadError } from "./error.ts";
import { followLines } from "./log-lines.ts";
import { MetricsStream } from "./metrics-stream.ts";
import { type RequestInput, type RequestOptions, Transport } from "./transport.ts";

export type { AgentUpdate } from "./agent-feed.ts";
export type { DeploymentProgress } from "./deployment-watch.ts";
export type { StreamedMetrics } from "./metrics-stream.ts";
export type { RequestInput, RequestOptions } from "./transport.ts";
export { AgentLaunchpadError, DeploymentWatch, MetricsStream };

interface CommonOptions {
  /** The edition to speak, where it is to be another than that of the form of these options. */
  edition?: Edition;
  /** How often a request that is safe to repeat is repeated; 2 by default. */
  retries?: number;
  /** How long a request may take; 30,000 by default. */
  timeoutMs?: number;
  fetch?: typeof fetch;
}

/** Edition 3: the client signs in itself, by `authenticate`. */
export interface UnifiedOptions extends CommonOptions {
  /** Address of the API, with its `/api`. */
  apiUrl: string;
  supabaseUrl: string;
  /** Publishable key of the project. */
  supabaseKey: string;
  /** Taken for compatibility; Portainer is spoken to by the server alone. */
  portainerUrl?: string;
}

/** Edition 1: a script or a server with an API key. */
export interface ApiKeyOptions extends CommonOptions {
  apiKey: string;
  /** Address before `/api`. */
  baseUrl: string;
}

/** Edition 2: whoever is signed in with a client of supabase-js. */
export interface SupabaseOptions extends CommonOptions {
  supabaseClient: SupabaseClient;
  /** Address before `/api`. */
  baseUrl: string;
}

export type ClientOptions = UnifiedOptions | ApiKeyOptions | SupabaseOptions;

/** The edition that a client of these options speaks. */
export type EditionOf<Options> = Options extends { edition: infer Asked extends Edition } ? Asked
  : Options extends { apiKey: string } ? 1
  : Options extends { supabaseClient: unknown } ? 2
  : 3;

type Newest<Known extends Edition> = 3 extends Known ? 3 : 2 extends Known ? 2 : 1;

/** An answer in the client's edition, or in the newest that knows the endpoint. */
export type Answer<Name extends EndpointName, Own extends Edition> = AnswerOf<
  Name,
  Own extends DocumentedEdition<Name> ? Own : Newest<DocumentedEdition<Name>>
>;

/** An agent that was just made, by whichever name its edition calls the id. */
export type CreatedAgent<Own extends Edition> = Own extends 3
  ? Answer<"createAgent", 3>["agent"] & {
    agentId: string;
    deployment: Answer<"createAgent", 3>["deployment"];
  }
  : Answer<"createAgent", Own> & { id: string };

/** Figures of an agent; in edition 3 with the present ones at hand. */
export type AgentMetrics<Own extends Edition> = Own extends 3
  ? Answer<"readAgentMetrics", 3> & { cpu_usage: number | null; memory_usage: number | null }
  : Answer<"readAgentMetrics", Own>;

export interface FollowingOptions {
  /** Ends it. */
  signal?: AbortSignal;
  /** Milliseconds between two looks where Realtime does not tell; 10,000 by default. */
  intervalMs?: number;
}

const INTERVAL_MS = 10_000;
/**
 * A connection that nobody uses any more keeps a script alive. Closed at once it would be closed under
 * a channel that is joined right after.
 */
const UNUSED_MS = 1_000;

/** supabase-js refuses to be made where there is no WebSocket (Node 20), although all else works. */
const NO_WEBSOCKET = class {
  constructor() {
    throw new Error("There is no WebSocket here");
  }
} as unknown as typeof WebSocket;
const hasWebSocket = () => typeof WebSocket !== "undefined";

/** A client of all editions of the API; its options say which one it speaks. */
export class AgentLaunchpadClient<const Options extends ClientOptions = ClientOptions> {
  /** The project's own client, for tables, storage and Realtime; null with an API key. */
  readonly supabase: SupabaseClient | null;
  readonly edition: EditionOf<Options>;
  readonly #transport: Transport;
  readonly #topics: AgentTopics | null;

  constructor(options: Options) {
    const given: ClientOptions = options;
    const { retries = 2, timeoutMs = 30_000 } = given;
    let apikey: string | undefined;
    if ("apiKey" in given) {
      this.supabase = null;
    } else if ("supabaseClient" in given) {
      this.supabase = given.supabaseClient;
    } else {
      apikey = given.supabaseKey;
      const transport = hasWebSocket() ? {} : { transport: NO_WEBSOCKET };
      const realtime = { ...transport, disconnectOnEmptyChannelsAfterMs: UNUSED_MS };
      this.supabase = createClient(given.supabaseUrl, apikey, { realtime });
    }
    const own = "apiKey" in given ? 1 : "supabaseClient" in given ? 2 : 3;
    this.edition = (given.edition ?? own) as EditionOf<Options>;
    this.#topics = this.supabase === null || !hasWebSocket()
      ? null
      : new AgentTopics(this.supabase);
    const address = "baseUrl" in given ? given.baseUrl : given.apiUrl.replace(/\/api\/?$/, "");
    const { supabase } = this;
    this.#transport = new Transport({
      baseUrl: address.replace(/\/$/, ""),
      edition: this.edition,
      retries,
      timeoutMs,
      fetch: given.fetch ?? ((...request) => fetch(...request)),
      credentials: async () => {
        const headers: Record<string, string> = {};
        if ("apiKey" in given) headers["X-API-Key"] = given.apiKey;
        if (apikey !== undefined) headers.apikey = apikey;
        const token = (await supabase?.auth.getSession())?.data.session?.access_token;
        if (token !== undefined) headers.Authorization = `Bearer ${token}`;
        return headers;
      },
    });
  }

  /**
   * Signs in with Supabase Auth; the session is renewed by itself.
   * @throws AgentLaunchpadError AUTHENTICATION_FAILED
   */
  async authenticate(credentials: { email: string; password: string }): Promise<Session> {
    if (this.supabase === null) {
      throw new AgentLaunchpadError(
        "AUTHENTICATION_FAILED",
        "A client with an API key is authenticated already",
      );
    }
    const { data, error } = await this.supabase.auth.signInWithPassword(credentials);
    if (error === null) return data.session;
    throw new AgentLaunchpadError("AUTHENTICATION_FAILED", error.message, {
      status: error.status,
      details: { reason: error.code ?? null },
      cause: error,
    });
  }

  /**
   * Any endpoint by its name in OpenAPI; the methods beside this one are short for it.
   * @throws AgentLaunchpadError
   */
  async request<Name extends EndpointName>(
    name: Name,
    input: RequestInput<Name> = {},
  ): Promise<Answer<Name, EditionOf<Options>>> {
    return await this.#transport.json(name, input) as Answer<Name, EditionOf<Options>>;
  }

  readonly agents = {
    create: async (
      body: BodyOf<"createAgent">,
      options?: RequestOptions,
    ): Promise<CreatedAgent<EditionOf<Options>>> => {
      const answer = await this.#transport.json("createAgent", { body, ...options });
      const { agent, ...rest } = answer as { agent?: { id: string }; agentId: string };
      const id = agent?.id ?? rest.agentId;
      return { ...rest, ...agent, id, agentId: id } as unknown as CreatedAgent<EditionOf<Options>>;
    },
    list: (query?: QueryOf<"listAgents">, options?: RequestOptions) =>
      this.request("listAgents", { query, ...options }),
    search: (query: QueryOf<"searchAgents">, options?: RequestOptions) =>
      this.request("searchAgents", { query, ...options }),
    get: (id: string, options?: RequestOptions) => this.request("readAgent", { id, ...options }),
    getStatus: (id: string, options?: RequestOptions) =>
      this.request("readAgentStatus", { id, ...options }),
    update: (id: string, body: BodyOf<"updateAgent">, options?: RequestOptions) =>
      this.request("updateAgent", { id, body, ...options }),
    delete: (id: string, options?: RequestOptions) =>
      this.request("deleteAgent", { id, ...options }),
    scale: (id: string, body: BodyOf<"scaleAgent">, options?: RequestOptions) =>
      this.request("scaleAgent", { id, body, ...options }),
    restart: (id: string, body?: BodyOf<"restartAgent">, options?: RequestOptions) =>
      this.request("restartAgent", { id, body, ...options }),
    stop: (id: string, options?: RequestOptions) => this.request("stopAgent", { id, ...options }),
    start: (id: string, options?: RequestOptions) => this.request("startAgent", { id, ...options }),
    rollback: (id: string, body?: BodyOf<"rollbackAgent">, options?: RequestOptions) =>
      this.request("rollbackAgent", { id, body, ...options }),
    listRevisions: (id: string, query?: QueryOf<"listRevisions">, options?: RequestOptions) =>
      this.request("listRevisions", { id, query, ...options }),
    getLogs: (
      id: string,
      query?: Omit<QueryOf<"readAgentLogs">, "follow">,
      options?: RequestOptions,
    ) => this.request("readAgentLogs", { id, query, ...options }),
    /** The last lines and then each as it is written, until the loop over it ends. */
    followLogs: (
      id: string,
      query: Omit<QueryOf<"readAgentLogs">, "follow" | "before" | "after"> = {},
      options?: RequestOptions,
    ) => followLines<EditionOf<Options>>(this.#transport, { id, query, ...options }),
    getMetrics: async (
      id: string,
      query?: QueryOf<"readAgentMetrics">,
      options?: RequestOptions,
    ): Promise<AgentMetrics<EditionOf<Options>>> => {
      const answer: unknown = await this.request("readAgentMetrics", { id, query, ...options });
      if (this.edition !== 3) return answer as AgentMetrics<EditionOf<Options>>;
      const { metrics } = answer as Answer<"readAgentMetrics", 3>;
      return {
        ...answer as Answer<"readAgentMetrics", 3>,
        cpu_usage: metrics.cpu.current,
        memory_usage: metrics.memory.current,
      } as AgentMetrics<EditionOf<Options>>;
    },
    /** Each measurement as it is made: `on("data")`, `on("error")`, `close()`. */
    streamMetrics: (id: string, options: FollowingOptions = {}) =>
      new MetricsStream(this.#following(id, options)),
    /** How the last operation goes on: `on("progress")`, `on("complete")`, `on("error")`, `finished`, `close()`. */
    watchDeployment: (id: string, options: FollowingOptions = {}) =>
      DeploymentWatch.begin(this.#following(id, options)),
    scan: (id: string, body?: BodyOf<"scanAgent">, options?: RequestOptions) =>
      this.request("scanAgent", { id, body, ...options }),
    createKey: (id: string, body?: BodyOf<"createAgentKey">, options?: RequestOptions) =>
      this.request("createAgentKey", { id, body, ...options }),
    emit: (id: string, body: BodyOf<"emitEvent">, options?: RequestOptions) =>
      this.request("emitEvent", { id, body, ...options }),
    reportLogs: (id: string, body: BodyOf<"reportLogs">, options?: RequestOptions) =>
      this.request("reportLogs", { id, body, ...options }),
    reportMetrics: (id: string, body: BodyOf<"reportMetrics">, options?: RequestOptions) =>
      this.request("reportMetrics", { id, body, ...options }),
    reportStatus: (id: string, body: BodyOf<"reportStatus">, options?: RequestOptions) =>
      this.request("reportStatus", { id, body, ...options }),
    reportConversation: (
      id: string,
      body: BodyOf<"reportConversation">,
      options?: RequestOptions,
    ) => this.request("reportConversation", { id, body, ...options }),
  };

  readonly batches = {
    create: (body: BodyOf<"createBatch">, options?: RequestOptions) =>
      this.request("createBatch", { body, ...options }),
    get: (id: string, options?: RequestOptions) => this.request("readBatch", { id, ...options }),
    cancel: (id: string, options?: RequestOptions) =>
      this.request("cancelBatch", { id, ...options }),
  };

  readonly stacks = {
    create: (body: BodyOf<"createStack">, options?: RequestOptions) =>
      this.request("createStack", { body, ...options }),
    list: (query?: QueryOf<"listStacks">, options?: RequestOptions) =>
      this.request("listStacks", { query, ...options }),
    get: (id: string, options?: RequestOptions) => this.request("readStack", { id, ...options }),
    update: (id: string, body: BodyOf<"updateStack">, options?: RequestOptions) =>
      this.request("updateStack", { id, body, ...options }),
    delete: (id: string, options?: RequestOptions) =>
      this.request("deleteStack", { id, ...options }),
  };

  readonly users = {
    getProfile: (options?: RequestOptions) => this.request("readProfile", options),
    updateProfile: (body: BodyOf<"updateProfile">, options?: RequestOptions) =>
      this.request("updateProfile", { body, ...options }),
    export: (options?: RequestOptions) => this.request("exportAccount", options),
    erase: (body?: BodyOf<"eraseAccount">, options?: RequestOptions) =>
      this.request("eraseAccount", { body, ...options }),
    generateKey: (body: BodyOf<"generateKey">, options?: RequestOptions) =>
      this.request("generateKey", { body, ...options }),
  };

  readonly system = {
    getHealth: (options?: RequestOptions) => this.request("readHealth", options),
    /** `GET /api/metrics` in edition 3, `GET /api/system/metrics` in the others. */
    getMetrics: async (options?: RequestOptions) => {
      const name = this.edition === 3 ? "readMetrics" : "readSystemMetrics";
      return await this.#transport.json(name, options ?? {}) as EditionOf<Options> extends 3
        ? Answer<"readMetrics", 3>
        : Answer<"readSystemMetrics", EditionOf<Options>>;
    },
    listSecurityEvents: (query?: QueryOf<"listSecurityEvents">, options?: RequestOptions) =>
      this.request("listSecurityEvents", { query, ...options }),
  };

  /** Whether a Realtime topic can be joined, and what a raw WebSocket sends to do so. */
  joinChannel(body: BodyOf<"joinChannel">, options?: RequestOptions) {
    return this.request("joinChannel", { body, ...options });
  }

  /**
   * Hears of each change of an agent over Realtime: its status, deployment, operations, measurements
   * and containers. Whatever keeps it from that goes to `onError`; it is tried again then.
   * @returns how to end it
   * @throws AgentLaunchpadError REAL_TIME_SUBSCRIPTION_FAILED with an API key, or without WebSockets
   */
  subscribeToAgent(
    agentId: string,
    onUpdate: (update: AgentUpdate) => void,
    onError: (error: AgentLaunchpadError) => void = () => {},
  ): () => void {
    if (this.#topics === null) {
      throw new AgentLaunchpadError(
        "REAL_TIME_SUBSCRIPTION_FAILED",
        this.supabase === null
          ? "Realtime takes access tokens, not API keys"
          : "There is no WebSocket here: use Node 22, or --experimental-websocket",
      );
    }
    return this.#topics.listen(agentId, { onUpdate, onError, onState: () => {} });
  }

  #following(agentId: string, { signal, intervalMs = INTERVAL_MS }: FollowingOptions) {
    const read = async () =>
      await this.#transport.json("readAgent", { id: agentId, signal }) as Answer<"readAgent", 3>;
    return { agentId, topics: this.#topics, read, intervalMs, signal };
  }
}
