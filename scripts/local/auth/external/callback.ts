import { describeError } from "../../errors.ts";
import { audienceOf } from "../bearer.ts";
import type { AuthContext } from "../context.ts";
import { AuthError, badRequest, internal } from "../errors.ts";
import { deliver } from "../mail.ts";
import { redirectTo } from "../redirect.ts";
import type { AuthRequest } from "../request.ts";
import { openSession, type SessionAnswer, sessionFragment } from "../sessions.ts";
import { linkAccount, lostRace, type Outcome, signInWithAccount } from "./account.ts";
import { requireProvider } from "./authorize.ts";
import { endFlow, findFlow, type Flow, nonceOf, settleFlow, takeCodeVerifier } from "./flow.ts";
import type { ExternalProfile, ProviderTokens } from "./provider.ts";

/**
 * `GET` and `POST /callback`: where a provider sends people back to. Leads to the address that the
 * flow began with, with the session in the fragment, a `code` for it in the query, or `error`,
 * `error_code` and `error_description` in both. An answer that belongs to no flow leads to the site.
 */
export async function callback(context: AuthContext, request: AuthRequest): Promise<Response> {
  const answer = request.method === "POST" ? await request.form() : request.url.searchParams;
  let flow: Flow;
  try {
    flow = await findFlow(context.sql, answer.get("state") ?? "");
  } catch (error) {
    const problem = describe(context, error);
    return redirectTo(context.settings.siteUrl, { status: 303, query: problem });
  }
  try {
    const { session, code, tokens } = await finish(context, request, flow, answer);
    return session === null
      ? redirectTo(flow.redirectTo, { status: 302, query: { code: code! } })
      : redirectTo(flow.redirectTo, {
        status: 302,
        fragment: {
          ...sessionFragment(session),
          provider_token: tokens.accessToken,
          ...(tokens.refreshToken !== null && { provider_refresh_token: tokens.refreshToken }),
        },
      });
  } catch (error) {
    const problem = describe(context, error);
    return redirectTo(flow.redirectTo, { status: 302, query: problem, fragment: problem });
  }
}

/** What the provider itself said went wrong. */
class ProviderRefusal extends Error {
  constructor(readonly code: string, readonly description: string) {
    super(code);
  }
}

interface Finished {
  session: SessionAnswer | null;
  /** In place of the session. */
  code: string | null;
  tokens: ProviderTokens;
}

async function finish(
  context: AuthContext,
  request: AuthRequest,
  flow: Flow,
  answer: URLSearchParams,
): Promise<Finished> {
  const { sql } = context;
  const refused = answer.get("error");
  if (refused) {
    await endFlow(sql, flow);
    throw new ProviderRefusal(
      refused.slice(0, 100),
      (answer.get("error_description") ?? "").slice(0, 500),
    );
  }
  const code = answer.get("code") ?? "";
  if (code === "") {
    throw badRequest(
      "bad_oauth_callback",
      "OAuth callback with missing authorization code missing",
    );
  }
  const provider = requireProvider(context, flow.provider);
  const verifier = await takeCodeVerifier(sql, flow);
  const { tokens, profile } = await ask(
    () => provider.exchange(code, verifier),
    `Unable to exchange external code: ${code.slice(0, 4)}`,
    (tokens) => provider.profile(tokens, nonceOf(flow.id)),
  );
  const signIn = {
    provider: flow.provider,
    profile,
    emailOptional: provider.emailOptional,
    aud: audienceOf(request),
    redirectTo: flow.redirectTo,
  };
  const settle = () =>
    sql.begin(async (tx): Promise<Outcome & Omit<Finished, "tokens">> => {
      const outcome = flow.linkingTarget === null
        ? await signInWithAccount(context, tx, signIn)
        : await linkAccount(context, tx, flow.linkingTarget, signIn);
      if (outcome.refusal !== null) return { ...outcome, session: null, code: null };
      if (flow.withCode) {
        const code = await settleFlow(tx, flow, outcome.user.id, tokens);
        return { ...outcome, session: null, code };
      }
      await endFlow(tx, flow);
      const session = await openSession(context, tx, outcome.user, "oauth", request);
      return { ...outcome, session, code: null };
    });
  const settled = await settle().catch((error) => {
    if (lostRace(error)) return settle();
    throw error;
  });
  for (const mail of settled.mails) await deliver(context, mail);
  if (settled.refusal !== null) throw settled.refusal;
  return { session: settled.session, code: settled.code, tokens };
}

async function ask(
  exchange: () => Promise<ProviderTokens>,
  exchangeFailed: string,
  introduce: (tokens: ProviderTokens) => Promise<ExternalProfile>,
): Promise<{ tokens: ProviderTokens; profile: ExternalProfile }> {
  const tokens = await exchange().catch((cause) => {
    throw internal(exchangeFailed, cause);
  });
  const profile = await introduce(tokens).catch((cause) => {
    throw internal("Error getting user profile from external provider", cause);
  });
  return { tokens, profile };
}

const DENIED = new Set(["signup_disabled", "user_banned", "provider_email_needs_verification"]);
const OAUTH_ERRORS: Record<number, string> = {
  400: "invalid_request",
  401: "unauthorized_client",
  403: "access_denied",
};

/** A failure as parameters of a redirect. What is our or the provider's fault goes to the log. */
function describe(context: AuthContext, error: unknown): Record<string, string> {
  if (error instanceof ProviderRefusal) {
    return {
      error: error.code,
      ...(error.description !== "" && { error_description: error.description }),
    };
  }
  const refusal = error instanceof AuthError
    ? error
    : internal("Unexpected failure, please check server logs for more information", error);
  if (refusal.status >= 500) {
    context.log.error(refusal.message, {
      path: "/callback",
      ...(refusal.options.cause !== undefined && { cause: describeError(refusal.options.cause) }),
    });
  }
  return {
    error: DENIED.has(refusal.code)
      ? "access_denied"
      : OAUTH_ERRORS[refusal.status] ?? "server_error",
    error_code: refusal.code,
    error_description: refusal.message,
  };
}
