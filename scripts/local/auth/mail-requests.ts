import { z } from "zod";
import { audit } from "./audit.ts";
import { audienceOf, requireAdmin } from "./bearer.ts";
import type { AuthContext } from "./context.ts";
import { badRequest, unprocessable } from "./errors.ts";
import { deliver } from "./mail.ts";
import { mailCode, mailEmailChange } from "./one-time-tokens.ts";
import { randomPassword } from "./passwords.ts";
import { type Challenge, challengeFields, readChallenge } from "./pkce.ts";
import { redirectTarget } from "./redirect.ts";
import { type AuthRequest, json, jsonObject, text } from "./request.ts";
import { createAccount, insertEmailUser } from "./signup.ts";
import {
  findUserByEmail,
  findUserById,
  isConfirmed,
  presentUser,
  type UserRow,
  validateEmail,
} from "./users.ts";

// Answers to these requests never tell whether an address has an account: `{}` either way.

const Recover = z.object({ email: text, ...challengeFields });

/**
 * `POST /recover`: mails a link that signs in to set a new password.
 *
 * @throws {AuthError} `validation_failed` (400), `over_email_send_rate_limit` (429)
 */
export async function recover(context: AuthContext, request: AuthRequest): Promise<Response> {
  context.limiter.take("signInSignUps", request.ip ?? "unknown");
  const body = await request.json(Recover);
  if (body.email === "") {
    throw badRequest("validation_failed", "Password recovery requires an email");
  }
  const email = validateEmail(body.email);
  const challenge = readChallenge(body);
  const user = await findUserByEmail(context.sql, email, audienceOf(request));
  if (user !== null) await mailRecovery(context, request, user, "recovery", challenge);
  return json({});
}

const Otp = z.object({
  email: text,
  phone: text,
  channel: text,
  create_user: z.boolean().nullish().transform((value) => value ?? true),
  data: jsonObject,
  ...challengeFields,
});

/**
 * `POST /otp` and `POST /magiclink`: mails a sign-in link with a code. An address without an
 * account gets one, unless `create_user` is false.
 *
 * @throws {AuthError} `validation_failed` (400), `otp_disabled`, `signup_disabled`,
 *   `email_provider_disabled` (422), `over_email_send_rate_limit` (429)
 */
export async function sendMagicLink(context: AuthContext, request: AuthRequest): Promise<Response> {
  const { settings, sql } = context;
  context.limiter.take("signInSignUps", request.ip ?? "unknown");
  const body = await request.json(Otp);
  if (body.phone !== "") throw badRequest("phone_provider_disabled", "Unsupported phone provider");
  if (body.email === "") {
    throw badRequest("validation_failed", "One of email or phone must be set");
  }
  if (body.channel !== "") {
    throw badRequest("validation_failed", "Channel should only be specified with Phone OTP");
  }
  if (!settings.emailEnabled) {
    throw unprocessable("email_provider_disabled", "Email logins are disabled");
  }
  const email = validateEmail(body.email);
  const challenge = readChallenge(body);
  const aud = audienceOf(request);
  const known = await findUserByEmail(sql, email, aud);
  if (known === null && !body.create_user) {
    throw unprocessable("otp_disabled", "Signups not allowed for otp");
  }
  if (known !== null && isConfirmed(known)) {
    await mailRecovery(context, request, known, "magiclink", challenge);
    return json({});
  }
  if (!settings.signupEnabled) {
    throw unprocessable("signup_disabled", "Signups not allowed for this instance");
  }
  const account = { email, aud, data: body.data ?? {}, challenge };
  const created = await createAccount(context, request, account, randomPassword());
  if (created.state === "taken" || isConfirmed(created.user)) {
    await mailRecovery(context, request, created.user, "magiclink", challenge);
    return json({});
  }
  // The mail that confirms the address signs in as well.
  for (const mail of created.mails) await deliver(context, mail);
  return json({});
}

const Resend = z.object({ type: text, email: text, phone: text, ...challengeFields });

/**
 * `POST /resend`: another mail for a sign-up or a change of address that waits for one.
 *
 * @throws {AuthError} `validation_failed` (400), `over_email_send_rate_limit` (429)
 */
export async function resend(context: AuthContext, request: AuthRequest): Promise<Response> {
  context.limiter.take("signInSignUps", request.ip ?? "unknown");
  const body = await request.json(Resend);
  if (!["signup", "email_change", "sms", "phone_change"].includes(body.type)) {
    throw badRequest(
      "validation_failed",
      "Missing one of these types: signup, email_change, sms, phone_change",
    );
  }
  if (body.type === "sms" || body.type === "phone_change") {
    throw badRequest("phone_provider_disabled", "Unsupported phone provider");
  }
  if (body.email === "") {
    throw badRequest("validation_failed", "Type provided requires an email address");
  }
  const email = validateEmail(body.email);
  const challenge = readChallenge(body);
  const user = await findUserByEmail(context.sql, email, audienceOf(request));
  if (user === null) return json({});
  const target = redirectTarget(context, request);
  if (body.type === "signup" && !isConfirmed(user)) {
    const mail = await context.sql.begin(async (sql) => {
      await audit(sql, user, "user_confirmation_requested");
      return await mailCode(context, sql, user, "signup", target, challenge);
    });
    await deliver(context, mail);
  }
  if (body.type === "email_change" && user.email_change) {
    const newEmail = user.email_change;
    const mails = await context.sql.begin((sql) =>
      mailEmailChange(context, sql, user, newEmail, target, challenge)
    );
    for (const mail of mails) await deliver(context, mail);
  }
  return json({});
}

const Invite = z.object({ email: text, data: jsonObject });

/**
 * `POST /invite` (administrators): creates a user without a password and mails the invitation.
 *
 * @throws {AuthError} `no_authorization` (401), `not_admin` (403), `email_exists` (422)
 */
export async function invite(context: AuthContext, request: AuthRequest): Promise<Response> {
  const adminRole = await requireAdmin(context, request);
  const body = await request.json(Invite);
  const email = validateEmail(body.email);
  const aud = audienceOf(request);
  const known = await findUserByEmail(context.sql, email, aud);
  if (known !== null && isConfirmed(known)) {
    throw unprocessable(
      "email_exists",
      "A user with this email address has already been registered",
    );
  }
  const { user, mail } = await context.sql.begin(async (sql) => {
    const account = { email, aud, data: body.data ?? {}, passwordHash: null };
    const user = known ?? await insertEmailUser(sql, account);
    await audit(sql, { adminRole }, "user_invited", { user_id: user.id, user_email: user.email });
    const mail = await mailCode(context, sql, user, "invite", redirectTarget(context, request));
    return { user: (await findUserById(sql, user.id))!, mail };
  });
  await deliver(context, mail);
  return json(presentUser(user));
}

async function mailRecovery(
  context: AuthContext,
  request: AuthRequest,
  user: UserRow,
  kind: "recovery" | "magiclink",
  challenge: Challenge,
): Promise<void> {
  const target = redirectTarget(context, request);
  const mail = await context.sql.begin(async (sql) => {
    await audit(sql, user, "user_recovery_requested");
    return await mailCode(context, sql, user, kind, target, challenge);
  });
  await deliver(context, mail);
}
