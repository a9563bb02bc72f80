import { audit } from "../audit.ts";
import { isUuid, requireUser } from "../bearer.ts";
import type { AuthContext } from "../context.ts";
import { notFound, unprocessable } from "../errors.ts";
import { type AuthRequest, json } from "../request.ts";
import { findUserById, lockUser, refreshProviders } from "../users.ts";
import { addressFromIdentities } from "./account.ts";
import { requireManualLinking } from "./authorize.ts";

/**
 * `DELETE /user/identities/:id`: takes an account of a provider off the user's. The last one stays.
 *
 * @throws {AuthError} `no_authorization` (401), `manual_linking_disabled`, `validation_failed`
 *   (404), `single_identity_not_deletable`, `identity_not_found`,
 *   `email_conflict_identity_not_deletable` (422)
 */
export async function unlinkIdentity(
  context: AuthContext,
  request: AuthRequest,
  id: string,
): Promise<Response> {
  const caller = await requireUser(context, request);
  requireManualLinking(context);
  if (!isUuid(id)) throw notFound("validation_failed", "identity_id must be an UUID");
  await context.sql.begin(async (sql) => {
    const user = (await lockUser(sql, caller.user.id))!;
    if (user.identities.length <= 1) {
      throw unprocessable(
        "single_identity_not_deletable",
        "User must have at least 1 identity after unlinking",
      );
    }
    const identity = user.identities.find((one) => one.id === id);
    if (identity === undefined) {
      throw unprocessable("identity_not_found", "Identity doesn't exist");
    }
    const { provider, provider_id } = identity;
    await audit(sql, user, "identity_unlinked", { identity_id: id, provider, provider_id });
    await sql`delete from auth.identities where id = ${id}`;
    await addressFromIdentities(sql, user);
    await refreshProviders(sql, (await findUserById(sql, user.id))!);
  });
  return json({});
}
