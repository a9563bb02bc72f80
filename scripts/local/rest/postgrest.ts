/** A PostgREST of the machine's own, in place of @supabase/lite: `LAUNCHPAD_POSTGREST=1 npm start`. */
import { SignJWT } from "jose";
import process from "node:process";
import { freePorts } from "../../free-ports.ts";
import { StackError } from "../errors.ts";
import type { Log } from "../log.ts";

export interface Postgrest {
  fetch(request: Request, claims: Record<string, unknown>): Promise<Response>;
  reload(): void;
  close(): Promise<void>;
}

export interface PostgrestOptions {
  databaseUrl: string;
  log: Log;
  schemas: string[];
  maxRows: number;
}

/**
 * Starts the binary `postgrest` from the PATH when LAUNCHPAD_POSTGREST is set, else gives null. Tokens
 * are checked before they get there; it trusts ones that are signed with a secret of this process.
 *
 * @throws StackError when the binary is missing or does not come up
 */
export async function startPostgrest(options: PostgrestOptions): Promise<Postgrest | null> {
  if (!process.env.LAUNCHPAD_POSTGREST) return null;
  const secret = crypto.getRandomValues(new Uint8Array(32));
  const [port] = await freePorts(1);
  let child: Deno.ChildProcess;
  try {
    child = new Deno.Command("postgrest", {
      env: {
        PGRST_DB_URI: options.databaseUrl,
        PGRST_DB_SCHEMAS: options.schemas.join(","),
        PGRST_DB_ANON_ROLE: "anon",
        PGRST_DB_EXTRA_SEARCH_PATH: "public,extensions",
        PGRST_DB_MAX_ROWS: String(options.maxRows),
        PGRST_DB_POOL: "8",
        PGRST_SERVER_HOST: "127.0.0.1",
        PGRST_SERVER_PORT: String(port),
        PGRST_JWT_SECRET: btoa(String.fromCharCode(...secret)),
        PGRST_JWT_SECRET_IS_BASE64: "true",
      },
      stdin: "null",
      stdout: "null",
      stderr: "null",
    }).spawn();
  } catch (error) {
    throw new StackError(
      "LAUNCHPAD_POSTGREST is set, but there is no postgrest to run on the PATH.",
      "Install PostgREST, or start without the variable.",
      { cause: error },
    );
  }
  const origin = `http://127.0.0.1:${port}`;
  await untilReady(origin, child);
  options.log.info("serving REST with the machine's own PostgREST");

  return {
    fetch: async (request, claims) => {
      const url = new URL(request.url);
      const headers = new Headers(request.headers);
      const { exp: _exp, iat: _iat, nbf: _nbf, aud: _aud, ...rest } = claims;
      const token = new SignJWT(rest).setProtectedHeader({ alg: "HS256" }).setExpirationTime("1m");
      headers.set("authorization", `Bearer ${await token.sign(secret)}`);
      return await fetch(`${origin}${url.pathname}${url.search}`, {
        method: request.method,
        headers,
        body: request.body,
        redirect: "manual",
      });
    },
    reload: () => child.kill("SIGUSR1"),
    close: async () => {
      child.kill("SIGTERM");
      await child.status;
    },
  };
}

async function untilReady(origin: string, child: Deno.ChildProcess): Promise<void> {
  let ended = false;
  child.status.then(() => ended = true);
  for (let attempt = 0; attempt < 200 && !ended; attempt++) {
    const answer = await fetch(origin, { method: "HEAD" }).catch(() => null);
    if (answer && answer.status < 500) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new StackError("PostgREST did not come up.", "Start without LAUNCHPAD_POSTGREST.");
}
