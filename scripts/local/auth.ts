import type postgres from "postgres";
import { createSigner } from "./auth/access-token.ts";
import type { AuthContext } from "./auth/context.ts";
import { createProviders } from "./auth/external/providers.ts";
import { createRateLimiter } from "./auth/rate-limit.ts";
import { answer } from "./auth/routes.ts";
import { type AuthSettings, readAuthSettings } from "./auth/settings.ts";
import type { SendMail } from "./inbox.ts";
import type { StackKeys } from "./keys.ts";
import type { Log } from "./log.ts";
import type { HttpService } from "./service.ts";
import { createSmtpSender } from "./smtp.ts";
import { parseToml } from "./toml.ts";

export interface AuthOptions {
  /** A pool of connections as `supabase_auth_admin`; the caller ends it. */
  sql: postgres.Sql;
  keys: Pick<StackKeys, "signingKey" | "jwks">;
  /** Of the gateway: `http://127.0.0.1:54321`. */
  apiUrl: string;
  /** Where links in mails lead when the request names no other place. */
  siteUrl: string;
  log: Log;
  /** Into the inbox; not used when config.toml names a mail server. */
  sendMail: SendMail;
  /** By default what `supabase/config.toml` of this checkout says. */
  settings?: AuthSettings;
}

/**
 * `/auth/v1` of the local stack: Supabase Auth's wire format over the `auth` schema of
 * `bootstrap/auth.sql`. It sees paths without the prefix (`/token?grant_type=password`). All state
 * but the rate limits is in the database, so sessions outlive a restart.
 *
 * @throws {StackError} when config.toml asks for something that cannot be followed
 */
export async function createAuth(options: AuthOptions): Promise<HttpService> {
  const settings = { ...options.settings ?? await settingsOfCheckout(), siteUrl: options.siteUrl };
  const baseUrl = `${options.apiUrl}/auth/v1`;
  const context: AuthContext = {
    sql: options.sql,
    settings,
    signer: createSigner(options.keys.signingKey, options.keys.jwks),
    limiter: createRateLimiter(settings.rateLimits),
    providers: createProviders(settings.external, `${baseUrl}/callback`),
    baseUrl,
    sendMail: settings.smtp === null ? options.sendMail : createSmtpSender(settings.smtp),
    log: options.log,
  };
  return {
    fetch: (request) => answer(context, request),
    close: () => Promise.resolve(),
  };
}

async function settingsOfCheckout(): Promise<AuthSettings> {
  const file = new URL("../../supabase/config.toml", import.meta.url);
  return readAuthSettings(parseToml(await Deno.readTextFile(file), "supabase/config.toml"));
}
