/** Realtime alone, for tests that need no other part of the stack. Runs under Deno. */
import { createTokenVerifier } from "../../../scripts/local/keys.ts";
import { createLog } from "../../../scripts/local/log.ts";
import { createRealtime } from "../../../scripts/local/realtime.ts";

interface Setup {
  databaseUrl: string;
  port: number;
  jwks: Parameters<typeof createTokenVerifier>[0]["jwks"];
  limits: Parameters<typeof createRealtime>[0]["limits"];
}

const setup = JSON.parse(Deno.env.get("REALTIME_SETUP")!) as Setup;
const realtime = await createRealtime({
  databaseUrl: setup.databaseUrl,
  verifyToken: createTokenVerifier({ jwks: setup.jwks }),
  log: createLog("debug", (line) => console.error(line)),
  limits: setup.limits,
});
const prefix = "/realtime/v1";
Deno.serve(
  { hostname: "127.0.0.1", port: setup.port, onListen: () => console.log("ready") },
  (request) => {
    const url = request.url.replace(prefix, "");
    return realtime.fetch(Object.defineProperty(request, "url", { value: url }));
  },
);
// The test run that started this process may be killed; then its end of the pipe closes.
for await (const _ of Deno.stdin.readable) { /* nobody talks to us */ }
Deno.exit(0);
