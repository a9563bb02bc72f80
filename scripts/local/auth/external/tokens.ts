import { z } from "zod";
import { fetchJson, ProviderFault } from "./http.ts";
import type { AuthorizationRequest, ProviderTokens } from "./provider.ts";

const filled = z.string().min(1);
const Tokens = z.object({
  access_token: filled,
  refresh_token: filled.nullish(),
  id_token: filled.nullish(),
});

/** A client of a provider, as both kinds of provider need it. */
export interface OAuthClient {
  clientId: string;
  secret: string;
  redirectUri: string;
}

/** The address that a person signs in at. */
export function authorizationUrl(
  endpoint: string,
  client: OAuthClient,
  request: AuthorizationRequest,
  defaultScopes: string[],
): string {
  const url = new URL(endpoint);
  for (const [name, value] of Object.entries(request.extra)) url.searchParams.set(name, value);
  const ours = {
    client_id: client.clientId,
    redirect_uri: client.redirectUri,
    response_type: "code",
    scope: [...new Set([...defaultScopes, ...request.scopes])].join(" "),
    state: request.state,
    code_challenge: request.codeChallenge,
    code_challenge_method: "S256",
  };
  // Last, so that nothing a client asks for can take their place.
  for (const [name, value] of Object.entries(ours)) url.searchParams.set(name, value);
  return url.href;
}

/**
 * Trades a provider's code for its tokens.
 *
 * @throws {ProviderFault} when the provider refuses, or answers with anything else
 */
export async function exchangeCode(
  endpoint: string,
  client: OAuthClient,
  code: string,
  codeVerifier: string,
  secretIn: "header" | "body",
): Promise<ProviderTokens> {
  const body = new URLSearchParams({
    grant_type: "authorization_code",
    code,
    redirect_uri: client.redirectUri,
    code_verifier: codeVerifier,
  });
  const headers = new Headers();
  if (secretIn === "header") {
    const credentials = [client.clientId, client.secret].map(formEncode).join(":");
    headers.set("authorization", `Basic ${btoa(credentials)}`);
  } else {
    body.set("client_id", client.clientId);
    body.set("client_secret", client.secret);
  }
  const parsed = Tokens.safeParse(await fetchJson(endpoint, { method: "POST", headers, body }));
  if (!parsed.success) {
    throw new ProviderFault(`${new URL(endpoint).origin} gave no tokens for the code`);
  }
  const { access_token: accessToken, refresh_token: refresh, id_token: id } = parsed.data;
  return { accessToken, refreshToken: refresh ?? null, idToken: id ?? null };
}

/** As RFC 6749 wants both parts of the header: encoded like a form. */
function formEncode(text: string): string {
  return new URLSearchParams({ "": text }).toString().slice(1);
}
