import type { Buffer } from "node:buffer";
import { createHash, timingSafeEqual } from "node:crypto";
import type { StackKeys } from "./keys.ts";

/** Turns a project key into the JWT of the role it stands for; null for any other string. */
export type Keyring = (key: string) => string | null;

/** The project's four keys: publishable and anon stand for `anon`, the others for `service_role`. */
export function createKeyring(keys: StackKeys): Keyring {
  const digest = (text: string): Buffer => createHash("sha256").update(text).digest();
  const known = [
    { digest: digest(keys.publishable), token: keys.anon },
    { digest: digest(keys.anon), token: keys.anon },
    { digest: digest(keys.secret), token: keys.serviceRole },
    { digest: digest(keys.serviceRole), token: keys.serviceRole },
  ];
  return (key) => {
    const presented = digest(key);
    return known.find((entry) => timingSafeEqual(entry.digest, presented))?.token ?? null;
  };
}

/**
 * Checks the project key of a request and leaves a JWT in its place, as the platform's gateway
 * does: services see `Authorization: Bearer JWT` only. A user's own token stays as it is.
 *
 * @param headers changed in place
 * @param url changed in place: `?apikey=` is taken off, or for a WebSocket, which cannot send
 * headers, replaced by the role's JWT
 * @returns the refusal, or null
 */
export function resolveCredentials(
  headers: Headers,
  url: URL,
  keyring: Keyring,
  request: { webSocket: boolean },
): Response | null {
  const key = headers.get("apikey") ?? url.searchParams.get("apikey");
  if (!key) {
    return refuse("No API key found in request", "No `apikey` header or url param was found.");
  }
  const token = keyring(key);
  if (token === null) {
    return refuse("Invalid API key", "`npm run status` prints the keys of the local stack.");
  }
  if (request.webSocket) url.searchParams.set("apikey", token);
  // PostgREST would take it for a filter on a column.
  else if (url.searchParams.has("apikey")) url.searchParams.delete("apikey");
  const bearer = /^Bearer\s*(.*)$/i.exec(headers.get("authorization") ?? "Bearer")?.[1];
  if (bearer === "" || bearer === key) headers.set("authorization", `Bearer ${token}`);
  return null;
}

function refuse(message: string, hint: string): Response {
  return Response.json({ message, hint }, {
    status: 401,
    headers: { "www-authenticate": 'Key realm="kong"' },
  });
}
