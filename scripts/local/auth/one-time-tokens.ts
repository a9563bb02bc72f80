import { createHash, randomInt } from "node:crypto";
import type { AuthContext, Db } from "./context.ts";
import { tooMany } from "./errors.ts";
import { type Mail, writeMail } from "./mail.ts";
import { type Challenge, PKCE_PREFIX, rememberChallenge } from "./pkce.ts";
import { updateUser, type UserRow } from "./users.ts";

/** What a one-time token lets its holder do; the names are those of `auth.one_time_token_type`. */
export type OneTimeTokenType =
  | "confirmation_token"
  | "recovery_token"
  | "reauthentication_token"
  | "email_change_token_new"
  | "email_change_token_current";

/** Random decimal digits. */
export function newOtp(length: number): string {
  return Array.from({ length }, () => randomInt(10)).join("");
}

/** What the database keeps of a code: it cannot be turned back, and is good for one address. */
export function tokenHash(email: string, otp: string): string {
  return createHash("sha224").update(email + otp).digest("hex");
}

/** Stores the hash of a code, in place of an earlier one of the same type. */
export async function storeToken(
  sql: Db,
  userId: string,
  type: OneTimeTokenType,
  hash: string,
  relatesTo: string,
): Promise<void> {
  await sql`
    insert into auth.one_time_tokens (id, user_id, token_type, token_hash, relates_to)
    values (gen_random_uuid(), ${userId}, ${type}, ${hash}, ${relatesTo})
    on conflict (user_id, token_type) do update
    set token_hash = excluded.token_hash, relates_to = excluded.relates_to,
      created_at = now(), updated_at = now()`;
}

export async function deleteToken(sql: Db, userId: string, type: OneTimeTokenType): Promise<void> {
  await sql`
    delete from auth.one_time_tokens where user_id = ${userId} and token_type = ${type}`;
}

/**
 * The kinds of mail that carry a code: the token behind each, the column that says when the last
 * one went out, and how a session that comes of it was begun.
 */
const KINDS = {
  signup: {
    type: "confirmation_token",
    sentAt: "confirmation_sent_at",
    method: "email/signup",
  },
  invite: { type: "confirmation_token", sentAt: "confirmation_sent_at", method: "invite" },
  recovery: { type: "recovery_token", sentAt: "recovery_sent_at", method: "recovery" },
  magiclink: { type: "recovery_token", sentAt: "recovery_sent_at", method: "magiclink" },
  reauthentication: {
    type: "reauthentication_token",
    sentAt: "reauthentication_sent_at",
    method: "otp",
  },
} as const;

export type CodeKind = keyof typeof KINDS;

/** A code as it was handed out. */
export interface IssuedCode {
  otp: string;
  hash: string;
}

/** Gives `user` a code of this kind, without a mail. */
export async function issueCode(
  context: AuthContext,
  sql: Db,
  user: UserRow,
  kind: CodeKind,
  challenge: Challenge = null,
): Promise<IssuedCode> {
  const { type, sentAt, method } = KINDS[kind];
  const email = user.email ?? "";
  const otp = newOtp(context.settings.otpLength);
  const hash = (challenge === null ? "" : PKCE_PREFIX) + tokenHash(email, otp);
  if (challenge !== null) await rememberChallenge(sql, user.id, method, challenge);
  const now = new Date();
  await updateUser(sql, user.id, {
    [type]: hash,
    [sentAt]: now,
    ...(kind === "invite" && { invited_at: now }),
  });
  await storeToken(sql, user.id, type, hash, email);
  return { otp, hash };
}

/**
 * Gives `user` a code of this kind and writes the mail that carries it. The caller sends the mail
 * once its transaction has committed.
 *
 * @throws {AuthError} `over_email_send_rate_limit` (429) right after another mail of the kind
 */
export async function mailCode(
  context: AuthContext,
  sql: Db,
  user: UserRow,
  kind: CodeKind,
  redirectTo: string,
  challenge: Challenge = null,
): Promise<Mail> {
  checkMailPause(context, user[KINDS[kind].sentAt]);
  takeMail(context);
  const { otp, hash } = await issueCode(context, sql, user, kind, challenge);
  return writeMail(context, kind, user.id, user.email ?? "", { otp, hash, redirectTo });
}

/**
 * Starts a change of address: a code to the new address and, where both must agree, one to the old.
 *
 * @throws {AuthError} `over_email_send_rate_limit` (429)
 */
export async function mailEmailChange(
  context: AuthContext,
  sql: Db,
  user: UserRow,
  newEmail: string,
  redirectTo: string,
  challenge: Challenge = null,
): Promise<Mail[]> {
  checkMailPause(context, user.email_change_sent_at);
  takeMail(context);
  const { otpLength, secureEmailChange } = context.settings;
  if (challenge !== null) await rememberChallenge(sql, user.id, "email_change", challenge);
  const mark = challenge === null ? "" : PKCE_PREFIX;
  const current = user.email ?? "";
  const receivers = [{ address: newEmail, type: "email_change_token_new" as const }];
  const codes = receivers.map(({ address, type }) => code(address, type));
  if (secureEmailChange && current !== "") codes.push(code(current, "email_change_token_current"));

  await updateUser(sql, user.id, {
    email_change: newEmail,
    email_change_sent_at: new Date(),
    email_change_confirm_status: 0,
    ...Object.fromEntries(codes.map(({ type, hash }) => [type, hash])),
  });
  for (const { type, hash, address } of codes) await storeToken(sql, user.id, type, hash, address);
  return codes.map(({ address, otp, hash }) =>
    writeMail(context, "email_change", user.id, address, { otp, hash, redirectTo, newEmail })
  );

  function code(
    address: string,
    type: "email_change_token_new" | "email_change_token_current",
  ) {
    const otp = newOtp(otpLength);
    return { address, type, otp, hash: mark + tokenHash(address, otp) };
  }
}

/** Whether a code of this age is too old. */
export function isExpired(context: AuthContext, sentAt: Date | null): boolean {
  return sentAt === null || sentAt.getTime() + context.settings.otpExpiry * 1000 < Date.now();
}

function checkMailPause(context: AuthContext, sentAt: Date | null): void {
  if (sentAt === null) return;
  const left = sentAt.getTime() + context.settings.mailPause * 1000 - Date.now();
  if (left <= 0) return;
  throw tooMany(
    "over_email_send_rate_limit",
    `For security purposes, you can only request this after ${Math.floor(left / 1000)} seconds.`,
  );
}

function takeMail(context: AuthContext): void {
  // Auth does not count mails of a project that confirms addresses by itself.
  if (context.settings.autoconfirm || context.limiter.tryTake("emailSent", "project")) return;
  throw tooMany("over_email_send_rate_limit", "email rate limit exceeded");
}
