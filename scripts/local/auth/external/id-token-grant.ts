import { createHash } from "node:crypto";
import { z } from "zod";
import { audienceOf, requireUser } from "../bearer.ts";
import type { AuthContext } from "../context.ts";
import { badRequest, internal } from "../errors.ts";
import { deliver } from "../mail.ts";
import { redirectTarget } from "../redirect.ts";
import { type AuthRequest, flag, json, text } from "../request.ts";
import { openSession } from "../sessions.ts";
import { linkAccount, lostRace, signInWithAccount } from "./account.ts";
import { requireManualLinking, requireProvider } from "./authorize.ts";
import { IdTokenRefused } from "./provider.ts";

const Body = z.object({
  provider: text,
  id_token: text,
  access_token: text,
  nonce: text,
  link_identity: flag,
});

/**
 * `POST /token?grant_type=id_token`: a session for the holder of a provider's ID token, which the
 * client got from the provider itself. The token's nonce is the SHA-256 of the `nonce` given here.
 *
 * @throws {AuthError} `validation_failed` (400), what signing in by a provider throws
 */
export async function idTokenGrant(context: AuthContext, request: AuthRequest): Promise<Response> {
  const body = await request.json(Body);
  if (body.id_token === "") throw refusal("id_token required");
  if (body.provider === "") throw refusal("provider or client_id and issuer required");
  const linkingTarget = body.link_identity ? (await requireUser(context, request)).user.id : null;
  if (linkingTarget !== null) requireManualLinking(context);
  const provider = requireProvider(context, body.provider);
  if (provider.idTokens === null) throw refusal(`${provider.name} issues no ID tokens`);
  const { profile, nonce } = await provider.idTokens.verify(
    body.id_token,
    body.access_token || null,
  ).catch((cause) => {
    if (cause instanceof IdTokenRefused) throw refusal("Bad ID token");
    throw internal(`Provider ${provider.name} could not be reached`, cause);
  });
  if (!provider.idTokens.skipNonceCheck) {
    if ((nonce === "") !== (body.nonce === "")) {
      throw refusal("Passed nonce and nonce in id_token should either both exist or not.");
    }
    if (nonce !== "" && nonce !== createHash("sha256").update(body.nonce).digest("hex")) {
      throw refusal("Nonces mismatch");
    }
  }
  const signIn = {
    provider: provider.name,
    profile,
    emailOptional: provider.emailOptional,
    aud: audienceOf(request),
    redirectTo: redirectTarget(context, request),
  };
  const settle = () =>
    context.sql.begin(async (sql) => {
      const outcome = linkingTarget === null
        ? await signInWithAccount(context, sql, signIn)
        : await linkAccount(context, sql, linkingTarget, signIn);
      const session = outcome.refusal === null
        ? await openSession(context, sql, outcome.user, "oauth", request)
        : null;
      return { ...outcome, session };
    });
  const settled = await settle().catch((error) => {
    if (lostRace(error)) return settle();
    throw error;
  });
  for (const mail of settled.mails) await deliver(context, mail);
  if (settled.refusal !== null) throw settled.refusal;
  return json(settled.session);
}

function refusal(message: string) {
  return badRequest("validation_failed", message);
}
