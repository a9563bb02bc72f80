import { z } from "zod";
import { audit } from "./audit.ts";
import { audienceOf, requireAdmin } from "./bearer.ts";
import type { AuthContext, Db } from "./context.ts";
import { badRequest, notFound, unprocessable } from "./errors.ts";
import { actionLink } from "./mail.ts";
import { type CodeKind, issueCode, newOtp, storeToken, tokenHash } from "./one-time-tokens.ts";
import { checkPasswordStrength, hashPassword, randomPassword } from "./passwords.ts";
import { isAllowedRedirect, redirectTarget } from "./redirect.ts";
import { type AuthRequest, json, jsonObject, text } from "./request.ts";
import { insertEmailUser } from "./signup.ts";
import {
  findEmailHolder,
  findUserByEmail,
  findUserById,
  isConfirmed,
  mergeMetadata,
  type Metadata,
  presentUser,
  updateUser,
  type UserRow,
  validateEmail,
} from "./users.ts";

const Body = z.object({
  type: text,
  email: text,
  new_email: text,
  password: text,
  data: jsonObject,
  redirect_to: text,
});

const KINDS = [
  "signup",
  "invite",
  "magiclink",
  "recovery",
  "email_change_current",
  "email_change_new",
];
const EMAIL_EXISTS = "A user with this email address has already been registered";

/**
 * `POST /admin/generate_link`: the code and link that a mail would carry, for administrators who
 * send their own mails. Creates the user for `signup` and `invite`, and for `magiclink` to an
 * unknown address.
 *
 * @throws {AuthError} `validation_failed` (400), `user_not_found` (404), `email_exists`,
 *   `weak_password` (422)
 */
export async function generateLink(context: AuthContext, request: AuthRequest): Promise<Response> {
  const adminRole = await requireAdmin(context, request);
  const { sql, settings } = context;
  const body = await request.json(Body);
  const email = validateEmail(body.email);
  if (!KINDS.includes(body.type)) {
    throw badRequest(
      "validation_failed",
      `Invalid email action link type requested: ${body.type}`,
    );
  }
  const redirectTo = isAllowedRedirect(settings, body.redirect_to)
    ? body.redirect_to
    : redirectTarget(context, request);
  const aud = audienceOf(request);
  const known = await findUserByEmail(sql, email, aud);
  const creates = ["signup", "invite", "magiclink"].includes(body.type);
  if (known === null && !creates) {
    throw notFound("user_not_found", "User with this email not found");
  }
  const isNewMagicLink = body.type === "magiclink" && known === null;
  const type = isNewMagicLink ? "signup" : body.type;
  const password = isNewMagicLink ? randomPassword() : body.password;
  let passwordHash: string | null = null;
  if (known === null && type === "signup") {
    if (password === "") {
      throw badRequest("validation_failed", "Signup requires a valid password");
    }
    checkPasswordStrength(settings, password);
    passwordHash = await hashPassword(sql, password);
  }
  const account = { email, aud, data: body.data ?? {}, passwordHash };

  const { user, otp, hash } = await sql.begin(async (tx) => {
    const user = known ?? await insertEmailUser(tx, account);
    const code = type.startsWith("email_change_")
      ? await issueEmailChange(context, tx, user, type, body.new_email)
      : await issueLink(context, tx, { adminRole }, user, type as CodeKind, known, body.data);
    return { ...code, user: (await findUserById(tx, user.id))! };
  });
  const kind = type.startsWith("email_change_") ? "email_change" : type as CodeKind;
  return json({
    ...presentUser(user),
    action_link: actionLink(context, kind, { hash, redirectTo }),
    email_otp: otp,
    hashed_token: hash,
    verification_type: type,
    redirect_to: redirectTo,
  });
}

async function issueLink(
  context: AuthContext,
  sql: Db,
  admin: { adminRole: string },
  user: UserRow,
  kind: CodeKind,
  known: UserRow | null,
  data: Metadata | null,
) {
  if (kind === "signup" || kind === "invite") {
    if (isConfirmed(user)) throw unprocessable("email_exists", EMAIL_EXISTS);
    if (kind === "invite") {
      await audit(sql, admin, "user_invited", { user_id: user.id, user_email: user.email });
    } else if (known !== null && data !== null) {
      await updateUser(sql, user.id, {
        raw_user_meta_data: mergeMetadata(user.raw_user_meta_data, data),
      });
    }
  } else {
    await audit(sql, user, "user_recovery_requested");
  }
  return await issueCode(context, sql, user, kind);
}

async function issueEmailChange(
  context: AuthContext,
  sql: Db,
  user: UserRow,
  type: string,
  wanted: string,
) {
  if (type === "email_change_current" && !context.settings.secureEmailChange) {
    throw badRequest(
      "validation_failed",
      "Enable secure email change to generate link for current email",
    );
  }
  const newEmail = validateEmail(wanted);
  if (await findEmailHolder(sql, newEmail, user.aud, user.id)) {
    throw unprocessable("email_exists", EMAIL_EXISTS);
  }
  const isCurrent = type === "email_change_current";
  const tokenType = isCurrent ? "email_change_token_current" : "email_change_token_new";
  const address = isCurrent ? user.email ?? "" : newEmail;
  const otp = newOtp(context.settings.otpLength);
  const hash = tokenHash(address, otp);
  await updateUser(sql, user.id, {
    email_change: newEmail,
    email_change_sent_at: new Date(),
    email_change_confirm_status: 0,
    [tokenType]: hash,
  });
  await storeToken(sql, user.id, tokenType, hash, address);
  return { otp, hash };
}
