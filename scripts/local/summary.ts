import type { StackKeys } from "./keys.ts";
import type { RunningStack } from "./lock.ts";

/** Names and values as `supabase status -o env` prints them, and what this stack has beyond. */
export function statusVariables(
  { urls }: Pick<RunningStack, "urls">,
  keys: StackKeys,
): Record<string, string> {
  return {
    API_URL: urls.api,
    REST_URL: `${urls.api}/rest/v1`,
    FUNCTIONS_URL: `${urls.api}/functions/v1`,
    DB_URL: urls.db,
    INBUCKET_URL: urls.inbox,
    MAILPIT_URL: urls.inbox,
    PUBLISHABLE_KEY: keys.publishable,
    SECRET_KEY: keys.secret,
    ANON_KEY: keys.anon,
    SERVICE_ROLE_KEY: keys.serviceRole,
    JWT_ISSUER: `${urls.api}/auth/v1`,
    JWKS_URL: `${urls.api}/auth/v1/.well-known/jwks.json`,
    JWKS: JSON.stringify(keys.jwks),
    PORTAINER_URL: urls.portainer,
    PORTAINER_API_KEY: keys.portainerApiKey,
  };
}

/** Lines for a shell or a `.env` file: every value in double quotes. */
export function formatEnv(variables: Record<string, string>): string {
  return Object.entries(variables)
    .map(([name, value]) => `${name}="${value.replace(/[\\"$`]/g, "\\$&")}"`)
    .join("\n");
}

/** What a person wants to know once the stack runs, as `supabase start` shows it. */
export function formatSummary({ urls }: Pick<RunningStack, "urls">, keys: StackKeys): string {
  const rows = [
    ["API URL", urls.api],
    ["Database URL", urls.db],
    ["Inbox URL", urls.inbox],
    ["Portainer URL", urls.portainer],
    ["Publishable key", keys.publishable],
    ["Secret key", keys.secret],
  ] as const;
  const width = Math.max(...rows.map(([label]) => label.length));
  return rows.map(([label, value]) => `${label.padStart(width + 2)}: ${value}`).join("\n");
}

/** A request that works when pasted into a shell. */
export function sampleRequest({ urls }: Pick<RunningStack, "urls">): string {
  return `curl ${urls.api}/health`;
}
