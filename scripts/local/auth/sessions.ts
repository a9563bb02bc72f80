import { type AccessToken, type AuthenticationMethod, issueAccessToken } from "./access-token.ts";
import type { AuthContext, Db } from "./context.ts";
import type { AuthRequest } from "./request.ts";
import { findUserById, INSTANCE, presentUser, type UserRow } from "./users.ts";

/** The body that signs a client in. */
export interface SessionAnswer {
  access_token: string;
  token_type: "bearer";
  expires_in: number;
  expires_at: number;
  refresh_token: string;
  user: Record<string, unknown>;
}

/** Opens a session for `user` and gives its first pair of tokens. */
export async function openSession(
  context: AuthContext,
  sql: Db,
  user: UserRow,
  method: AuthenticationMethod,
  request: AuthRequest,
): Promise<SessionAnswer> {
  const sessionId = crypto.randomUUID();
  const refreshToken = newRefreshToken();
  await sql`
    with session as (
      insert into auth.sessions (id, user_id, created_at, updated_at, aal, user_agent, ip)
      values (
        ${sessionId}, ${user.id}, clock_timestamp(), clock_timestamp(), 'aal1',
        ${request.userAgent || null}, ${request.ip}
      )
    ), token as (
      insert into auth.refresh_tokens (
        instance_id, token, user_id, revoked, parent, session_id, created_at, updated_at
      ) values (
        ${INSTANCE}, ${refreshToken}, ${user.id}, false, '', ${sessionId}, clock_timestamp(),
        clock_timestamp()
      )
    ), claim as (
      insert into auth.mfa_amr_claims (
        id, session_id, created_at, updated_at, authentication_method
      ) values (
        gen_random_uuid(), ${sessionId}, clock_timestamp(), clock_timestamp(), ${method}
      )
    )
    update auth.users
    set last_sign_in_at = clock_timestamp(), updated_at = clock_timestamp()
    where id = ${user.id}`;
  const signedIn = (await findUserById(sql, user.id))!;
  const access = await issueAccessToken(context, sql, signedIn, sessionId, method);
  request.responseHeaders.set("sb-auth-user-id", user.id);
  request.responseHeaders.set("sb-auth-session-id", sessionId);
  return sessionAnswer(access, refreshToken, signedIn);
}

export function sessionAnswer(
  access: AccessToken,
  refreshToken: string,
  user: UserRow,
): SessionAnswer {
  return {
    access_token: access.token,
    token_type: "bearer",
    expires_in: access.expiresIn,
    expires_at: access.expiresAt,
    refresh_token: refreshToken,
    user: presentUser(user),
  };
}

/** A session as the part of an address after the `#`, which no server sees. */
export function sessionFragment(session: SessionAnswer): Record<string, string> {
  return {
    access_token: session.access_token,
    expires_at: String(session.expires_at),
    expires_in: String(session.expires_in),
    refresh_token: session.refresh_token,
    token_type: session.token_type,
  };
}

/** Twelve characters of base32, 60 random bits: the shape that Auth gives refresh tokens. */
export function newRefreshToken(): string {
  const alphabet = "abcdefghijklmnopqrstuvwxyz234567";
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return Array.from(bytes, (byte) => alphabet[byte % 32]).join("");
}
