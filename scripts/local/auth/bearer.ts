import type { JWTPayload } from "jose";
import type { AuthContext, Db } from "./context.ts";
import { AuthError, badRequest, forbidden } from "./errors.ts";
import type { AuthRequest } from "./request.ts";
import { DEFAULT_AUDIENCE, findUserById, isBanned, type UserRow } from "./users.ts";

/** Who a request comes from. */
export interface Caller {
  claims: JWTPayload;
  user: UserRow;
  session: SessionRow | null;
}

export interface SessionRow {
  id: string;
  user_id: string;
  created_at: Date;
  aal: string | null;
}

const ADMIN_ROLES = new Set(["service_role", "supabase_admin"]);
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;
const NO_SESSION = "00000000-0000-0000-0000-000000000000";

/**
 * The signed-in user behind the request's bearer token.
 *
 * @throws {AuthError} `no_authorization` (401), `bad_jwt`, `user_not_found`, `session_not_found`,
 *   `user_banned` (403)
 */
export async function requireUser(context: AuthContext, request: AuthRequest): Promise<Caller> {
  const claims = await bearerClaims(context, request);
  const { sub, session_id: sessionId } = claims;
  if (sub === undefined || sub === "") {
    throw forbidden("bad_jwt", "invalid claim: missing sub claim");
  }
  if (!isUuid(sub)) throw badRequest("bad_jwt", "invalid claim: sub claim must be a UUID");
  const hasSession = typeof sessionId === "string" && sessionId !== "" && sessionId !== NO_SESSION;
  if (hasSession && !isUuid(sessionId)) {
    throw forbidden("bad_jwt", "invalid claim: session_id claim must be a UUID");
  }
  const [user, session] = await Promise.all([
    findUserById(context.sql, sub),
    hasSession ? findSession(context.sql, sessionId) : null,
  ]);
  if (user === null) {
    throw forbidden("user_not_found", "User from sub claim in JWT does not exist");
  }
  if (hasSession && session === null) {
    throw forbidden("session_not_found", "Session from session_id claim in JWT does not exist");
  }
  if (isBanned(user)) throw forbidden("user_banned", "User is banned");
  return { claims, user, session };
}

/**
 * The role of the administrator behind the request's bearer token.
 *
 * @throws {AuthError} `no_authorization` (401), `bad_jwt` or `not_admin` (403)
 */
export async function requireAdmin(context: AuthContext, request: AuthRequest): Promise<string> {
  const { role } = await bearerClaims(context, request);
  if (typeof role !== "string" || !ADMIN_ROLES.has(role)) {
    throw forbidden("not_admin", "User not allowed");
  }
  return role;
}

/** The audience that a request is about: a header may name it, else there is only one. */
export function audienceOf(request: AuthRequest): string {
  return request.headers.get("x-jwt-aud") || DEFAULT_AUDIENCE;
}

export function isUuid(value: string): boolean {
  return UUID.test(value);
}

async function bearerClaims(context: AuthContext, request: AuthRequest): Promise<JWTPayload> {
  const found = /^[Bb]earer (\S+)$/.exec(request.headers.get("authorization") ?? "");
  if (found === null) {
    throw new AuthError(
      401,
      "no_authorization",
      "This endpoint requires a valid Bearer token",
    );
  }
  return await context.signer.verify(found[1]!);
}

async function findSession(sql: Db, id: string): Promise<SessionRow | null> {
  const [session] = await sql<SessionRow[]>`
    select id, user_id, created_at, aal from auth.sessions where id = ${id}`;
  return session ?? null;
}
