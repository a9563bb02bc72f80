import type { Metadata } from "../users.ts";

/** Somebody as a provider knows them. */
export interface ExternalProfile {
  /** The provider's own name for the account; it never changes. */
  subject: string;
  emails: ExternalEmail[];
  /** What becomes the identity's data and the user's metadata. */
  claims: Metadata;
}

export interface ExternalEmail {
  email: string;
  /** Whether the provider vouches for it. */
  verified: boolean;
  primary: boolean;
}

export interface ProviderTokens {
  accessToken: string;
  refreshToken: string | null;
  idToken: string | null;
}

/** What a sign-in hands to the provider. */
export interface AuthorizationRequest {
  state: string;
  nonce: string;
  /** Hash of the verifier that the exchange of the code shows. */
  codeChallenge: string;
  scopes: string[];
  /** Parameters of the client's own, such as `prompt` or `login_hint`. */
  extra: Record<string, string>;
}

/** An account provider. Every method but the last throws {@link ProviderFault} for its faults. */
export interface ExternalProvider {
  name: string;
  /** True when an account may come without an address. */
  emailOptional: boolean;
  authorizationUrl(request: AuthorizationRequest): Promise<string>;
  exchange(code: string, codeVerifier: string): Promise<ProviderTokens>;
  profile(tokens: ProviderTokens, nonce: string): Promise<ExternalProfile>;
  /** Checks ID tokens that clients bring themselves; null where the provider issues none. */
  idTokens: IdTokenVerifier | null;
}

export interface IdTokenVerifier {
  skipNonceCheck: boolean;
  /**
   * @param accessToken what `at_hash` must fit; null to leave that out
   * @throws {IdTokenRefused} for any token but a valid one of this provider for this client
   */
  verify(
    idToken: string,
    accessToken: string | null,
  ): Promise<{ profile: ExternalProfile; nonce: string }>;
}

/** An ID token that proves nothing. */
export class IdTokenRefused extends Error {
  override readonly name = "IdTokenRefused";
}

/** A profile from the standard claims of OpenID Connect, whatever else the provider tells. */
export function profileFromClaims(issuer: string, claims: Record<string, unknown>) {
  const text = (name: string) => {
    const value = claims[name];
    return typeof value === "string" && value !== "" ? value : undefined;
  };
  const subject = text("sub") ?? "";
  const email = text("email");
  // LinkedIn writes the flag as text.
  const verified = claims.email_verified === true || claims.email_verified === "true";
  const profile: ExternalProfile = {
    subject,
    emails: email === undefined ? [] : [{ email, verified, primary: true }],
    claims: {
      iss: issuer,
      sub: subject,
      provider_id: subject,
      ...optional("name", text("name")),
      ...optional("full_name", text("name")),
      ...optional("given_name", text("given_name")),
      ...optional("family_name", text("family_name")),
      ...optional("preferred_username", text("preferred_username")),
      ...optional("locale", text("locale")),
      ...optional("picture", text("picture")),
      ...optional("avatar_url", text("picture")),
    },
  };
  return profile;
}

export function optional<Value>(name: string, value: Value | undefined): Record<string, Value> {
  return value === undefined ? {} : { [name]: value };
}
