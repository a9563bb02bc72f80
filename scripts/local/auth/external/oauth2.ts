import { z } from "zod";
import type { ExternalProviderSettings } from "../settings.ts";
import { fetchJson, ProviderFault } from "./http.ts";
import { type ExternalProfile, type ExternalProvider, optional } from "./provider.ts";
import { authorizationUrl, exchangeCode } from "./tokens.ts";

/** A provider that has an API of its own where OpenID Connect has ID tokens. */
interface Dialect {
  scopes: string[];
  endpoints(url: string): { authorization: string; token: string; api: string };
  /** @param get asks the API as the person who signed in */
  profile(api: string, get: (path: string) => Promise<unknown>): Promise<ExternalProfile>;
}

const filled = z.string().nullish().transform((value) => value || undefined);

const GitHubUser = z.object({ id: z.number(), login: filled, name: filled, avatar_url: filled });
const GitHubEmails = z.array(
  z.object({ email: z.string(), primary: z.boolean(), verified: z.boolean() }),
);

const github: Dialect = {
  scopes: ["user:email"],
  endpoints: (url) => ({
    authorization: `${url || "https://github.com"}/login/oauth/authorize`,
    token: `${url || "https://github.com"}/login/oauth/access_token`,
    // An enterprise server has its API beside its pages.
    api: url === "" ? "https://api.github.com" : `${url}/api/v3`,
  }),
  async profile(api, get) {
    const user = GitHubUser.parse(await get("/user"));
    const emails = GitHubEmails.parse(await get("/user/emails"));
    const subject = String(user.id);
    return {
      subject,
      emails: emails.filter(({ email }) => email !== ""),
      claims: {
        iss: api,
        sub: subject,
        provider_id: subject,
        ...optional("name", user.name),
        ...optional("full_name", user.name),
        ...optional("preferred_username", user.login),
        ...optional("user_name", user.login),
        ...optional("avatar_url", user.avatar_url),
      },
    };
  },
};

const DiscordUser = z.object({
  id: z.string(),
  username: z.string(),
  discriminator: z.string().default("0"),
  global_name: filled,
  avatar: filled,
  email: filled,
  verified: z.boolean().default(false),
});

const discord: Dialect = {
  scopes: ["email", "identify"],
  endpoints(url) {
    const api = `${url || "https://discord.com"}/api`;
    return { authorization: `${api}/oauth2/authorize`, token: `${api}/oauth2/token`, api };
  },
  async profile(api, get) {
    const user = DiscordUser.parse(await get("/users/@me"));
    const picture = user.avatar === undefined
      ? `https://cdn.discordapp.com/embed/avatars/${Number(user.discriminator) % 5}.png`
      : `https://cdn.discordapp.com/avatars/${user.id}/${user.avatar}.${
        user.avatar.startsWith("a_") ? "gif" : "png"
      }`;
    return {
      subject: user.id,
      emails: user.email === undefined
        ? []
        : [{ email: user.email, verified: user.verified, primary: true }],
      claims: {
        iss: api,
        sub: user.id,
        provider_id: user.id,
        name: `${user.username}#${user.discriminator}`,
        full_name: user.username,
        picture,
        avatar_url: picture,
        custom_claims: { ...optional("global_name", user.global_name) },
      },
    };
  },
};

export const DIALECTS: Record<string, Dialect> = { github, discord };

/** A provider that speaks one of the dialects of OAuth 2 above. */
export function createOAuth2Provider(
  name: string,
  settings: ExternalProviderSettings,
  dialect: Dialect,
  redirectUri: string,
): ExternalProvider {
  const client = { clientId: settings.clientId, secret: settings.secret, redirectUri };
  const { authorization, token, api } = dialect.endpoints(settings.url);
  return {
    name,
    emailOptional: settings.emailOptional,
    authorizationUrl: (request) =>
      Promise.resolve(authorizationUrl(authorization, client, request, dialect.scopes)),
    exchange: (code, codeVerifier) => exchangeCode(token, client, code, codeVerifier, "body"),
    async profile({ accessToken }) {
      const headers = { authorization: `Bearer ${accessToken}` };
      try {
        return await dialect.profile(api, (path) => fetchJson(`${api}${path}`, { headers }));
      } catch (cause) {
        if (cause instanceof ProviderFault) throw cause;
        throw new ProviderFault(`${api} describes the account in an unknown way`, { cause });
      }
    },
    idTokens: null,
  };
}
