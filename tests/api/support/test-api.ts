import postgres from "postgres";
import { exportJWK, generateKeyPair, SignJWT } from "jose";
import { createApi } from "../../../functions/api/api.ts";
import { createAuthService } from "../../../functions/api/auth-service.ts";
import { createRealtimeService } from "../../../functions/api/realtime-service.ts";
import { ROUTES } from "../../../functions/api/routes.ts";
import { connectDatabase } from "../../../shared/database/connect.ts";
import { createHealthMonitor } from "../../../shared/database/health-monitor.ts";
import { createServiceProbes } from "../../../shared/health/services.ts";
import { createTokenVerifier } from "../../../shared/http/tokens.ts";
import { expectDescribed } from "./described.ts";
import { createTestDatabase } from "../../support/database.ts";
import { afterAll } from "vitest";

const ISSUER = "http://127.0.0.1:54321/auth/v1";

export interface Persona {
  userId: string;
  headers: Record<string, string>;
}

export interface CallOptions {
  as?: Persona;
  edition?: 1 | 2 | 3;
  headers?: Record<string, string>;
  body?: unknown;
  /** Sent as it is instead of `body`. */
  raw?: BodyInit;
  api?: (request: Request) => Promise<Response>;
}

export interface Answer {
  status: number;
  headers: Headers;
  // deno-lint-ignore no-explicit-any
  json: any;
  text: string;
}

/**
 * The api function in this process over a database of its own: everything but the network is real.
 * Users are rows of `auth.users`, their tokens are signed with a key that the function knows.
 */
export async function createTestApi() {
  const database = await createTestDatabase();
  const { publicKey, privateKey } = await generateKeyPair("ES256", { extractable: true });
  const jwks = { keys: [{ ...(await exportJWK(publicKey)), kid: "test", alg: "ES256" }] };
  const auth = postgres(database.url("supabase_admin"), { max: 1, onnotice: () => {} });
  const pool = connectDatabase({ url: database.url("postgres"), max: 4 });
  const logged: Record<string, unknown>[] = [];
  let kicks = 0;

  const build = (overrides: Partial<Parameters<typeof createApi>[0]> = {}) =>
    createApi({
      sql: pool,
      verifyToken: createTokenVerifier({
        issuers: [ISSUER],
        jwks,
        jwksUrl: null,
        legacySecret: null,
      }),
      // Nobody listens there: a test that needs Auth brings one.
      auth: createAuthService({
        projectUrl: "http://127.0.0.1:9",
        apiKey: "sb_publishable_test",
        secretKey: "sb_secret_test",
      }),
      // Nobody listens there either.
      realtime: createRealtimeService({
        projectUrl: "http://127.0.0.1:9",
        publicUrl: "http://127.0.0.1:9",
        apiKey: "sb_publishable_test",
        publicKey: "sb_publishable_test",
      }),
      measureHealth: createHealthMonitor(
        pool,
        createServiceProbes({
          projectUrl: "http://127.0.0.1:9",
          apiKey: "sb_publishable_test",
          registryUrl: null,
          redisUrl: null,
        }),
        () => new Date(),
      ),
      routes: ROUTES,
      wakeWorker: () => kicks++,
      sealingSecret: "sb_secret_test",
      version: "0.0.0",
      log: (entry) => logged.push(entry),
      ...overrides,
    });
  const api = build();

  const [cluster] = await database.sql`
    select private.register_default_cluster(
      'portainer', 'test', 'http://127.0.0.1:9', 1, null, 'ptr_test', '{}'
    ) as id`;

  async function token(userId: string, claims: Record<string, unknown> = {}): Promise<string> {
    return await new SignJWT({ role: "authenticated", ...claims })
      .setProtectedHeader({ alg: "ES256", kid: "test" })
      .setSubject(userId).setIssuer(ISSUER).setAudience("authenticated")
      .setIssuedAt().setExpirationTime("1h").sign(privateKey);
  }

  /** A new user. `limits: null` leaves the installation's request limits in force. */
  async function user(
    options: { role?: string; limits?: Record<string, number> | null } = {},
  ): Promise<Persona & { email: string }> {
    const { role = "user", limits = { window_limit: 100_000, burst_limit: 100_000 } } = options;
    const email = `${crypto.randomUUID()}@example.com`;
    const [row] = await auth`
      insert into auth.users (id, email, aud, role, raw_user_meta_data, raw_app_meta_data)
      values (gen_random_uuid(), ${email}, 'authenticated', 'authenticated', '{}', '{}')
      returning id`;
    const userId = row!.id as string;
    await database.sql`
      update public.profiles
      set role = ${role}, rate_limit = ${limits === null ? null : database.sql.json(limits)}
      where id = ${userId}`;
    return { userId, email, headers: { Authorization: `Bearer ${await token(userId)}` } };
  }

  async function call(method: string, path: string, options: CallOptions = {}): Promise<Answer> {
    const { as, edition, headers, body, raw } = options;
    const request = new Request(`http://127.0.0.1${path}`, {
      method,
      headers: {
        ...as?.headers,
        ...(edition === undefined ? {} : { "API-Version": String(edition) }),
        ...(body === undefined ? {} : { "Content-Type": "application/json" }),
        ...headers,
      },
      body: raw ?? (body === undefined ? undefined : JSON.stringify(body)),
    });
    const response = await (options.api ?? api)(request);
    const text = await response.text();
    const isJson = (response.headers.get("content-type") ?? "").includes("json") && text !== "";
    const answer = {
      status: response.status,
      headers: response.headers,
      text,
      json: isJson ? JSON.parse(text) : null,
    };
    expectDescribed(request, answer);
    return answer;
  }

  async function apiKey(owner: Persona, body: Record<string, unknown> = {}): Promise<Persona> {
    const made = await call("POST", "/api/auth/generate-key", { as: owner, body });
    if (made.status !== 201) throw new Error(made.text);
    return { userId: owner.userId, headers: { "X-API-Key": made.json.apiKey } };
  }

  async function create(owner: Persona, body: Record<string, unknown> = {}): Promise<string> {
    const made = await call("POST", "/api/agents", {
      as: owner,
      edition: 1,
      body: { agentName: "an agent", ...body },
    });
    if (made.status !== 201) throw new Error(made.text);
    return made.json.agentId;
  }

  /** Does what the worker does for whatever is queued: the database functions, no containers. */
  async function finishOperations(): Promise<void> {
    const claimed = await database.sql`
      select operation, lease_token from private.claim_operations('test', interval '1 minute', 100)`;
    for (const { operation, lease_token } of claimed) {
      const [deployment] = await database.sql`
        select * from public.deployments where agent_id = ${operation.agent_id}`;
      await database.sql`select private.operation_plan(${operation.id}, ${lease_token})`;
      if (deployment === undefined) {
        // The removal of what is left of an agent that is gone.
        await database
          .sql`select private.complete_operation(${operation.id}, ${lease_token}, '{}')`;
        continue;
      }
      await database.sql`
        select private.record_placement(${operation.id}, ${lease_token}, ${
        database.sql.json({
          stack_id: "7",
          stack_name: deployment.stack_name,
          endpoint_id: 1,
          url: "http://127.0.0.1:3999",
          console_url: "http://127.0.0.1:9/#!/1/docker/stacks/7",
          orchestrator: "portainer-compose",
        })
      })`;
      const replicas = deployment.replicas_desired as number;
      await database.sql`
        select private.observe_deployment(${operation.agent_id}, ${
        database.sql.json({
          replicas_ready: replicas,
          containers: Array.from({ length: replicas }, (_, index) => ({
            id: `c${index}`,
            name: `agent-${index + 1}`,
            status: "running",
            health: "healthy",
            image: "elizaos/eliza:latest",
            started_at: new Date(Date.now() - 3_600_000).toISOString(),
            finished_at: null,
            restart_count: 0,
            exit_code: null,
            oom_killed: false,
          })),
          services: [{
            id: "s1",
            name: "agent",
            image: "elizaos/eliza:latest",
            replicas: { running: replicas, desired: replicas },
            ports: [{ published: 3999, target: 3000, protocol: "tcp" }],
          }],
          health: {
            status: "healthy",
            last_check: new Date().toISOString(),
            checks: [{ name: "http_health", status: "passing", response_time: "12ms" }],
          },
          url: "http://127.0.0.1:3999",
        })
      })`;
      await database.sql`select private.complete_operation(${operation.id}, ${lease_token}, '{}')`;
    }
  }

  async function running(owner: Persona, body: Record<string, unknown> = {}): Promise<string> {
    const id = await create(owner, body);
    await finishOperations();
    return id;
  }

  /** Runs as this user in a transaction of its own, as PostgREST does. */
  async function asCaller<T>(
    { userId }: Persona,
    run: (sql: postgres.TransactionSql) => Promise<T>,
  ): Promise<T> {
    return await database.sql.begin(async (sql) => {
      await sql`select set_config('role', 'authenticated', true), set_config(
        'request.jwt.claims', ${JSON.stringify({ sub: userId, role: "authenticated" })}, true)`;
      return await run(sql);
    }) as T;
  }

  afterAll(async () => {
    await pool.end({ timeout: 1 });
    await auth.end({ timeout: 1 });
  });

  return {
    sql: database.sql,
    database,
    auth,
    pool,
    api,
    build,
    call,
    user,
    token,
    apiKey,
    create,
    running,
    finishOperations,
    asCaller,
    logged,
    clusterId: cluster!.id as string,
    privateKey,
    jwks,
    kicks: () => kicks,
  };
}

export type TestApi = Awaited<ReturnType<typeof createTestApi>>;
