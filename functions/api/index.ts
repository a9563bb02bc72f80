import { connectDatabase } from "../../shared/database/connect.ts";
import { createHealthMonitor } from "../../shared/database/health-monitor.ts";
import { createServiceProbes } from "../../shared/health/services.ts";
import { createTokenVerifier } from "../../shared/http/tokens.ts";
import { VERSION } from "../../shared/contract/version.ts";
import { createApi } from "./api.ts";
import { createAuthService } from "./auth-service.ts";
import { readEnvironment } from "./environment.ts";
import { createRealtimeService } from "./realtime-service.ts";
import { ROUTES } from "./routes.ts";
import { createWorkerKick } from "./wake-worker.ts";

const environment = readEnvironment((name) => Deno.env.get(name));

const sql = connectDatabase({
  url: environment.databaseUrl,
  max: environment.poolSize,
  applicationName: "agent-launchpad-api",
});

const api = createApi({
  sql,
  verifyToken: createTokenVerifier(environment),
  auth: createAuthService({
    projectUrl: environment.projectUrl,
    apiKey: environment.publishableKey,
    secretKey: environment.secretKey,
  }),
  realtime: createRealtimeService({
    projectUrl: environment.projectUrl,
    // Under `supabase start` the project has another address inside than outside.
    publicUrl: (environment.issuers[1] ?? environment.projectUrl).replace(/\/auth\/v1$/, ""),
    apiKey: environment.publishableKey,
    publicKey: environment.publishableKey === environment.secretKey
      ? null
      : environment.publishableKey,
  }),
  measureHealth: createHealthMonitor(
    sql,
    createServiceProbes(environment.probes),
    () => new Date(),
  ),
  routes: ROUTES,
  wakeWorker: createWorkerKick(environment.projectUrl, environment.secretKey),
  sealingSecret: environment.secretKey,
  version: VERSION,
  log: (entry) => console.log(JSON.stringify(entry)),
  followMs: environment.followMs,
});

Deno.serve({ port: Number(Deno.env.get("PORT") ?? "8000") }, api);
