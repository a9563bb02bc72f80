import type { Db } from "./context.ts";
import type { UserRow } from "./users.ts";

/** What an audit entry can say, and the kind of log that Auth files it under. */
const LOG_TYPES = {
  login: "account",
  logout: "account",
  user_signedup: "team",
  user_invited: "team",
  user_deleted: "team",
  user_modified: "user",
  user_recovery_requested: "user",
  user_reauthenticate_requested: "user",
  user_confirmation_requested: "user",
  user_repeated_signup: "user",
  user_updated_password: "user",
  identity_linked: "user",
  identity_unlinked: "user",
  token_revoked: "token",
  token_refreshed: "token",
} as const;

export type AuditAction = keyof typeof LOG_TYPES;

/** Who did it: a user, or an administrator known by role only. */
export type Actor =
  | Pick<UserRow, "id" | "email" | "phone" | "is_sso_user" | "raw_user_meta_data">
  | { adminRole: string };

/**
 * Writes one line of the audit trail into `auth.audit_log_entries`, in the shape that Auth gives
 * it: `{actor_id, actor_username, actor_via_sso, actor_name?, action, log_type, traits?}`.
 */
export async function audit(
  sql: Db,
  actor: Actor,
  action: AuditAction,
  traits: Record<string, unknown> | null = null,
): Promise<void> {
  const payload = {
    action,
    ...describeActor(actor),
    log_type: LOG_TYPES[action],
    ...(traits !== null && { traits }),
  };
  await sql`
    insert into auth.audit_log_entries (instance_id, id, payload, created_at, ip_address)
    values (
      '00000000-0000-0000-0000-000000000000', gen_random_uuid(),
      ${JSON.stringify(payload)}::text::json, clock_timestamp(), ''
    )`;
}

function describeActor(actor: Actor): Record<string, unknown> {
  if ("adminRole" in actor) {
    return {
      actor_id: "00000000-0000-0000-0000-000000000000",
      actor_username: actor.adminRole,
      actor_via_sso: false,
    };
  }
  const name = actor.raw_user_meta_data?.full_name;
  return {
    actor_id: actor.id,
    ...(name !== undefined && { actor_name: name }),
    actor_username: actor.phone || actor.email || "",
    actor_via_sso: actor.is_sso_user,
  };
}
