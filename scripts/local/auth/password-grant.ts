import { z } from "zod";
import { audit } from "./audit.ts";
import { audienceOf } from "./bearer.ts";
import type { AuthContext } from "./context.ts";
import { AuthError, badRequest, unprocessable } from "./errors.ts";
import { callHook } from "./hooks.ts";
import { checkPasswordStrength, verifyPassword } from "./passwords.ts";
import { type AuthRequest, json, text } from "./request.ts";
import { openSession } from "./sessions.ts";
import { findUserByEmail, isBanned, isConfirmed } from "./users.ts";

const Body = z.object({ email: text, phone: text, password: text });

/**
 * `POST /token?grant_type=password`. An unknown address takes as long as a wrong password and gets
 * the same answer.
 *
 * @throws {AuthError} `invalid_credentials`, `email_not_confirmed`, `user_banned`,
 *   `validation_failed` (400), `email_provider_disabled`, `phone_provider_disabled` (422)
 */
export async function passwordGrant(context: AuthContext, request: AuthRequest): Promise<Response> {
  const { email, phone, password } = await request.json(Body);
  if (email !== "" && phone !== "") {
    throw badRequest(
      "validation_failed",
      "Only an email address or phone number should be provided on login.",
    );
  }
  if (phone !== "") throw unprocessable("phone_provider_disabled", "Phone logins are disabled");
  if (email === "") throw badRequest("validation_failed", "missing email or phone");
  if (!context.settings.emailEnabled) {
    throw unprocessable("email_provider_disabled", "Email logins are disabled");
  }
  const user = await findUserByEmail(context.sql, email, audienceOf(request));
  if (user !== null && user.encrypted_password && isBanned(user)) {
    throw badRequest("user_banned", "User is banned");
  }
  const hash = user?.encrypted_password || null;
  const valid = await verifyPassword(context.sql, password, hash);
  if (user !== null && hash !== null) await askHook(context, request, user.id, valid);
  if (!valid || user === null) {
    throw badRequest("invalid_credentials", "Invalid login credentials");
  }
  if (!isConfirmed(user)) throw badRequest("email_not_confirmed", "Email not confirmed");
  const answer = await context.sql.begin(async (sql) => {
    await audit(sql, user, "login", { provider: "email" });
    return await openSession(context, sql, user, "password", request);
  });
  return json({ ...answer, ...weakness(context, password) });
}

/**
 * Tells the `password_verification_attempt` hook of an attempt on an account that exists. Not in the
 * transaction of the sign-in: what the hook writes down of a refused attempt stays.
 *
 * @throws {AuthError} `invalid_credentials` (400) with the hook's message when it rejects the attempt
 */
async function askHook(
  context: AuthContext,
  request: AuthRequest,
  userId: string,
  valid: boolean,
): Promise<void> {
  const hook = context.settings.passwordHook;
  if (hook === null) return;
  const answer = await context.sql.begin((sql) =>
    callHook<PasswordDecision>(context, sql, hook, {
      metadata: {
        uuid: crypto.randomUUID(),
        time: new Date().toISOString(),
        name: "password-verification",
        ...(request.ip !== null && { ip_address: request.ip }),
      },
      user_id: userId,
      valid,
    })
  );
  if (answer.decision !== "reject") return;
  if (answer.should_logout_user) {
    await context.sql`delete from auth.sessions where user_id = ${userId}`;
  }
  throw badRequest(
    "invalid_credentials",
    answer.message || "Further password verification attempts will be rejected.",
  );
}

interface PasswordDecision {
  decision: string;
  message: string;
  should_logout_user: boolean;
}

/** A password from before stricter rules still signs in; the answer says that it is weak. */
function weakness(context: AuthContext, password: string) {
  try {
    checkPasswordStrength(context.settings, password);
    return {};
  } catch (error) {
    if (!(error instanceof AuthError) || !error.options.reasons) return {};
    return { weak_password: { message: error.message, reasons: error.options.reasons } };
  }
}
