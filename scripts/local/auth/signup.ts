import { z } from "zod";
import { audit } from "./audit.ts";
import { audienceOf } from "./bearer.ts";
import type { AuthContext, Db } from "./context.ts";
import { AuthError, badRequest, internal, unprocessable } from "./errors.ts";
import { deliver, type Mail } from "./mail.ts";
import { mailCode } from "./one-time-tokens.ts";
import { checkPasswordStrength, hashPassword } from "./passwords.ts";
import { type Challenge, challengeFields, readChallenge } from "./pkce.ts";
import { redirectTarget } from "./redirect.ts";
import { type AuthRequest, json, jsonObject, text } from "./request.ts";
import { openSession } from "./sessions.ts";
import {
  confirmUser,
  emailIdentity,
  findEmailHolder,
  findUserById,
  insertIdentity,
  insertUser,
  isConfirmed,
  isEmailTaken,
  lockUser,
  type Metadata,
  presentUser,
  type UserRow,
  validateEmail,
} from "./users.ts";

const Body = z.object({
  email: text,
  phone: text,
  password: text,
  data: jsonObject,
  ...challengeFields,
});

/**
 * `POST /signup` with address and password, or with neither for an anonymous user. Answers with a session when addresses are confirmed
 * automatically, else with the user and a mail.
 *
 * @throws {AuthError} `validation_failed`, `email_provider_disabled` (400), `weak_password`,
 *   `signup_disabled`, `user_already_exists`, `anonymous_provider_disabled` (422),
 *   `over_request_rate_limit` (429)
 */
export async function signUp(context: AuthContext, request: AuthRequest): Promise<Response> {
  const { settings } = context;
  const body = await request.json(Body);
  if (body.email === "" && body.phone === "") {
    return await signUpAnonymously(context, request, body.data ?? {});
  }
  context.limiter.take("signInSignUps", request.ip ?? "unknown");
  if (!settings.signupEnabled) {
    throw unprocessable("signup_disabled", "Signups not allowed for this instance");
  }
  if (body.password === "") {
    throw badRequest("validation_failed", "Signup requires a valid password");
  }
  checkPasswordStrength(settings, body.password);
  if (body.email !== "" && body.phone !== "") {
    throw badRequest(
      "validation_failed",
      "Only an email address or phone number should be provided on signup.",
    );
  }
  if (body.phone !== "") {
    throw badRequest("phone_provider_disabled", "Phone signups are disabled");
  }
  if (!settings.emailEnabled) {
    throw badRequest("email_provider_disabled", "Email signups are disabled");
  }
  const email = validateEmail(body.email);
  const aud = audienceOf(request);
  const data = body.data ?? {};

  const wanted = { email, aud, data, challenge: readChallenge(body) };
  const account = await createAccount(context, request, wanted, body.password);
  if (account.state === "taken") {
    await audit(context.sql, account.user, "user_repeated_signup", { provider: "email" });
    if (settings.autoconfirm) {
      throw unprocessable("user_already_exists", "User already registered");
    }
    return json(decoyUser(email, aud, data));
  }
  for (const mail of account.mails) await deliver(context, mail);
  if (!isConfirmed(account.user)) {
    const invited = account.user.invited_at !== null;
    const shown = presentUser(account.user);
    return json(invited ? { ...shown, user_metadata: {}, identities: [] } : shown);
  }
  const answer = await context.sql.begin(async (sql) => {
    await audit(sql, account.user, "login", { provider: "email" });
    return await openSession(context, sql, account.user, "password", request);
  });
  return json(answer);
}

/** A user without address or password, who can take an address later. */
async function signUpAnonymously(
  context: AuthContext,
  request: AuthRequest,
  data: Metadata,
): Promise<Response> {
  const { settings, sql } = context;
  if (!settings.anonymousSignInEnabled) {
    throw unprocessable("anonymous_provider_disabled", "Anonymous sign-ins are disabled");
  }
  context.limiter.take("anonymousUsers", request.ip ?? "unknown");
  if (!settings.signupEnabled) {
    throw unprocessable("signup_disabled", "Signups not allowed for this instance");
  }
  const answer = await sql.begin(async (tx) => {
    const id = crypto.randomUUID();
    await insertUser(tx, {
      id,
      aud: audienceOf(request),
      email: null,
      passwordHash: null,
      appMetadata: {},
      userMetadata: data,
      isAnonymous: true,
    });
    const user = (await findUserById(tx, id))!;
    return await openSession(context, tx, user, "anonymous", request);
  });
  return json(answer);
}

interface NewAccount {
  email: string;
  aud: string;
  data: Metadata;
}

type Account =
  | { state: "created"; user: UserRow; mails: Mail[] }
  /** Somebody has confirmed this address before. */
  | { state: "taken"; user: UserRow };

/**
 * Creates the user with an e-mail identity and confirms the address or writes the mail for it. An
 * unconfirmed user of that address is kept as is, because nobody knows who asked first, and only
 * gets another mail.
 */
export async function createAccount(
  context: AuthContext,
  request: AuthRequest,
  account: NewAccount & { challenge: Challenge },
  password: string,
): Promise<Account> {
  const { sql } = context;
  const holder = await findEmailHolder(sql, account.email, account.aud);
  if (holder !== null && isConfirmed(holder)) return { state: "taken", user: holder };
  // Before the transaction: the hash takes long, and a row lock must not last as long.
  const passwordHash = holder === null ? await hashPassword(sql, password) : null;
  try {
    return await sql.begin(async (tx) => {
      const user = holder === null
        ? await insertEmailUser(tx, { ...account, passwordHash })
        : (await lockUser(tx, holder.id))!;
      if (isConfirmed(user)) return { state: "taken" as const, user };
      const mails: Mail[] = [];
      if (context.settings.autoconfirm) {
        await audit(tx, user, "user_signedup", { provider: "email" });
        await confirmUser(tx, user);
      } else {
        await audit(tx, user, "user_confirmation_requested", { provider: "email" });
        const target = redirectTarget(context, request);
        mails.push(await mailCode(context, tx, user, "signup", target, account.challenge));
      }
      return { state: "created" as const, user: (await findUserById(tx, user.id))!, mails };
    });
  } catch (error) {
    if (error instanceof AuthError) throw error;
    const winner = isEmailTaken(error)
      ? await findEmailHolder(sql, account.email, account.aud)
      : null;
    // Two sign-ups at once: the other one came first.
    if (winner !== null) return { state: "taken", user: winner };
    throw internal("Database error saving new user", error);
  }
}

/** Inserts a user with an e-mail identity, whose data become the user's metadata. */
export async function insertEmailUser(
  sql: Db,
  account: NewAccount & { passwordHash: string | null },
): Promise<UserRow> {
  const id = crypto.randomUUID();
  const identity = { ...account.data, ...emailIdentity(id, account.email) };
  await insertUser(sql, {
    id,
    aud: account.aud,
    email: account.email,
    passwordHash: account.passwordHash,
    appMetadata: { provider: "email", providers: ["email"] },
    userMetadata: identity,
  });
  await insertIdentity(sql, id, "email", identity);
  return (await findUserById(sql, id))!;
}

/** What a sign-up with a taken address sees: as much as a new user would, and nothing true. */
function decoyUser(email: string, aud: string, data: Metadata): Record<string, unknown> {
  const now = new Date().toISOString();
  return {
    id: crypto.randomUUID(),
    aud,
    role: "",
    email,
    phone: "",
    confirmation_sent_at: now,
    app_metadata: { provider: "email", providers: ["email"] },
    user_metadata: data,
    identities: [],
    created_at: now,
    updated_at: now,
    is_anonymous: false,
  };
}
