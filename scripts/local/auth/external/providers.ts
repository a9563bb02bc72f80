import { StackError } from "../../errors.ts";
import type { ExternalProviderSettings } from "../settings.ts";
import { createOAuth2Provider, DIALECTS } from "./oauth2.ts";
import { createOidcProvider } from "./oidc.ts";
import type { ExternalProvider } from "./provider.ts";

/** Issuers that need no `url` in config.toml. */
const ISSUERS: Record<string, string> = {
  google: "https://accounts.google.com",
  gitlab: "https://gitlab.com",
  linkedin_oidc: "https://www.linkedin.com/oauth",
  slack_oidc: "https://slack.com",
};

export type ExternalProviders = ReadonlyMap<string, ExternalProvider>;

/**
 * The enabled providers by name. A name that is not known is one that speaks OpenID Connect at the
 * issuer `url`, so that any can be tried.
 *
 * @param callbackUrl where providers send people back to, unless `redirect_uri` says otherwise
 * @throws {StackError} for a provider that cannot be found without its `url`
 */
export function createProviders(
  enabled: Record<string, ExternalProviderSettings>,
  callbackUrl: string,
): ExternalProviders {
  return new Map(
    Object.entries(enabled).map(([name, settings]) => {
      const redirectUri = settings.redirectUri || callbackUrl;
      const dialect = DIALECTS[name];
      if (dialect !== undefined) {
        return [name, createOAuth2Provider(name, settings, dialect, redirectUri)];
      }
      const issuer = settings.url || ISSUERS[name];
      if (issuer === undefined) throw withoutUrl(name);
      return [name, createOidcProvider(name, settings, issuer, redirectUri)];
    }),
  );
}

function withoutUrl(name: string): StackError {
  const known = [...Object.keys(ISSUERS), ...Object.keys(DIALECTS)].join(", ");
  return new StackError(
    `auth.external.${name} in supabase/config.toml has no url.`,
    `Name the issuer of an OpenID Connect provider there. Known without: ${known}.`,
  );
}
