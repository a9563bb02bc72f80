import { createHash } from "node:crypto";
import { z } from "zod";
import type { AuthenticationMethod } from "./access-token.ts";
import { audit } from "./audit.ts";
import type { AuthContext, Db } from "./context.ts";
import { badRequest, forbidden, notFound, unprocessable } from "./errors.ts";
import { type AuthRequest, json, text } from "./request.ts";
import { openSession } from "./sessions.ts";
import { findUserById, isBanned } from "./users.ts";

/** What a client that keeps a code verifier adds to a request that ends in a mail. */
export const challengeFields = { code_challenge: text, code_challenge_method: text };

/** A client's promise to show the verifier that hashes to `challenge`; null without one. */
export type Challenge = { challenge: string; method: "s256" | "plain" } | null;

/** Hashes of such flows carry this mark, so that a link knows which answer it leads to. */
export const PKCE_PREFIX = "pkce_";

/** Seconds in which a code can be exchanged after the link was followed. */
const CODE_LIFE_SECONDS = 300;

/**
 * Reads the challenge of a request.
 *
 * @throws {AuthError} `validation_failed` (400) when it is half there or malformed
 */
export function readChallenge(body: {
  code_challenge: string;
  code_challenge_method: string;
}): Challenge {
  const { code_challenge: challenge, code_challenge_method: given } = body;
  if (challenge === "" && given === "") return null;
  const method = given.toLowerCase();
  if (challenge === "" || method === "") {
    throw badRequest(
      "validation_failed",
      "PKCE flow requires code_challenge_method and code_challenge",
    );
  }
  if (challenge.length < 43 || challenge.length > 128) {
    throw badRequest(
      "validation_failed",
      "code challenge has to be between 43 and 128 characters",
    );
  }
  if (!/^[a-zA-Z0-9._~-]+$/.test(challenge)) {
    throw badRequest(
      "validation_failed",
      "code challenge can only contain alphanumeric characters, hyphens, periods, underscores and tildes",
    );
  }
  if (method !== "s256" && method !== "plain") {
    throw badRequest("validation_failed", "Invalid code challenge method");
  }
  return { challenge, method };
}

/** Remembers a challenge until the link in the mail is followed. */
export async function rememberChallenge(
  sql: Db,
  userId: string,
  method: AuthenticationMethod,
  challenge: NonNullable<Challenge>,
): Promise<void> {
  await sql`
    insert into auth.flow_state (
      id, user_id, auth_code, code_challenge_method, code_challenge, provider_type,
      authentication_method, created_at, updated_at
    ) values (
      gen_random_uuid(), ${userId}, ${crypto.randomUUID()}, ${challenge.method},
      ${challenge.challenge}, ${method === "email/signup" ? "email" : method}, ${method},
      clock_timestamp(), clock_timestamp()
    )`;
}

/**
 * The code that a followed link hands to the client.
 *
 * @throws {AuthError} `flow_state_not_found` (400) when nobody waits for one
 */
export async function issueAuthCode(
  sql: Db,
  userId: string,
  method: AuthenticationMethod,
): Promise<string> {
  const [flow] = await sql<{ auth_code: string }[]>`
    update auth.flow_state
    set auth_code_issued_at = clock_timestamp(), updated_at = clock_timestamp()
    where id = (
      select id from auth.flow_state
      where user_id = ${userId} and authentication_method = ${method}
      order by created_at desc limit 1
    )
    returning auth_code`;
  if (flow === undefined) {
    throw badRequest("flow_state_not_found", "No associated flow state found");
  }
  return flow.auth_code;
}

const Body = z.object({ auth_code: text, code_verifier: text });

interface Flow {
  id: string;
  user_id: string;
  method: "s256" | "plain";
  challenge: string;
  provider_type: string;
  authentication_method: AuthenticationMethod;
  provider_token: string | null;
  provider_refresh_token: string | null;
  late: boolean;
}

/**
 * `POST /token?grant_type=pkce`: trades the code from a link or a provider for a session, given the verifier that
 * only the client which asked for the mail has.
 *
 * @throws {AuthError} `validation_failed`, `bad_code_verifier` (400), `user_banned` (403),
 *   `flow_state_not_found` (404), `flow_state_expired` (422)
 */
export async function pkceGrant(context: AuthContext, request: AuthRequest): Promise<Response> {
  const { auth_code: code, code_verifier: verifier } = await request.json(Body);
  if (code === "" || verifier === "") {
    throw badRequest(
      "validation_failed",
      "invalid request: both auth code and code verifier should be non-empty",
    );
  }
  const answer = await context.sql.begin(async (sql) => {
    const flow = await lockFlow(sql, code);
    const user = flow === null ? null : await findUserById(sql, flow.user_id);
    if (flow === null || user === null) {
      throw notFound(
        "flow_state_not_found",
        "invalid flow state, no valid flow state found",
      );
    }
    if (flow.late) {
      throw unprocessable("flow_state_expired", "invalid flow state, flow state has expired");
    }
    if (!fits(flow, verifier)) {
      throw badRequest(
        "bad_code_verifier",
        "code challenge does not match previously saved code verifier",
      );
    }
    if (isBanned(user)) throw forbidden("user_banned", "User is banned");
    await audit(sql, user, "login", { provider_type: flow.provider_type });
    await sql`delete from auth.flow_state where id = ${flow.id}`;
    const session = await openSession(context, sql, user, flow.authentication_method, request);
    const { provider_token, provider_refresh_token } = flow;
    return {
      ...session,
      ...(provider_token && { provider_token }),
      ...(provider_refresh_token && { provider_refresh_token }),
    };
  });
  return json(answer);
}

async function lockFlow(sql: Db, code: string): Promise<Flow | null> {
  const [flow] = await sql<Flow[]>`
    select id, user_id, code_challenge_method as method, code_challenge as challenge,
      provider_type, authentication_method, provider_access_token as provider_token,
      provider_refresh_token,
      auth_code_issued_at + make_interval(secs => ${CODE_LIFE_SECONDS}) < clock_timestamp() as late
    from auth.flow_state
    where auth_code = ${code} and user_id is not null and auth_code_issued_at is not null
    for update`;
  return flow ?? null;
}

function fits({ method, challenge }: Flow, verifier: string): boolean {
  if (method === "plain") return verifier === challenge;
  return createHash("sha256").update(verifier).digest("base64url") === challenge;
}
