import { z } from "zod";
import { audit } from "./audit.ts";
import { type Caller, requireUser } from "./bearer.ts";
import type { AuthContext, Db } from "./context.ts";
import { badRequest, forbidden, unprocessable } from "./errors.ts";
import { deliver, type Mail } from "./mail.ts";
import { isExpired, mailCode, mailEmailChange, tokenHash } from "./one-time-tokens.ts";
import { checkPasswordStrength, hashPassword, verifyPassword } from "./passwords.ts";
import { challengeFields, readChallenge } from "./pkce.ts";
import { redirectTarget } from "./redirect.ts";
import { type AuthRequest, json, jsonObject, optionalText, text } from "./request.ts";
import {
  changePassword,
  clearOneTimeTokens,
  findEmailHolder,
  findUserById,
  isConfirmed,
  lockUser,
  mergeMetadata,
  presentUser,
  updateUser,
  type UserRow,
  validateEmail,
} from "./users.ts";

const Changes = z.object({
  email: text,
  phone: text,
  password: optionalText,
  nonce: text,
  data: jsonObject,
  app_metadata: jsonObject,
  ...challengeFields,
});

const DAY_MS = 24 * 3600 * 1000;

/** `GET /user` */
export async function getUser(context: AuthContext, request: AuthRequest): Promise<Response> {
  const { user } = await requireUser(context, request);
  return json(presentUser(user));
}

/**
 * `PUT /user`: merges `data`, sets a new password (which ends all other sessions) and starts a
 * change of address, which takes hold once confirmed by mail.
 *
 * @throws {AuthError} `validation_failed`, `reauthentication_needed` (400), `not_admin` (403),
 *   `email_exists`, `same_password`, `weak_password`, `reauthentication_not_valid` (422)
 */
export async function putUser(context: AuthContext, request: AuthRequest): Promise<Response> {
  const caller = await requireUser(context, request);
  context.limiter.take("signInSignUps", request.ip ?? "unknown");
  const { sql } = context;
  const changes = await request.json(Changes);
  const email = changes.email === "" ? "" : validateEmail(changes.email);
  if (changes.phone !== "" && changes.phone !== (caller.user.phone ?? "")) {
    throw badRequest("phone_provider_disabled", "Unsupported phone provider");
  }
  if (changes.password !== null) checkPasswordStrength(context.settings, changes.password);
  if (changes.app_metadata !== null) {
    throw forbidden("not_admin", "Updating app_metadata requires admin privileges");
  }
  const changesEmail = email !== "" && email !== caller.user.email;
  if (caller.user.is_anonymous && changes.password && email === "") {
    throw unprocessable(
      "validation_failed",
      "Updating password of an anonymous user without an email or phone is not allowed",
    );
  }
  if (changesEmail && await findEmailHolder(sql, email, caller.user.aud, caller.user.id)) {
    throw unprocessable(
      "email_exists",
      "A user with this email address has already been registered",
    );
  }
  const challenge = readChallenge(changes);
  const passwordHash = changes.password
    ? await newPasswordHash(context, caller, changes.password, changes.nonce)
    : null;

  const { user, mails } = await sql.begin(async (tx) => {
    const user = (await lockUser(tx, caller.user.id))!;
    const mails: Mail[] = [];
    if (changes.password) {
      await changePassword(tx, user.id, passwordHash, caller.session?.id ?? null);
      await audit(tx, user, "user_updated_password");
    }
    if (changes.data !== null) {
      await updateUser(tx, user.id, {
        raw_user_meta_data: mergeMetadata(user.raw_user_meta_data, changes.data),
      });
    }
    if (changesEmail) {
      const target = redirectTarget(context, request);
      mails.push(...await mailEmailChange(context, tx, user, email, target, challenge));
    }
    await audit(tx, user, "user_modified");
    return { user: (await findUserById(tx, user.id))!, mails };
  });
  for (const mail of mails) await deliver(context, mail);
  return json(presentUser(user));
}

/**
 * `GET /reauthenticate`: mails the code that `PUT /user` takes as `nonce`.
 *
 * @throws {AuthError} `validation_failed` (400), `email_not_confirmed` (422)
 */
export async function reauthenticate(
  context: AuthContext,
  request: AuthRequest,
): Promise<Response> {
  const { user } = await requireUser(context, request);
  if (!user.email) {
    throw badRequest(
      "validation_failed",
      "Reauthentication requires the user to have an email or a phone number",
    );
  }
  if (!isConfirmed(user)) {
    throw unprocessable("email_not_confirmed", "Please verify your email first.");
  }
  const mail = await context.sql.begin(async (sql) => {
    await audit(sql, user, "user_reauthenticate_requested");
    return await mailCode(context, sql, user, "reauthentication", "");
  });
  await deliver(context, mail);
  return json({});
}

async function newPasswordHash(
  context: AuthContext,
  { user, session }: Caller,
  password: string,
  nonce: string,
): Promise<string> {
  const { settings, sql } = context;
  if (settings.securePasswordChange) {
    const isOld = session === null || Date.now() > session.created_at.getTime() + DAY_MS;
    if (isOld) await spendNonce(context, sql, user, nonce);
  }
  if (user.encrypted_password && await verifyPassword(sql, password, user.encrypted_password)) {
    throw unprocessable(
      "same_password",
      "New password should be different from the old password.",
    );
  }
  return await hashPassword(sql, password);
}

async function spendNonce(
  context: AuthContext,
  sql: Db,
  user: UserRow,
  nonce: string,
): Promise<void> {
  if (nonce === "") {
    throw badRequest("reauthentication_needed", "Password update requires reauthentication");
  }
  const wanted = user.reauthentication_token;
  if (
    !wanted || wanted !== tokenHash(user.email ?? "", nonce) ||
    isExpired(context, user.reauthentication_sent_at)
  ) {
    throw unprocessable("reauthentication_not_valid", "Nonce has expired or is invalid");
  }
  await updateUser(sql, user.id, { reauthentication_token: "" });
  await clearOneTimeTokens(sql, user.id);
}
