import type postgres from "postgres";
import type { SendMail } from "../inbox.ts";
import type { Log } from "../log.ts";
import type { AccessTokenSigner } from "./access-token.ts";
import type { RateLimiter } from "./rate-limit.ts";
import type { ExternalProviders } from "./external/providers.ts";
import type { AuthSettings } from "./settings.ts";

/** A connection pool or an open transaction. */
// deno-lint-ignore ban-types -- the type parameter that postgres.Sql has by default
export type Db = postgres.ISql<{}>;

/** What every endpoint works with. */
export interface AuthContext {
  sql: postgres.Sql;
  settings: AuthSettings;
  signer: AccessTokenSigner;
  limiter: RateLimiter;
  /** Those that config.toml enables. */
  providers: ExternalProviders;
  /** `http://127.0.0.1:54321/auth/v1`: issuer of the tokens and base of the links in mails. */
  baseUrl: string;
  sendMail: SendMail;
  log: Log;
}
