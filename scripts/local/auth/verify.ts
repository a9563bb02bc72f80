import { z } from "zod";
import type { AuthenticationMethod } from "./access-token.ts";
import { audit } from "./audit.ts";
import { audienceOf } from "./bearer.ts";
import type { AuthContext, Db } from "./context.ts";
import { AuthError, badRequest, forbidden, unprocessable } from "./errors.ts";
import { deleteToken, isExpired, type OneTimeTokenType, tokenHash } from "./one-time-tokens.ts";
import { hashPassword, randomPassword } from "./passwords.ts";
import { issueAuthCode, PKCE_PREFIX } from "./pkce.ts";
import { redirectTarget, redirectTo } from "./redirect.ts";
import { type AuthRequest, json, text } from "./request.ts";
import { openSession, sessionFragment } from "./sessions.ts";
import {
  changeEmailIdentity,
  changePassword,
  clearOneTimeTokens,
  confirmUser,
  emailIdentity,
  findUserById,
  insertIdentity,
  isBanned,
  isConfirmed,
  isEmailTaken,
  lockUser,
  refreshProviders,
  updateUser,
  type UserRow,
  validateEmail,
} from "./users.ts";

const Body = z.object({
  type: text,
  token: text,
  token_hash: text,
  email: text,
  phone: text,
  redirect_to: text,
});

/** Kinds of code that arrive by mail, and the tokens that each may be. */
const TOKEN_TYPES: Record<string, OneTimeTokenType[]> = {
  signup: ["confirmation_token"],
  invite: ["confirmation_token"],
  recovery: ["recovery_token"],
  magiclink: ["recovery_token"],
  email: ["confirmation_token", "recovery_token"],
  email_change: ["email_change_token_new", "email_change_token_current"],
};

const SENT_AT = {
  confirmation_token: "confirmation_sent_at",
  recovery_token: "recovery_sent_at",
  reauthentication_token: "reauthentication_sent_at",
  email_change_token_new: "email_change_sent_at",
  email_change_token_current: "email_change_sent_at",
} as const;

const ONE_OF_TWO =
  "Confirmation link accepted. Please proceed to confirm link sent to the other email";

/**
 * `POST /verify`: trades a code (`email`, `token`, `type`) or the hash from a link (`token_hash`,
 * `type`) for a session.
 *
 * @throws {AuthError} `validation_failed` (400), `otp_expired`, `user_banned` (403),
 *   `email_exists` (422)
 */
export async function verifyByPost(context: AuthContext, request: AuthRequest): Promise<Response> {
  context.limiter.take("tokenVerifications", request.ip ?? "unknown");
  const body = await request.json(Body);
  if (body.type === "") {
    throw badRequest("validation_failed", "Verify requires a verification type");
  }
  if ((body.token === "") === (body.token_hash === "")) {
    throw badRequest("validation_failed", "Verify requires either a token or a token hash");
  }
  if (
    body.token_hash !== "" && (body.email !== "" || body.phone !== "" || body.redirect_to !== "")
  ) {
    throw badRequest("validation_failed", "Only the token_hash and type should be provided");
  }
  if (body.token !== "" && (body.email === "" || body.phone !== "")) {
    throw badRequest(
      "validation_failed",
      "Only an email address or phone number should be provided on verify",
    );
  }
  const email = body.token === "" ? null : emailToVerify(body.email);
  const hash = email === null ? body.token_hash : tokenHash(email, body.token);
  const answer = await verify(
    context,
    request,
    { type: body.type, hash, email },
    (sql, user) => openSession(context, sql, user, "otp", request),
  );
  return json(answer ?? { msg: ONE_OF_TWO, code: "200" });
}

/**
 * `GET /verify?token=…&type=…&redirect_to=…`: the link in a mail. Leads to `redirect_to` with the
 * session, or with `error`, `error_code` and `error_description`, in the fragment. Asked for by a
 * client with a code verifier, the link leads there with `?code=…` instead of a session.
 */
export async function verifyByLink(context: AuthContext, request: AuthRequest): Promise<Response> {
  context.limiter.take("tokenVerifications", request.ip ?? "unknown");
  const params = request.url.searchParams;
  const type = params.get("type") ?? "";
  const hash = params.get("token") ?? "";
  if (type === "") throw badRequest("validation_failed", "Verify requires a verification type");
  if (hash === "") {
    throw badRequest("validation_failed", "Verify requires a token or a token hash");
  }
  const target = redirectTarget(context, request);
  const proof = { type, hash, email: null };
  const withCode = hash.startsWith(PKCE_PREFIX);
  try {
    if (withCode) {
      const method = type === "signup" ? "email/signup" : type as AuthenticationMethod;
      const code = await verify(
        context,
        request,
        proof,
        (sql, user) => issueAuthCode(sql, user.id, method),
      );
      const said = { message: ONE_OF_TWO };
      return code === null
        ? redirectTo(target, { status: 303, query: said, fragment: said })
        : redirectTo(target, { status: 303, query: { code } });
    }
    const session = await verify(
      context,
      request,
      proof,
      (sql, user) => openSession(context, sql, user, "otp", request),
    );
    const fragment: Record<string, string> = session === null
      ? { message: ONE_OF_TWO }
      : { ...sessionFragment(session), type };
    return redirectTo(target, { status: 303, fragment });
  } catch (error) {
    if (!(error instanceof AuthError) || error.status >= 500) throw error;
    const problem = {
      error: OAUTH_ERRORS[error.status] ?? "invalid_request",
      error_code: error.code,
      error_description: error.message,
    };
    return redirectTo(target, {
      status: 303,
      fragment: problem,
      ...(withCode && { query: problem }),
    });
  }
}

const OAUTH_ERRORS: Record<number, string> = {
  400: "invalid_request",
  401: "unauthorized_client",
  403: "access_denied",
};

interface Proof {
  type: string;
  /** What the database keeps of the code. */
  hash: string;
  /** The address whose code it is; null when a link proves it. */
  email: string | null;
}

/** Spends a code. What `finish` makes of the user, or null when another address has to confirm too. */
async function verify<Result>(
  context: AuthContext,
  request: AuthRequest,
  proof: Proof,
  finish: (sql: Db, user: UserRow) => Promise<Result>,
): Promise<Result | null> {
  const types = TOKEN_TYPES[proof.type];
  if (types === undefined) {
    throw badRequest("validation_failed", "Invalid email verification type");
  }
  // An invited user gets a password that nobody knows; hashed here, outside the transaction.
  const spareHash = types.includes("confirmation_token")
    ? await hashPassword(context.sql, randomPassword())
    : null;
  try {
    return await context.sql.begin(async (sql) => {
      const { user, tokenType } = await spendToken(context, sql, proof, types, audienceOf(request));
      const settled = await settle(context, sql, user, tokenType, spareHash);
      if (!settled) return null;
      await refreshProviders(sql, (await findUserById(sql, user.id))!);
      return await finish(sql, (await findUserById(sql, user.id))!);
    }) as Result | null;
  } catch (error) {
    if (!isEmailTaken(error)) throw error;
    throw unprocessable(
      "email_exists",
      "A user with this email address has already been registered",
    );
  }
}

async function spendToken(
  context: AuthContext,
  sql: Db,
  { type, hash, email }: Proof,
  types: OneTimeTokenType[],
  aud: string,
): Promise<{ user: UserRow; tokenType: OneTimeTokenType }> {
  const invalid = () =>
    forbidden(
      "otp_expired",
      email === null ? "Email link is invalid or has expired" : "Token has expired or is invalid",
    );
  // A code from the mail is as good as the link, whichever answer the link would lead to.
  const hashes = email === null ? [hash] : [hash, PKCE_PREFIX + hash];
  const [token] = await sql<{ user_id: string }[]>`
    select user_id from auth.one_time_tokens
    where token_hash = any (${hashes}) and token_type = any (${types}::auth.one_time_token_type[])
      and (${email}::text is null or relates_to = ${email})`;
  if (token === undefined) throw invalid();
  const user = await lockUser(sql, token.user_id);
  // Spent while we waited for the lock, when it is no longer there.
  const [left] = await sql<{ token_type: OneTimeTokenType }[]>`
    select token_type from auth.one_time_tokens
    where user_id = ${token.user_id} and token_hash = any (${hashes})
      and token_type = any (${types}::auth.one_time_token_type[])`;
  if (user === null || left === undefined || user.aud !== aud) throw invalid();
  if (isBanned(user)) throw forbidden("user_banned", "User is banned");
  if (isExpired(context, user[SENT_AT[left.token_type]])) throw invalid();
  context.log.debug("code accepted", { type, user_id: user.id });
  return { user, tokenType: left.token_type };
}

/** Does what the code is for; false when the other address of a change is still missing. */
async function settle(
  context: AuthContext,
  sql: Db,
  user: UserRow,
  tokenType: OneTimeTokenType,
  spareHash: string | null,
): Promise<boolean> {
  switch (tokenType) {
    case "confirmation_token":
      if (!user.encrypted_password && user.invited_at !== null) {
        await changePassword(sql, user.id, spareHash, null);
      }
      await audit(sql, user, "user_signedup", { provider: "email" });
      await confirmUser(sql, user);
      await changeEmailIdentity(sql, user.id, { email_verified: true });
      return true;
    case "recovery_token":
      await updateUser(sql, user.id, { recovery_token: "" });
      await clearOneTimeTokens(sql, user.id);
      if (isConfirmed(user)) {
        await audit(sql, user, "login");
      } else {
        await audit(sql, user, "user_signedup", { provider: "email" });
        await confirmUser(sql, user);
      }
      return true;
    case "email_change_token_new":
    case "email_change_token_current":
      return await settleEmailChange(context, sql, user, tokenType);
    default:
      throw badRequest("validation_failed", "Unsupported verification type");
  }
}

async function settleEmailChange(
  { settings }: AuthContext,
  sql: Db,
  user: UserRow,
  tokenType: "email_change_token_new" | "email_change_token_current",
): Promise<boolean> {
  const needsBoth = settings.secureEmailChange && !settings.autoconfirm && user.email;
  if (needsBoth && user.email_change_confirm_status === 0) {
    await updateUser(sql, user.id, { email_change_confirm_status: 1, [tokenType]: "" });
    await deleteToken(sql, user.id, tokenType);
    return false;
  }
  const email = user.email_change ?? "";
  await audit(sql, user, "user_modified");
  const changes = { email, email_verified: true };
  if (user.identities.some(({ provider }) => provider === "email")) {
    await changeEmailIdentity(sql, user.id, changes);
  } else {
    await insertIdentity(sql, user.id, "email", emailIdentity(user.id, email, true));
  }
  await updateUser(sql, user.id, {
    email,
    email_change: "",
    email_change_token_current: "",
    email_change_token_new: "",
    email_change_confirm_status: 0,
    is_anonymous: false,
  });
  await clearOneTimeTokens(sql, user.id);
  if (!isConfirmed(user)) await confirmUser(sql, user);
  return true;
}

function emailToVerify(email: string): string {
  try {
    return validateEmail(email);
  } catch {
    throw unprocessable("validation_failed", "Invalid email format");
  }
}
