import type postgres from "postgres";
import type { Db } from "./context.ts";
import { badRequest } from "./errors.ts";

/** A row of `auth.users` with its identities and factors. */
export interface UserRow {
  id: string;
  aud: string;
  role: string;
  email: string | null;
  phone: string | null;
  encrypted_password: string | null;
  email_confirmed_at: Date | null;
  phone_confirmed_at: Date | null;
  confirmed_at: Date | null;
  invited_at: Date | null;
  confirmation_token: string | null;
  confirmation_sent_at: Date | null;
  recovery_token: string | null;
  recovery_sent_at: Date | null;
  email_change: string | null;
  email_change_token_new: string | null;
  email_change_token_current: string | null;
  email_change_sent_at: Date | null;
  email_change_confirm_status: number;
  phone_change: string | null;
  phone_change_sent_at: Date | null;
  reauthentication_token: string | null;
  reauthentication_sent_at: Date | null;
  last_sign_in_at: Date | null;
  raw_app_meta_data: Metadata | null;
  raw_user_meta_data: Metadata | null;
  created_at: Date;
  updated_at: Date;
  banned_until: Date | null;
  deleted_at: Date | null;
  is_sso_user: boolean;
  is_anonymous: boolean;
  identities: IdentityRow[];
  factors: FactorRow[];
}

export interface IdentityRow {
  id: string;
  provider_id: string;
  user_id: string;
  provider: string;
  identity_data: Metadata;
  email: string | null;
  last_sign_in_at: string | null;
  created_at: string;
  updated_at: string;
}

export interface FactorRow {
  id: string;
  friendly_name: string | null;
  factor_type: string;
  status: string;
  phone: string | null;
  created_at: string;
  updated_at: string;
}

export type Metadata = Record<string, unknown>;

/** What `updateUser` may change. */
export type UserChanges = Partial<Omit<UserRow, "id" | "confirmed_at" | "identities" | "factors">>;

export const DEFAULT_AUDIENCE = "authenticated";
/** `instance_id` of every row: a relic of hosting many sites in one database. */
export const INSTANCE = "00000000-0000-0000-0000-000000000000";

export function findUserById(sql: Db, id: string): Promise<UserRow | null> {
  return selectUser(sql, sql`where u.id = ${id}`);
}

/** Like `findUserById`, and nobody else changes the user until the transaction ends. */
export async function lockUser(sql: Db, id: string): Promise<UserRow | null> {
  await sql`select from auth.users where id = ${id} for update`;
  return await findUserById(sql, id);
}

export function findUserByEmail(sql: Db, email: string, aud: string): Promise<UserRow | null> {
  return selectUser(
    sql,
    sql`
      where u.instance_id = ${INSTANCE} and lower(u.email) = ${email.toLowerCase()}
        and u.aud = ${aud} and not u.is_sso_user`,
  );
}

/**
 * The user who holds `email` either as account address or through an identity, other than
 * `exceptId`. SSO accounts do not count: theirs may repeat.
 */
export async function findEmailHolder(
  sql: Db,
  email: string,
  aud: string,
  exceptId: string | null = null,
): Promise<UserRow | null> {
  const lowered = email.toLowerCase();
  const [holder] = await sql<{ id: string }[]>`
    select u.id
    from auth.users u
    where u.aud = ${aud} and u.id is distinct from ${exceptId}::uuid
      and (
        (u.instance_id = ${INSTANCE} and lower(u.email) = ${lowered} and not u.is_sso_user)
        or u.id in (
          select i.user_id from auth.identities i
          where i.email = ${lowered} and i.provider not like 'sso:%'
        )
      )
    limit 1`;
  return holder === undefined ? null : await findUserById(sql, holder.id);
}

/** Users that `tail` (where, order by, limit) picks. */
export async function selectUsers(sql: Db, tail: postgres.PendingQuery<postgres.Row[]>) {
  return await sql<UserRow[]>`
    select u.*,
      coalesce((
        select jsonb_agg(to_jsonb(i) order by i.created_at, i.id)
        from auth.identities i where i.user_id = u.id
      ), '[]') as identities,
      coalesce((
        select jsonb_agg(to_jsonb(f) - 'secret' order by f.created_at, f.id)
        from auth.mfa_factors f where f.user_id = u.id
      ), '[]') as factors
    from auth.users u
    ${tail}`;
}

async function selectUser(
  sql: Db,
  where: postgres.PendingQuery<postgres.Row[]>,
): Promise<UserRow | null> {
  const [user] = await selectUsers(sql, sql`${where} limit 1`);
  return user ?? null;
}

export async function updateUser(sql: Db, id: string, changes: UserChanges): Promise<void> {
  const columns: Record<string, unknown> = { ...changes };
  for (const name of ["raw_app_meta_data", "raw_user_meta_data"] as const) {
    if (changes[name]) columns[name] = toJson(sql, changes[name]);
  }
  await sql`
    update auth.users
    set ${sql(columns as Record<string, string>)}, updated_at = clock_timestamp()
    where id = ${id}`;
}

/** What a new row of `auth.users` starts with. */
export interface NewUser {
  id: string;
  aud: string;
  email: string | null;
  passwordHash: string | null;
  appMetadata: Metadata;
  userMetadata: Metadata;
  role?: string;
  isAnonymous?: boolean;
}

export async function insertUser(sql: Db, user: NewUser): Promise<void> {
  await sql`
    insert into auth.users (
      instance_id, id, aud, role, email, encrypted_password, raw_app_meta_data,
      raw_user_meta_data, confirmation_token, recovery_token, email_change,
      email_change_token_new, is_anonymous, created_at, updated_at
    ) values (
      ${INSTANCE}, ${user.id}, ${user.aud}, ${user.role ?? "authenticated"}, ${user.email},
      ${user.passwordHash}, ${toJson(sql, user.appMetadata)}, ${toJson(sql, user.userMetadata)},
      '', '', '', '', ${user.isAnonymous ?? false}, clock_timestamp(), clock_timestamp()
    )`;
}

/** True when inserting or changing a user failed because somebody else has the address. */
export function isEmailTaken(error: unknown): boolean {
  const { code, constraint_name } = error as { code?: string; constraint_name?: string };
  return code === "23505" && constraint_name === "users_email_partial_key";
}

export async function insertIdentity(
  sql: Db,
  userId: string,
  provider: string,
  data: Metadata,
): Promise<void> {
  await sql`
    insert into auth.identities (
      id, provider_id, user_id, identity_data, provider, last_sign_in_at, created_at, updated_at
    ) values (
      gen_random_uuid(), ${String(data.sub)}, ${userId}, ${toJson(sql, data)}, ${provider},
      clock_timestamp(), clock_timestamp(), clock_timestamp()
    )`;
}

/** The claims that an e-mail identity holds about a user. */
export function emailIdentity(userId: string, email: string, verified = false): Metadata {
  return { sub: userId, email, email_verified: verified, phone_verified: false };
}

/** Lays `changes` over the data of the user's e-mail identity. */
export async function changeEmailIdentity(
  sql: Db,
  userId: string,
  changes: Metadata,
): Promise<void> {
  await sql`
    update auth.identities
    set identity_data = identity_data || ${toJson(sql, changes)}, updated_at = clock_timestamp()
    where user_id = ${userId} and provider = 'email' and provider_id = ${userId}`;
}

/** Lays `changes` over metadata; a null removes its key. */
export function mergeMetadata(metadata: Metadata | null, changes: Metadata): Metadata {
  const merged = { ...metadata };
  for (const [key, value] of Object.entries(changes)) {
    if (value === null) delete merged[key];
    else {Object.defineProperty(merged, key, {
        value,
        enumerable: true,
        configurable: true,
        writable: true,
      });}
  }
  return merged;
}

/** Makes `app_metadata.provider` and `.providers` say which identities there are. */
export async function refreshProviders(sql: Db, user: UserRow): Promise<void> {
  const identities = await sql<{ provider: string }[]>`
    select provider from auth.identities where user_id = ${user.id}
    group by provider order by min(created_at)`;
  const providers = identities.map((identity) => identity.provider);
  const changes = providers.length > 0 ? { provider: providers[0], providers } : { providers };
  await updateUser(sql, user.id, {
    raw_app_meta_data: mergeMetadata(user.raw_app_meta_data, changes),
  });
}

/** Marks the address as confirmed and throws every open code and link away. */
export async function confirmUser(sql: Db, user: UserRow): Promise<void> {
  await updateUser(sql, user.id, {
    confirmation_token: "",
    email_confirmed_at: new Date(),
    raw_user_meta_data: mergeMetadata(user.raw_user_meta_data, { email_verified: true }),
  });
  await clearOneTimeTokens(sql, user.id);
}

export async function clearOneTimeTokens(sql: Db, userId: string): Promise<void> {
  await sql`delete from auth.one_time_tokens where user_id = ${userId}`;
}

/**
 * Stores a new password and, because whoever knew the old one may still be signed in, ends every
 * session but `keepSession` and throws open codes and links away.
 */
export async function changePassword(
  sql: Db,
  userId: string,
  hash: string | null,
  keepSession: string | null,
): Promise<void> {
  await updateUser(sql, userId, {
    encrypted_password: hash,
    confirmation_token: "",
    confirmation_sent_at: null,
    recovery_token: "",
    recovery_sent_at: null,
    email_change_token_current: "",
    email_change_token_new: "",
    email_change_sent_at: null,
    reauthentication_token: "",
    reauthentication_sent_at: null,
  });
  await clearOneTimeTokens(sql, userId);
  await sql`
    delete from auth.sessions
    where user_id = ${userId} and id is distinct from ${keepSession}::uuid`;
}

export function isConfirmed(user: UserRow): boolean {
  return user.email_confirmed_at !== null;
}

export function isBanned(user: UserRow): boolean {
  return user.banned_until !== null && user.banned_until.getTime() > Date.now();
}

/**
 * An address in lower case.
 *
 * @throws {AuthError} `validation_failed` (400) when it is none
 */
export function validateEmail(email: string): string {
  if (email === "") throw badRequest("validation_failed", "An email address is required");
  if (email.length > 255) {
    throw badRequest("validation_failed", "An email address is too long");
  }
  if (!EMAIL.test(email)) {
    throw badRequest("validation_failed", "Unable to validate email address: invalid format");
  }
  return email.toLowerCase();
}

const EMAIL =
  /^[a-zA-Z0-9.!#$%&'*+/=?^_`{|}~-]+@[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?)*$/;

/** A user as clients see it. Hashes and tokens are not in it. */
export function presentUser(user: UserRow): Record<string, unknown> {
  return {
    id: user.id,
    aud: user.aud ?? "",
    role: user.role ?? "",
    email: user.email ?? "",
    ...times(user, ["email_confirmed_at", "invited_at"]),
    phone: user.phone ?? "",
    ...times(user, [
      "phone_confirmed_at",
      "confirmation_sent_at",
      "confirmed_at",
      "recovery_sent_at",
    ]),
    ...(user.email_change ? { new_email: user.email_change } : {}),
    ...times(user, ["email_change_sent_at"]),
    ...(user.phone_change ? { new_phone: user.phone_change } : {}),
    ...times(user, ["phone_change_sent_at", "reauthentication_sent_at", "last_sign_in_at"]),
    app_metadata: user.raw_app_meta_data ?? {},
    user_metadata: user.raw_user_meta_data ?? {},
    ...(user.factors.length > 0 ? { factors: user.factors.map(presentFactor) } : {}),
    identities: user.identities.map(presentIdentity),
    created_at: time(user.created_at),
    updated_at: time(user.updated_at),
    ...times(user, ["banned_until", "deleted_at"]),
    is_anonymous: user.is_anonymous,
  };
}

function presentIdentity(identity: IdentityRow): Record<string, unknown> {
  return {
    identity_id: identity.id,
    id: identity.provider_id,
    user_id: identity.user_id,
    identity_data: identity.identity_data,
    provider: identity.provider,
    ...(identity.last_sign_in_at ? { last_sign_in_at: time(identity.last_sign_in_at) } : {}),
    created_at: time(identity.created_at),
    updated_at: time(identity.updated_at),
    ...(identity.email ? { email: identity.email } : {}),
  };
}

function presentFactor(factor: FactorRow): Record<string, unknown> {
  return {
    id: factor.id,
    created_at: time(factor.created_at),
    updated_at: time(factor.updated_at),
    status: factor.status,
    ...(factor.friendly_name ? { friendly_name: factor.friendly_name } : {}),
    factor_type: factor.factor_type,
    ...(factor.phone ? { phone: factor.phone } : {}),
  };
}

function times<Name extends keyof UserRow>(user: UserRow, names: Name[]): Record<string, string> {
  const set = names.filter((name) => user[name] !== null);
  return Object.fromEntries(set.map((name) => [name, time(user[name] as Date)]));
}

function time(value: Date | string): string {
  return new Date(value ?? 0).toISOString();
}

/** A jsonb parameter. */
export function toJson(sql: Db, value: Metadata): postgres.Parameter {
  return sql.json(value as postgres.JSONValue);
}
