import { createHash, randomBytes } from "node:crypto";
import { isUuid } from "../bearer.ts";
import type { Db } from "../context.ts";
import { AuthError, badRequest, unprocessable } from "../errors.ts";
import type { Challenge } from "../pkce.ts";

/** Seconds in which a person has to come back from the provider. */
const FLOW_LIFE_SECONDS = 300;

/** A sign-in on its way through a provider. Its id is the `state` that the provider gives back. */
export interface Flow {
  id: string;
  provider: string;
  /** Where the person goes in the end; checked when the flow began. */
  redirectTo: string;
  /** True when the client gets a code for the session instead of the session. */
  withCode: boolean;
  /** The user who links an account of the provider's; null for a sign-in. */
  linkingTarget: string | null;
  codeVerifierId: string;
}

export interface BegunFlow {
  id: string;
  nonce: string;
  codeChallenge: string;
}

/** Remembers a sign-in until the person comes back, and forgets those who never did. */
export async function beginFlow(
  sql: Db,
  flow: Pick<Flow, "provider" | "redirectTo" | "linkingTarget"> & { challenge: Challenge },
): Promise<BegunFlow> {
  const id = crypto.randomUUID();
  const verifier = randomBytes(32).toString("base64url");
  const { challenge } = flow;
  await sql`
    with forgotten as (
      delete from auth.flow_state where created_at < now() - interval '1 day'
    ), forgotten_verifiers as (
      delete from auth.oauth_client_states where created_at < now() - interval '1 day'
    ), ours as (
      insert into auth.oauth_client_states (id, provider_type, code_verifier, created_at)
      values (gen_random_uuid(), ${flow.provider}, ${verifier}, clock_timestamp())
      returning id
    )
    insert into auth.flow_state (
      id, auth_code, code_challenge_method, code_challenge, provider_type, authentication_method,
      referrer, oauth_client_state_id, linking_target_id, created_at, updated_at
    )
    select
      ${id}, ${challenge === null ? null : crypto.randomUUID()}, ${challenge?.method ?? null},
      ${challenge?.challenge ?? null}, ${flow.provider}, 'oauth', ${flow.redirectTo}, ours.id,
      ${flow.linkingTarget}, clock_timestamp(), clock_timestamp()
    from ours`;
  return { id, nonce: nonceOf(id), codeChallenge: hash(verifier) };
}

/** What ties an ID token to the flow it answers. */
export function nonceOf(flowId: string): string {
  return hash(`nonce ${flowId}`);
}

/**
 * The flow that a provider's answer belongs to.
 *
 * @throws {AuthError} `bad_oauth_callback`, `bad_oauth_state`, `flow_state_already_used` (400)
 */
export async function findFlow(sql: Db, state: string): Promise<Flow> {
  if (state === "") throw badRequest("bad_oauth_callback", "OAuth state parameter missing");
  if (!isUuid(state)) throw badRequest("bad_oauth_state", "OAuth state parameter is invalid");
  const [row] = await sql<(Flow & { used: boolean; late: boolean })[]>`
    select id, provider_type as provider, referrer as "redirectTo",
      code_challenge is not null as "withCode", linking_target_id as "linkingTarget",
      oauth_client_state_id as "codeVerifierId", user_id is not null as used,
      created_at + make_interval(secs => ${FLOW_LIFE_SECONDS}) < clock_timestamp() as late
    from auth.flow_state
    where id = ${state} and authentication_method = 'oauth' and referrer is not null`;
  if (row === undefined) {
    throw badRequest("bad_oauth_state", "OAuth state not found or expired");
  }
  if (row.late) throw badRequest("bad_oauth_state", "OAuth state has expired");
  if (row.used) throw alreadyUsed();
  return row;
}

/**
 * Takes the verifier that fits the challenge we sent along. Who asks second gets nothing, so a
 * provider's answer is worth one try.
 *
 * @throws {AuthError} `oauth_client_state_not_found` (422)
 */
export async function takeCodeVerifier(sql: Db, flow: Flow): Promise<string> {
  const [row] = await sql<{ code_verifier: string }[]>`
    delete from auth.oauth_client_states
    where id = ${flow.codeVerifierId} and provider_type = ${flow.provider}
    returning code_verifier`;
  if (row === undefined) {
    throw unprocessable("oauth_client_state_not_found", "OAuth state not found");
  }
  return row.code_verifier;
}

/**
 * Ends a flow whose client wants the session itself.
 *
 * @throws {AuthError} `flow_state_already_used` (400) when the same answer came twice at once
 */
export async function endFlow(sql: Db, flow: Flow): Promise<void> {
  const gone = await sql`delete from auth.flow_state where id = ${flow.id} returning id`;
  if (gone.length === 0) throw alreadyUsed();
}

/**
 * The code that the client of this flow trades for the session of `userId`.
 *
 * @throws {AuthError} `flow_state_already_used` (400) when the same answer came twice at once
 */
export async function settleFlow(
  sql: Db,
  flow: Flow,
  userId: string,
  tokens: { accessToken: string; refreshToken: string | null },
): Promise<string> {
  const [row] = await sql<{ auth_code: string }[]>`
    update auth.flow_state
    set user_id = ${userId}, provider_access_token = ${tokens.accessToken},
      provider_refresh_token = ${tokens.refreshToken}, auth_code_issued_at = clock_timestamp(),
      updated_at = clock_timestamp()
    where id = ${flow.id} and user_id is null
    returning auth_code`;
  if (row === undefined) throw alreadyUsed();
  return row.auth_code;
}

function alreadyUsed(): AuthError {
  return badRequest("flow_state_already_used", "State has already been used");
}

function hash(text: string): string {
  return createHash("sha256").update(text).digest("base64url");
}
