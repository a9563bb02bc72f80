import { z } from "zod";
import { audit } from "./audit.ts";
import { audienceOf } from "./bearer.ts";
import type { AuthContext } from "./context.ts";
import { AuthError, badRequest, unprocessable } from "./errors.ts";
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
  if (!await verifyPassword(context.sql, password, hash) || user === null) {
    throw badRequest("invalid_credentials", "Invalid login credentials");
  }
  if (!isConfirmed(user)) throw badRequest("email_not_confirmed", "Email not confirmed");
  const answer = await context.sql.begin(async (sql) => {
    await audit(sql, user, "login", { provider: "email" });
    return await openSession(context, sql, user, "password", request);
  });
  return json({ ...answer, ...weakness(context, password) });
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
