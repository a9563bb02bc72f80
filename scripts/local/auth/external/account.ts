import { audit } from "../audit.ts";
import type { AuthContext, Db } from "../context.ts";
import { AuthError, forbidden, internal, unprocessable } from "../errors.ts";
import type { Mail } from "../mail.ts";
import { mailCode } from "../one-time-tokens.ts";
import {
  confirmUser,
  findEmailHolder,
  findUserByEmail,
  findUserById,
  insertIdentity,
  insertUser,
  isBanned,
  isConfirmed,
  isEmailTaken,
  lockUser,
  mergeMetadata,
  type Metadata,
  refreshProviders,
  toJson,
  updateUser,
  type UserRow,
} from "../users.ts";
import type { ExternalEmail, ExternalProfile } from "./provider.ts";

/** What a provider's account leads to: a user, or a refusal that must not undo what it did. */
export interface Outcome {
  user: UserRow;
  /** To be sent once the transaction has committed. */
  mails: Mail[];
  refusal: AuthError | null;
}

export interface SignIn {
  provider: string;
  profile: ExternalProfile;
  emailOptional: boolean;
  aud: string;
  /** Where a mail that confirms the address leads. */
  redirectTo: string;
}

/**
 * The user behind a provider's account: the one it belongs to, else the one who has its verified
 * address, else a new one.
 *
 * @throws {AuthError} `unexpected_failure` (500) without an address, `signup_disabled` (422),
 *   `user_banned` (403)
 */
export async function signInWithAccount(
  context: AuthContext,
  sql: Db,
  { provider, profile, emailOptional, aud, redirectTo }: SignIn,
): Promise<Outcome> {
  const main = mainEmail(profile);
  if (main === null && !emailOptional) {
    throw internal("Error getting user email from external provider");
  }
  const data = identityData(profile, main);
  const found = await findAccount(context, sql, provider, profile, main, aud);
  if (found.user === null && !context.settings.signupEnabled) {
    throw unprocessable("signup_disabled", "Signups not allowed for this instance");
  }
  const user = found.user ?? await createUser(sql, provider, found.email, data, aud);
  await lockUser(sql, user.id);
  if (found.known) await renewIdentity(sql, provider, profile.subject, data);
  else await insertIdentity(sql, user.id, provider, data);
  await updateUser(sql, user.id, {
    raw_user_meta_data: mergeMetadata(user.raw_user_meta_data, data),
  });
  if (found.user !== null && !found.known) await auditLink(sql, user, provider, profile.subject);
  await refreshProviders(sql, (await findUserById(sql, user.id))!);
  if (isBanned(user)) throw forbidden("user_banned", "User is banned");

  const current = (await findUserById(sql, user.id))!;
  const hasEmail = !(emailOptional && found.email === null);
  if (!hasEmail || isConfirmed(current)) {
    await audit(sql, current, "login", { provider });
    return { user: current, mails: [], refusal: null };
  }
  // Whoever signed up with this address before never showed that it is theirs. What they left, a
  // password first of all, must not open the account of the one who does.
  await forgetUnconfirmed(sql, current, provider, profile.subject, data);
  const forgotten = (await findUserById(sql, user.id))!;
  if (main?.verified || context.settings.autoconfirm) {
    await audit(sql, forgotten, "user_signedup", { provider });
    await confirmUser(sql, forgotten);
    return { user: (await findUserById(sql, user.id))!, mails: [], refusal: null };
  }
  return await askToConfirm(context, sql, forgotten, provider, redirectTo);
}

/**
 * Adds a provider's account to a signed-in user's.
 *
 * @throws {AuthError} `identity_already_exists`, `user_not_found` (422)
 */
export async function linkAccount(
  context: AuthContext,
  sql: Db,
  userId: string,
  { provider, profile, aud, redirectTo }: SignIn,
): Promise<Outcome> {
  const user = await lockUser(sql, userId);
  if (user === null) throw unprocessable("user_not_found", "Linking target user not found");
  if (isBanned(user)) throw forbidden("user_banned", "User is banned");
  const owner = await findOwner(sql, provider, profile.subject);
  if (owner !== null) {
    const whose = owner.id === userId ? "" : " to another user";
    throw unprocessable("identity_already_exists", `Identity is already linked${whose}`);
  }
  const main = mainEmail(profile);
  await insertIdentity(sql, userId, provider, identityData(profile, main));
  await auditLink(sql, user, provider, profile.subject);
  const address = main?.email ?? "";
  if (!user.email && address !== "" && !await findEmailHolder(sql, address, aud, userId)) {
    await updateUser(sql, userId, { email: address });
    const addressed = (await findUserById(sql, userId))!;
    if (!main!.verified) {
      await refreshProviders(sql, addressed);
      return await askToConfirm(context, sql, addressed, provider, redirectTo);
    }
    await confirmUser(sql, addressed);
    await updateUser(sql, userId, { is_anonymous: false });
  }
  await refreshProviders(sql, (await findUserById(sql, userId))!);
  return { user: (await findUserById(sql, userId))!, mails: [], refusal: null };
}

/**
 * True when two sign-ins of one account at once wanted to create the same thing: tried once more,
 * the second finds what the first made.
 */
export function lostRace(error: unknown): boolean {
  const { code, constraint_name: name } = error as { code?: string; constraint_name?: string };
  return isEmailTaken(error) ||
    (code === "23505" && name === "identities_provider_id_provider_unique");
}

interface Found {
  /** Null for somebody new. */
  user: UserRow | null;
  /** True when the account is the user's already. */
  known: boolean;
  /** Address for a new user; null when there is none or another user has it. */
  email: string | null;
}

async function findAccount(
  { settings }: AuthContext,
  sql: Db,
  provider: string,
  profile: ExternalProfile,
  main: ExternalEmail | null,
  aud: string,
): Promise<Found> {
  const owner = await findOwner(sql, provider, profile.subject);
  if (owner !== null) return { user: owner, known: true, email: owner.email };
  // Where addresses confirm themselves, an unverified one counts as much as any account's.
  const vouched = profile.emails.filter(({ verified }) => verified || settings.autoconfirm)
    .map(({ email }) => email.toLowerCase());
  const holders = await sql<{ user_id: string }[]>`
    select user_id from auth.identities
    where email = any (${vouched}) and provider not like 'sso:%'
    union
    select id from auth.users where lower(email) = any (${vouched}) and not is_sso_user`;
  if (holders.length > 1) {
    throw internal("Multiple accounts with the same email address in the same linking domain");
  }
  if (holders.length === 1) {
    const user = (await findUserById(sql, holders[0]!.user_id))!;
    return { user, known: false, email: main?.email ?? null };
  }
  const taken = main !== null && await findEmailHolder(sql, main.email, aud) !== null;
  return { user: null, known: false, email: taken ? null : main?.email ?? null };
}

async function findOwner(sql: Db, provider: string, subject: string): Promise<UserRow | null> {
  const [identity] = await sql<{ user_id: string }[]>`
    select user_id from auth.identities where provider = ${provider} and provider_id = ${subject}`;
  return identity === undefined ? null : await findUserById(sql, identity.user_id);
}

async function createUser(
  sql: Db,
  provider: string,
  email: string | null,
  data: Metadata,
  aud: string,
): Promise<UserRow> {
  const id = crypto.randomUUID();
  await insertUser(sql, {
    id,
    aud,
    email,
    passwordHash: null,
    appMetadata: { provider, providers: [provider] },
    userMetadata: data,
  });
  return (await findUserById(sql, id))!;
}

async function renewIdentity(
  sql: Db,
  provider: string,
  subject: string,
  data: Metadata,
): Promise<void> {
  await sql`
    update auth.identities
    set identity_data = ${toJson(sql, data)}, last_sign_in_at = clock_timestamp(),
      updated_at = clock_timestamp()
    where provider = ${provider} and provider_id = ${subject}`;
}

async function forgetUnconfirmed(
  sql: Db,
  user: UserRow,
  provider: string,
  subject: string,
  data: Metadata,
): Promise<void> {
  await updateUser(sql, user.id, { encrypted_password: null, raw_user_meta_data: data });
  await sql`
    delete from auth.identities
    where user_id = ${user.id} and (provider, provider_id) <> (${provider}, ${subject})`;
  await sql`delete from auth.sessions where user_id = ${user.id}`;
  await refreshProviders(sql, user);
}

async function askToConfirm(
  context: AuthContext,
  sql: Db,
  user: UserRow,
  provider: string,
  redirectTo: string,
): Promise<Outcome> {
  const mails = user.email ? [await mailCode(context, sql, user, "signup", redirectTo)] : [];
  const next = mails.length > 0
    ? `A confirmation email has been sent to your ${provider} email`
    : `Verify the email with ${provider} in order to sign in`;
  const refusal = unprocessable(
    "provider_email_needs_verification",
    `Unverified email with ${provider}. ${next}`,
  );
  return { user, mails, refusal };
}

async function auditLink(
  sql: Db,
  user: UserRow,
  provider: string,
  subject: string,
): Promise<void> {
  await audit(sql, user, "identity_linked", { provider, provider_id: subject });
}

function mainEmail({ emails }: ExternalProfile): ExternalEmail | null {
  const main = emails.find(({ primary }) => primary) ?? emails.at(-1);
  return main === undefined ? null : { ...main, email: main.email.toLowerCase() };
}

function identityData({ claims }: ExternalProfile, main: ExternalEmail | null): Metadata {
  return {
    ...claims,
    ...(main !== null && { email: main.email }),
    email_verified: main?.verified ?? false,
    phone_verified: false,
  };
}

/** The user's address when an identity is gone: one of those that are left, verified ones first. */
export async function addressFromIdentities(sql: Db, user: UserRow): Promise<void> {
  const left = (await findUserById(sql, user.id))!.identities;
  const current = user.email?.toLowerCase() ?? "";
  if (left.some(({ email }) => (email ?? "") === current)) return;
  const rank = (data: Metadata, email: string | null) =>
    email === null ? 2 : data.email_verified === true ? 0 : 1;
  const candidates = left.toSorted((a, b) =>
    rank(a.identity_data, a.email) - rank(b.identity_data, b.email)
  );
  for (const { email, identity_data: data } of candidates) {
    if (email !== null && await findUserByEmail(sql, email, user.aud) !== null) continue;
    await updateUser(sql, user.id, {
      email,
      email_confirmed_at: email !== null && data.email_verified === true ? new Date() : null,
    });
    return;
  }
  throw unprocessable(
    "email_conflict_identity_not_deletable",
    "Unable to unlink identity due to email conflict",
  );
}
