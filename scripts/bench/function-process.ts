/** Functions as the local stack serves them, each a process of its own, without the rest of the stack. */
import * as fs from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { importJWK, SignJWT } from "jose";
import { type FunctionConfig, loadConfig } from "../local/config.ts";
import { createFunctions } from "../local/functions.ts";
import { loadKeys } from "../local/keys.ts";
import { createLog } from "../local/log.ts";

export interface RunningFunctions {
  /** When their processes were started, on the clock of `performance.now()`. */
  startedAt: number;
  /** The port on which a function listens; a request to it goes through nobody else. */
  port(name: string): Promise<number>;
  /** An access token that the functions accept. */
  sign(userId: string): Promise<string>;
  close(): Promise<void>;
}

/** The functions of `supabase/config.toml` and what their packages are found by. */
export function configuredFunctions(): FunctionConfig[] {
  return loadConfig({}).functions;
}

/**
 * Starts functions against a database of their own. Their project URL answers, so that a kick of the
 * worker costs what it costs in the stack.
 *
 * @param environment further variables, as `supabase secrets set` would set them
 */
export async function startFunctions(
  functions: FunctionConfig[],
  databaseUrl: string,
  environment: Record<string, string> = {},
): Promise<RunningFunctions> {
  const stateDir = await fs.mkdtemp(path.join(tmpdir(), "agent-launchpad-bench-"));
  const project = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen: () => {} },
    () => new Response(null, { status: 202 }),
  );
  const defaults = loadConfig({});
  const api = `http://127.0.0.1:${project.addr.port}`;
  const config = {
    ...defaults,
    stateDir,
    functions,
    urls: { ...defaults.urls, api, db: databaseUrl },
  };
  const keys = await loadKeys(config);
  const signingKey = await importJWK(keys.signingKey, "ES256");
  const log = createLog("error", (line) => console.error(line));
  const startedAt = performance.now();
  const host = await createFunctions({ config, keys, log, secrets: environment, watch: false });
  return {
    startedAt,
    port: async (name) => {
      const child = host.children.find((each) => each.name === name);
      if (child === undefined) throw new Error(`There is no function ${name}`);
      return Number(await child.ready());
    },
    sign: (userId) =>
      new SignJWT({ role: "authenticated" })
        .setProtectedHeader({ alg: "ES256", kid: keys.signingKey.kid! })
        .setSubject(userId)
        .setIssuer(`${api}/auth/v1`)
        .setAudience("authenticated")
        .setIssuedAt()
        .setExpirationTime("1h")
        .sign(signingKey),
    close: async () => {
      await host.close();
      await project.shutdown();
      await fs.rm(stateDir, { recursive: true, force: true });
    },
  };
}
