import { issueAccessToken } from "./access-token.ts";
import { audit } from "./audit.ts";
import type { AuthContext, Db } from "./context.ts";
import { AuthError, badRequest } from "./errors.ts";
import { type AuthRequest, json, text } from "./request.ts";
import { newRefreshToken, sessionAnswer } from "./sessions.ts";
import { findUserById, INSTANCE, isBanned, type UserRow } from "./users.ts";
import { z } from "zod";

const Body = z.object({ refresh_token: text });

interface TokenRow {
  id: string;
  token: string;
  user_id: string;
  session_id: string | null;
  revoked: boolean;
  /** Spent, but so recently that using it again is no theft. */
  reusable: boolean;
}

/**
 * `POST /token?grant_type=refresh_token`: swaps a refresh token for a new pair.
 *
 * A spent token works again while it is the parent of the session's current one (the client never
 * got the answer; it gets the current one) and within the reuse interval (two tabs refreshed at
 * once; each gets a token of the same family). Any other use means that somebody copied it: the
 * whole family is revoked.
 *
 * @throws {AuthError} `validation_failed`, `refresh_token_not_found`, `refresh_token_already_used`,
 *   `session_not_found`, `session_expired`, `user_banned` (all 400)
 */
export async function refreshGrant(context: AuthContext, request: AuthRequest): Promise<Response> {
  const { refresh_token: spent } = await request.json(Body);
  if (!/^[a-z0-9]{12}$/.test(spent)) {
    throw badRequest("validation_failed", "Refresh token is not valid");
  }
  // A refusal is returned and thrown outside: thrown inside it would undo the revocation with it.
  const outcome = await context.sql.begin(async (sql) => {
    const found = await lockToken(context, sql, spent);
    if (found === null) {
      return badRequest(
        "refresh_token_not_found",
        "Invalid Refresh Token: Refresh Token Not Found",
      );
    }
    const { token, user } = found;
    request.responseHeaders.set("sb-auth-user-id", user.id);
    if (isBanned(user)) {
      return badRequest("user_banned", "Invalid Refresh Token: User Banned");
    }
    if (token.session_id === null) {
      await sql`delete from auth.refresh_tokens where id = ${token.id}`;
      return badRequest(
        "session_not_found",
        "Invalid Refresh Token: No Valid Session Found",
      );
    }
    const expired = await whySessionEnded(context, sql, token.session_id);
    if (expired !== null) return badRequest("session_expired", `Invalid Refresh Token: ${expired}`);
    const issued = await swapToken(context, sql, token, user);
    if (issued === null) {
      return badRequest("refresh_token_already_used", "Invalid Refresh Token: Already Used");
    }
    const access = await issueAccessToken(context, sql, user, token.session_id, "token_refresh");
    await sql`
      update auth.sessions
      set refreshed_at = clock_timestamp() at time zone 'utc', updated_at = clock_timestamp(),
        user_agent = ${request.userAgent || null}, ip = ${request.ip}
      where id = ${token.session_id}`;
    request.responseHeaders.set("sb-auth-session-id", token.session_id);
    return sessionAnswer(access, issued, (await findUserById(sql, user.id))!);
  });
  if (outcome instanceof AuthError) throw outcome;
  return json(outcome);
}

/**
 * Finds the token with its user and lets nobody else refresh, or end, its session until the
 * transaction is over. The session is locked before the token, in the order that ending it takes.
 */
async function lockToken(
  context: AuthContext,
  sql: Db,
  spent: string,
): Promise<{ token: TokenRow; user: UserRow } | null> {
  await sql`
    select from auth.sessions
    where id = (select session_id from auth.refresh_tokens where token = ${spent})
    for update`;
  const [token] = await sql<TokenRow[]>`
    select id, token, user_id, session_id, revoked,
      updated_at + make_interval(secs => ${context.settings.refreshTokenReuseInterval})
        >= clock_timestamp() as reusable
    from auth.refresh_tokens where token = ${spent}
    for update`;
  if (token === undefined) return null;
  const user = await findUserById(sql, token.user_id);
  return user === null ? null : { token, user };
}

async function whySessionEnded(
  context: AuthContext,
  sql: Db,
  sessionId: string,
): Promise<string | null> {
  const { sessionTimebox, sessionInactivity } = context.settings;
  const [session] = await sql<{ past: boolean | null; idle: boolean | null }[]>`
    select
      clock_timestamp() > least(
        not_after, created_at + make_interval(secs => ${sessionTimebox})
      ) as past,
      clock_timestamp() > coalesce(refreshed_at at time zone 'utc', created_at)
        + make_interval(secs => ${sessionInactivity}) as idle
    from auth.sessions where id = ${sessionId}`;
  if (session?.past) return "Session Expired";
  return session?.idle ? "Session Expired (Inactivity)" : null;
}

/** The refresh token to go on with, or null when `token` must not be used any more. */
async function swapToken(
  context: AuthContext,
  sql: Db,
  token: TokenRow,
  user: UserRow,
): Promise<string | null> {
  if (token.revoked) {
    const [current] = await sql<{ token: string; parent: string }[]>`
      select token, parent from auth.refresh_tokens
      where session_id = ${token.session_id} and not revoked
      order by id desc limit 1`;
    if (current?.parent === token.token) {
      await audit(sql, user, "token_refreshed");
      return current.token;
    }
    if (!token.reusable) {
      if (context.settings.refreshTokenRotation) {
        await sql`
          update auth.refresh_tokens set revoked = true, updated_at = clock_timestamp()
          where session_id = ${token.session_id} and not revoked`;
      }
      context.log.warn("spent refresh token used again", { user_id: user.id, token_id: token.id });
      return null;
    }
  }
  await audit(sql, user, "token_refreshed");
  await audit(sql, user, "token_revoked");
  const issued = newRefreshToken();
  await sql`
    with spent as (
      update auth.refresh_tokens set revoked = true, updated_at = clock_timestamp()
      where id = ${token.id}
    )
    insert into auth.refresh_tokens (
      instance_id, token, user_id, revoked, parent, session_id, created_at, updated_at
    ) values (
      ${INSTANCE}, ${issued}, ${token.user_id}, false, ${token.token}, ${token.session_id},
      clock_timestamp(), clock_timestamp()
    )`;
  return issued;
}
