import type { AuthContext, Db } from "./context.ts";
import { AuthError, internal } from "./errors.ts";
import type { PostgresHook } from "./settings.ts";
import { toJson } from "./users.ts";

const TIMEOUT_MS = 2000;

/**
 * Calls a hook with its event and gives its output. Runs in the caller's transaction.
 *
 * @throws {AuthError} what the hook asked for by `error`, or 500 when it failed
 */
export async function callHook<Output>(
  context: AuthContext,
  sql: Db,
  hook: PostgresHook,
  event: Record<string, unknown>,
): Promise<Partial<Output>> {
  let output: unknown;
  try {
    await sql`select set_config('statement_timeout', ${String(TIMEOUT_MS)}, true)`;
    const [row] = await sql<{ output: unknown }[]>`
      select ${sql(hook.schema)}.${sql(hook.name)}(${toJson(sql, event)}::jsonb) as output`;
    await sql`set local statement_timeout to default`;
    output = row?.output;
  } catch (cause) {
    throw internal(`Error running hook URI: ${hook.uri}`, cause);
  }
  context.log.debug("hook ran", { hook: hook.uri });
  const { error } = (output ?? {}) as { error?: { http_code?: number; message?: string } };
  if (error?.message) {
    const status = error.http_code ?? 500;
    throw new AuthError(status, status === 500 ? "unexpected_failure" : "unknown", error.message);
  }
  return (output ?? {}) as Partial<Output>;
}
