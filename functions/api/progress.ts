import type { CredentialKind, Edition } from "../../shared/contract/editions.ts";
import { credentialKind } from "../../shared/http/authenticate.ts";
import type { Authenticated } from "../../shared/http/authenticate.ts";
import type { Route } from "./route.ts";

/** What is known of a request so far; it fills up on the way through the pipeline. */
export interface Progress {
  requestId: string;
  now: Date;
  /** Without a trailing slash. */
  pathname: string;
  route: Route | null;
  credential: CredentialKind;
  asked: Edition | null;
  authenticated: Authenticated | null;
  /** Whether the database has judged the request as the caller, so that RLS was in force. */
  ranAsCaller: boolean;
  /** Headers that the answer carries whatever it will be. */
  headers: Record<string, string>;
}

function requestIdOf(headers: Headers): string {
  const given = headers.get("x-request-id");
  // A caller may bring its own id to find the request by; only harmless ones enter the log.
  return given !== null && /^[A-Za-z0-9._-]{8,64}$/.test(given) ? given : crypto.randomUUID();
}

/** Where each request begins. */
export function beginProgress(headers: Headers, url: URL, now: Date): Progress {
  return {
    requestId: requestIdOf(headers),
    now,
    pathname: url.pathname.replace(/(?<=.)\/$/, ""),
    route: null,
    credential: credentialKind(headers),
    asked: null,
    authenticated: null,
    ranAsCaller: false,
    headers: {},
  };
}
