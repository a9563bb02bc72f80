import { createHash } from "node:crypto";
import { z } from "zod";
import { audit } from "./audit.ts";
import { audienceOf, isUuid, requireAdmin } from "./bearer.ts";
import type { AuthContext, Db } from "./context.ts";
import { AuthError, badRequest, internal, notFound, unprocessable } from "./errors.ts";
import {
  checkPasswordStrength,
  hashPassword,
  isPasswordHash,
  randomPassword,
} from "./passwords.ts";
import { type AuthRequest, flag, json, jsonObject, optionalText, text } from "./request.ts";
import { parseDuration } from "./settings.ts";
import {
  changeEmailIdentity,
  changePassword,
  clearOneTimeTokens,
  confirmUser,
  emailIdentity,
  findEmailHolder,
  findUserById,
  insertIdentity,
  insertUser,
  INSTANCE,
  isEmailTaken,
  lockUser,
  mergeMetadata,
  presentUser,
  refreshProviders,
  selectUsers,
  toJson,
  updateUser,
  type UserRow,
  validateEmail,
} from "./users.ts";

const AdminUser = z.object({
  id: text,
  aud: text,
  role: text,
  email: text,
  phone: text,
  password: optionalText,
  password_hash: text,
  email_confirm: flag,
  phone_confirm: flag,
  user_metadata: jsonObject,
  app_metadata: jsonObject,
  ban_duration: text,
});

const EMAIL_EXISTS = "A user with this email address has already been registered";

/**
 * `POST /admin/users`
 *
 * @throws {AuthError} `validation_failed` (400), `email_exists` (422)
 */
export async function createUser(context: AuthContext, request: AuthRequest): Promise<Response> {
  const adminRole = await requireAdmin(context, request);
  const { sql } = context;
  const body = await request.json(AdminUser);
  if (body.email === "" && body.phone === "") {
    throw badRequest(
      "validation_failed",
      "Cannot create a user without either an email or phone",
    );
  }
  refusePhone(body.phone);
  const aud = body.aud || audienceOf(request);
  const email = validateEmail(body.email);
  if (await findEmailHolder(sql, email, aud)) throw unprocessable("email_exists", EMAIL_EXISTS);
  const id = body.id === "" ? crypto.randomUUID() : validateId(body.id);
  const bannedUntil = readBan(body.ban_duration);
  const passwordHash = await hashOf(context, body.password, body.password_hash);

  const user = await write(sql, "Database error creating new user", async (tx) => {
    await insertUser(tx, {
      id,
      aud,
      email,
      passwordHash,
      role: body.role.trim() || "authenticated",
      appMetadata: mergeMetadata(
        { provider: "email", providers: ["email"] },
        body.app_metadata ?? {},
      ),
      userMetadata: body.user_metadata ?? {},
    });
    await insertIdentity(tx, id, "email", emailIdentity(id, email));
    const traits = { user_id: id, user_email: email, user_phone: "", provider: "email" };
    await audit(tx, { adminRole }, "user_signedup", traits);
    if (body.email_confirm) await confirmUser(tx, (await findUserById(tx, id))!);
    if (bannedUntil !== undefined) await updateUser(tx, id, { banned_until: bannedUntil });
    return (await findUserById(tx, id))!;
  });
  return json(presentUser(user));
}

/**
 * `GET /admin/users?page&per_page&filter&sort`: newest first, with `x-total-count` and `link`.
 *
 * @throws {AuthError} `validation_failed` (400)
 */
export async function listUsers(context: AuthContext, request: AuthRequest): Promise<Response> {
  await requireAdmin(context, request);
  const { sql } = context;
  const { searchParams } = request.url;
  const page = wholeNumber(searchParams.get("page"), 1);
  const perPage = wholeNumber(searchParams.get("per_page"), 50);
  const direction = sortDirection(searchParams.getAll("sort"));
  const aud = audienceOf(request);
  const filter = searchParams.get("filter") ?? "";
  const like = `%${filter}%`;
  const where = sql`
    where u.instance_id = ${INSTANCE} and u.aud = ${aud}
      and (${filter} = '' or u.email like ${like} or u.raw_user_meta_data ->> 'full_name' ilike ${like})`;
  const [users, [counted]] = await Promise.all([
    selectUsers(
      sql,
      sql`
        ${where}
        order by u.created_at ${direction === "asc" ? sql`asc` : sql`desc`}, u.id
        limit ${perPage} offset ${(page - 1) * perPage}`,
    ),
    sql<{ total: number }[]>`select count(*)::integer as total from auth.users u ${where}`,
  ]);
  const response = json({ users: users.map(presentUser), aud });
  const total = counted!.total;
  response.headers.set("x-total-count", String(total));
  response.headers.set("link", pageLinks(request.url, page, Math.ceil(total / perPage)));
  return response;
}

/** `GET /admin/users/:id` */
export async function showUser(
  context: AuthContext,
  request: AuthRequest,
  id: string,
): Promise<Response> {
  await requireAdmin(context, request);
  return json(presentUser(await loadUser(context, id)));
}

/**
 * `PUT /admin/users/:id`: changes take hold at once; a new password ends all sessions.
 *
 * @throws {AuthError} `validation_failed` (400), `user_not_found` (404), `weak_password`,
 *   `email_exists` (422)
 */
export async function changeUser(
  context: AuthContext,
  request: AuthRequest,
  id: string,
): Promise<Response> {
  const adminRole = await requireAdmin(context, request);
  const { sql } = context;
  const { aud } = await loadUser(context, id);
  const body = await request.json(AdminUser);
  refusePhone(body.phone);
  const email = body.email === "" ? "" : validateEmail(body.email);
  if (email !== "" && await findEmailHolder(sql, email, aud, id)) {
    throw unprocessable("email_exists", EMAIL_EXISTS);
  }
  const bannedUntil = readBan(body.ban_duration);
  if (body.password !== null) checkPasswordStrength(context.settings, body.password);
  const passwordHash = body.password ? await hashPassword(sql, body.password) : null;

  const user = await write(sql, "Error updating user", async (tx) => {
    const user = await lockUser(tx, id);
    if (user === null) throw notFound("user_not_found", "User not found");
    if (body.role !== "") await updateUser(tx, id, { role: body.role.trim() });
    if (body.email_confirm) await confirmUser(tx, user);
    if (body.password !== null) await changePassword(tx, id, passwordHash, null);
    if (email !== "") await moveToEmail(tx, user, email, body.email_confirm);
    const changed = (await findUserById(tx, id))!;
    if (body.app_metadata !== null || body.user_metadata !== null) {
      await updateUser(tx, id, {
        raw_app_meta_data: mergeMetadata(changed.raw_app_meta_data, body.app_metadata ?? {}),
        raw_user_meta_data: mergeMetadata(changed.raw_user_meta_data, body.user_metadata ?? {}),
      });
    }
    if (bannedUntil !== undefined) await updateUser(tx, id, { banned_until: bannedUntil });
    await audit(tx, { adminRole }, "user_modified", traitsOf(changed));
    return (await findUserById(tx, id))!;
  });
  return json(presentUser(user));
}

const Deletion = z.object({ should_soft_delete: flag });

/**
 * `DELETE /admin/users/:id`. With `should_soft_delete` the row stays, with nothing personal in it:
 * address and identities are replaced by hashes, metadata emptied, sessions and factors gone.
 *
 * @throws {AuthError} `user_not_found` (404)
 */
export async function deleteUser(
  context: AuthContext,
  request: AuthRequest,
  id: string,
): Promise<Response> {
  const adminRole = await requireAdmin(context, request);
  await loadUser(context, id);
  const soft = !await request.isEmpty() && (await request.json(Deletion)).should_soft_delete;
  await write(context.sql, "Database error deleting user", async (sql) => {
    const user = await lockUser(sql, id);
    if (user === null) throw notFound("user_not_found", "User not found");
    await audit(sql, { adminRole }, "user_deleted", traitsOf(user));
    if (!soft) await sql`delete from auth.users where id = ${id}`;
    else if (user.deleted_at === null) await obliterate(sql, user);
  });
  return json({});
}

async function obliterate(sql: Db, user: UserRow): Promise<void> {
  const obscured = (value: string) =>
    createHash("sha256").update(user.id + value).digest("base64url");
  await updateUser(sql, user.id, {
    email: obscured(user.email ?? ""),
    phone: obscured(user.phone ?? "").slice(0, 15),
    email_change: obscured(user.email_change ?? ""),
    phone_change: obscured(user.phone_change ?? "").slice(0, 15),
    encrypted_password: null,
    confirmation_token: "",
    recovery_token: "",
    email_change_token_current: "",
    email_change_token_new: "",
    raw_app_meta_data: {},
    raw_user_meta_data: {},
    deleted_at: new Date(),
  });
  await clearOneTimeTokens(sql, user.id);
  for (const identity of user.identities) {
    await sql`
      update auth.identities
      set identity_data = ${toJson(sql, {})},
        provider_id = ${obscured(`${identity.provider}:${identity.provider_id}`)},
        updated_at = clock_timestamp()
      where id = ${identity.id}`;
  }
  await sql`delete from auth.mfa_factors where user_id = ${user.id}`;
  await sql`delete from auth.webauthn_credentials where user_id = ${user.id}`;
  await sql`delete from auth.sessions where user_id = ${user.id}`;
}

async function moveToEmail(
  sql: Db,
  user: UserRow,
  email: string,
  verified: boolean,
): Promise<void> {
  if (user.identities.some(({ provider }) => provider === "email")) {
    await changeEmailIdentity(sql, user.id, { email, email_verified: verified });
  } else {
    await insertIdentity(sql, user.id, "email", emailIdentity(user.id, email, verified));
    await refreshProviders(sql, user);
  }
  await updateUser(sql, user.id, {
    email,
    ...(user.is_anonymous && verified && { is_anonymous: false }),
  });
}

/** Runs a transaction; what the database refuses becomes an error of ours. */
async function write<Result>(
  sql: AuthContext["sql"],
  failure: string,
  work: (sql: Db) => Promise<Result>,
): Promise<Result> {
  try {
    return await sql.begin(work) as Result;
  } catch (error) {
    if (error instanceof AuthError) throw error;
    if (isEmailTaken(error)) throw unprocessable("email_exists", EMAIL_EXISTS);
    throw internal(failure, error);
  }
}

async function loadUser(context: AuthContext, id: string): Promise<UserRow> {
  if (!isUuid(id)) throw notFound("validation_failed", "user_id must be an UUID");
  const user = await findUserById(context.sql, id);
  if (user === null) throw notFound("user_not_found", "User not found");
  return user;
}

function refusePhone(phone: string): void {
  if (phone === "") return;
  throw badRequest("phone_provider_disabled", "Phone numbers are not supported locally");
}

async function hashOf(
  context: AuthContext,
  password: string | null,
  hash: string,
): Promise<string> {
  if (password !== null && hash !== "") {
    throw badRequest(
      "validation_failed",
      "Only a password or a password hash should be provided",
    );
  }
  if (hash !== "") {
    if (!isPasswordHash(hash)) {
      throw badRequest("validation_failed", "password_hash must be a bcrypt hash");
    }
    return hash;
  }
  if (password && new TextEncoder().encode(password).byteLength > 72) {
    throw badRequest("validation_failed", "bcrypt: password length exceeds 72 bytes");
  }
  return await hashPassword(context.sql, password || randomPassword());
}

function validateId(id: string): string {
  if (!isUuid(id)) {
    throw badRequest("validation_failed", "ID must conform to the uuid v4 format");
  }
  if (id === INSTANCE) throw badRequest("validation_failed", "ID cannot be a nil uuid");
  return id.toLowerCase();
}

/** When a ban ends: null for no ban, undefined for "leave it". Far ends are cut off at year 9999. */
function readBan(duration: string): Date | null | undefined {
  if (duration === "") return undefined;
  if (duration === "none") return null;
  const seconds = parseDuration(duration);
  if (seconds === null) {
    throw badRequest(
      "validation_failed",
      `invalid format for ban duration: time: invalid duration ${JSON.stringify(duration)}`,
    );
  }
  if (seconds === 0) return null;
  return new Date(Math.min(Date.now() + seconds * 1000, Date.UTC(9999, 11, 31)));
}

function wholeNumber(value: string | null, fallback: number): number {
  if (value === null || value === "") return fallback;
  const number = Number(value);
  if (/^\d+$/.test(value) && number >= 1 && number <= 1_000_000) return number;
  throw badRequest(
    "validation_failed",
    `Bad Pagination Parameters: strconv.ParseUint: parsing ${
      JSON.stringify(value)
    }: invalid syntax`,
  );
}

function sortDirection(sorts: string[]): "asc" | "desc" {
  if (sorts.length === 0) return "desc";
  const [field, direction = "desc"] = sorts[0]!.split(" ");
  if (field !== "created_at") {
    throw badRequest(
      "validation_failed",
      `Bad Sort Parameters: bad field for sort '${field}'`,
    );
  }
  const wanted = direction.toLowerCase();
  if (wanted === "asc" || wanted === "desc") return wanted;
  throw badRequest(
    "validation_failed",
    `Bad Sort Parameters: bad direction for sort '${direction}', only 'asc' and 'desc' allowed`,
  );
}

function pageLinks(url: URL, page: number, pages: number): string {
  const to = (number: number, rel: string) => {
    // Sorted as Auth's are: clients read the number after the first equals sign.
    const query = new URLSearchParams(url.search);
    query.set("page", String(number));
    query.sort();
    return `<${url.pathname}?${query}>; rel="${rel}"`;
  };
  const last = to(pages, "last");
  return pages > page ? `${to(page + 1, "next")}, ${last}` : last;
}

function traitsOf(user: UserRow) {
  return { user_id: user.id, user_email: user.email ?? "", user_phone: user.phone ?? "" };
}
