import { z } from "zod";
import { requireUser } from "../bearer.ts";
import type { AuthContext } from "../context.ts";
import { AuthError, badRequest, internal, notFound } from "../errors.ts";
import { challengeFields, readChallenge } from "../pkce.ts";
import { redirectTarget } from "../redirect.ts";
import { type AuthRequest, json, text } from "../request.ts";
import { beginFlow } from "./flow.ts";
import type { ExternalProvider } from "./provider.ts";

/** Parameters that are ours, or that a client may not choose for us. The rest is the provider's. */
const RESERVED = new Set([
  "provider",
  "scopes",
  "redirect_to",
  "skip_http_redirect",
  "apikey",
  "invite_token",
  "client_id",
  "client_secret",
  "redirect_uri",
  "response_type",
  "scope",
  "state",
  "nonce",
  "code_challenge",
  "code_challenge_method",
  "code_verifier",
]);

/**
 * `GET /authorize?provider=…&redirect_to=…&scopes=…`: leads to the provider's sign-in. With
 * `skip_http_redirect=true` it answers `{url}` instead.
 *
 * @throws {AuthError} `validation_failed` (400)
 */
export async function authorize(context: AuthContext, request: AuthRequest): Promise<Response> {
  const { url } = await begin(context, request, readQuery(request), null);
  return leadTo(request, url);
}

const Body = z.object({ provider: text, redirect_to: text, scopes: text, ...challengeFields });

/**
 * `POST /authorize` with `{provider, redirect_to, scopes?, code_challenge?, …}`: answers
 * `{provider, url}`, as `signInWithOAuth` with `skipBrowserRedirect` does. It sets nothing in the
 * browser and leads only where `GET` would, so another site gains nothing by sending it. Supabase
 * Auth itself has no such endpoint and answers 405.
 *
 * @throws {AuthError} `validation_failed`, `bad_json` (400)
 */
export async function authorizeByPost(
  context: AuthContext,
  request: AuthRequest,
): Promise<Response> {
  return json(await begin(context, request, { ...await request.json(Body), extra: {} }, null));
}

/**
 * `GET /user/identities/authorize?provider=…`: like `GET /authorize`, to add the account that the
 * person signs in with to the signed-in user's.
 *
 * @throws {AuthError} `validation_failed` (400), `no_authorization` (401), `manual_linking_disabled`
 *   (404)
 */
export async function authorizeLinking(
  context: AuthContext,
  request: AuthRequest,
): Promise<Response> {
  const { user } = await requireUser(context, request);
  requireManualLinking(context);
  const { url } = await begin(context, request, readQuery(request), user.id);
  return leadTo(request, url);
}

/** @throws {AuthError} `manual_linking_disabled` (404) unless config.toml allows it */
export function requireManualLinking({ settings }: AuthContext): void {
  if (settings.manualLinkingEnabled) return;
  throw notFound("manual_linking_disabled", "Manual linking is disabled");
}

/** @throws {AuthError} `validation_failed` (400) when config.toml enables no such provider */
export function requireProvider(context: AuthContext, name: string): ExternalProvider {
  const provider = context.providers.get(name.toLowerCase());
  if (provider !== undefined) return provider;
  throw badRequest("validation_failed", "Unsupported provider: provider is not enabled");
}

interface Wish {
  provider: string;
  redirect_to: string;
  scopes: string;
  code_challenge: string;
  code_challenge_method: string;
  extra: Record<string, string>;
}

function readQuery({ url }: AuthRequest): Wish {
  const query = url.searchParams;
  const given = (name: string) => query.get(name) ?? "";
  return {
    provider: given("provider"),
    redirect_to: given("redirect_to"),
    scopes: given("scopes"),
    code_challenge: given("code_challenge"),
    code_challenge_method: given("code_challenge_method"),
    extra: Object.fromEntries([...query].filter(([name]) => !RESERVED.has(name.toLowerCase()))),
  };
}

async function begin(
  context: AuthContext,
  request: AuthRequest,
  wish: Wish,
  linkingTarget: string | null,
): Promise<{ provider: string; url: string }> {
  const provider = requireProvider(context, wish.provider);
  const flow = await beginFlow(context.sql, {
    provider: provider.name,
    redirectTo: redirectTarget(context, request, wish.redirect_to),
    challenge: readChallenge(wish),
    linkingTarget,
  });
  try {
    const url = await provider.authorizationUrl({
      state: flow.id,
      nonce: flow.nonce,
      codeChallenge: flow.codeChallenge,
      scopes: wish.scopes.split(/[\s,]+/).filter((scope) => scope !== ""),
      extra: wish.extra,
    });
    return { provider: provider.name, url };
  } catch (cause) {
    if (cause instanceof AuthError) throw cause;
    throw internal(`Provider ${provider.name} could not be reached`, cause);
  }
}

function leadTo(request: AuthRequest, url: string): Response {
  if (request.url.searchParams.get("skip_http_redirect") === "true") return json({ url });
  return new Response(null, { status: 302, headers: { location: url } });
}
