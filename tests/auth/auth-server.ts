/**
 * Auth alone behind the stack's gateway, for tests that need settings other than the project's.
 * Runs under Deno; tests start it through `startAuthServer`.
 */
import postgres from "postgres";
import { createAuth } from "../../scripts/local/auth.ts";
import { readAuthSettings } from "../../scripts/local/auth/settings.ts";
import type { StackConfig } from "../../scripts/local/config.ts";
import { startGateway } from "../../scripts/local/gateway.ts";
import { startInbox } from "../../scripts/local/inbox.ts";
import { loadKeys } from "../../scripts/local/keys.ts";
import { createLog } from "../../scripts/local/log.ts";
import { parseToml } from "../../scripts/local/toml.ts";

interface Arguments {
  databaseUrl: string;
  stateDir: string;
  apiPort: number;
  inboxPort: number;
  /** What `supabase/config.toml` would say. */
  config: string;
}

const host = "127.0.0.1";
const { databaseUrl, stateDir, apiPort, inboxPort, config } = JSON.parse(
  Deno.args[0]!,
) as Arguments;
const apiUrl = `http://${host}:${apiPort}`;
const log = createLog("debug", (line) => console.error(line));
const keys = await loadKeys({ stateDir, urls: { api: apiUrl } } as StackConfig);
const settings = readAuthSettings(parseToml(config));
const inbox = startInbox({ host, port: inboxPort, log: log.child("inbox") });
const sql = postgres(databaseUrl, { max: 5, onnotice: () => {} });
const auth = await createAuth({
  sql,
  keys,
  apiUrl,
  siteUrl: settings.siteUrl,
  log: log.child("auth"),
  sendMail: inbox.sendMail,
  settings,
});
const none = { fetch: () => Promise.resolve(new Response(null, { status: 501 })) };
startGateway({
  host,
  port: apiPort,
  keys,
  services: { rest: none, auth, storage: none, realtime: none, functions: none },
  log,
});
console.log(JSON.stringify({
  apiUrl,
  inboxUrl: `http://${host}:${inboxPort}`,
  publishableKey: keys.publishable,
  secretKey: keys.secret,
  anonKey: keys.anon,
  serviceRoleKey: keys.serviceRole,
  stateDir,
}));
// The test process is gone when its end of the pipe is.
for await (const _ of Deno.stdin.readable) { /* nobody talks to us */ }
Deno.exit(0);
