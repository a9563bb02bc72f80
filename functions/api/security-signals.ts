import { isIP } from "node:net";
import type { ApiError, ErrorCode } from "../../shared/contract/errors.ts";
import { runStatements } from "../../shared/database/caller.ts";
import type { Database } from "../../shared/database/connect.ts";
import { jsonb, sqlText } from "../../shared/database/literal.ts";
import type { KnownApiKey } from "../../shared/http/api-keys.ts";
import { createBatchWriter } from "./batch-writer.ts";
import type { Progress } from "./progress.ts";

/** Signals are written together after this long. */
const BATCH_MS = 500;
/** Different ones that wait at most, should the database be away. */
const MOST_WAITING = 1000;

/** What bears on security and only the api function sees, as `record_security_signals` takes it. */
interface Signal {
  event_type: "API_KEY_MISUSE" | "PERMISSION_DENIED" | "RATE_LIMIT_REACHED";
  severity: "LOW" | "MEDIUM" | "HIGH" | "CRITICAL";
  subject: string;
  user_id: string;
  agent_id: string | null;
  message: string;
  count: number;
  details: Record<string, string | null>;
  ip_address: string | null;
  user_agent: string | null;
  automated_response: { action_taken: string } | null;
}

const DENIALS = new Set<ErrorCode>([
  "PERMISSION_DENIED",
  "INSUFFICIENT_PERMISSIONS",
  "AUTHORIZATION_FAILED",
  "RLS_ACCESS_DENIED",
]);

/**
 * Makes the reporter of security events. However many requests cause them, an instance writes once
 * in half a second, and SQL keeps one event per key or user and minute.
 */
export function createSecuritySignals(sql: Database, batchMs: number = BATCH_MS) {
  const report = createBatchWriter<Signal>({
    batchMs,
    mostWaiting: MOST_WAITING,
    keyOf: ({ event_type, subject }) => `${event_type} ${subject}`,
    merge: (known, { count }) => known.count += count,
    write: (signals) =>
      runStatements(sql, [sqlText`select private.record_security_signals(${jsonb(signals)})`]),
  });

  return {
    /** A revoked or expired key was presented. */
    misusedKey(
      key: KnownApiKey,
      reason: "revoked" | "expired",
      request: Request,
      progress: Progress,
    ): void {
      const revoked = key.role === "admin" ? "CRITICAL" : "HIGH";
      report({
        event_type: "API_KEY_MISUSE",
        severity: reason === "revoked" ? revoked : "MEDIUM",
        subject: `key:${key.key_id}`,
        user_id: key.user_id,
        agent_id: null,
        message: reason === "revoked"
          ? "A revoked API key was presented"
          : "An expired API key was presented",
        count: 1,
        details: { key_id: key.key_id, reason, ...requestDetails(request, progress) },
        ...originOf(request.headers),
        automated_response: { action_taken: "REQUEST_REJECTED" },
      });
    },
    /** A known caller was refused; for want of a permission or for asking too often is kept. */
    refused(fault: ApiError, request: Request, progress: Progress): void {
      const caller = progress.authenticated?.caller;
      if (caller === undefined) return;
      const common = {
        subject: caller.apiKeyId === null ? `user:${caller.userId}` : `key:${caller.apiKeyId}`,
        user_id: caller.userId,
        count: 1,
        ...originOf(request.headers),
      };
      const { permission = null, limit_type = null } = fault.details ?? {};
      const details = { key_id: caller.apiKeyId, ...requestDetails(request, progress) };
      if (DENIALS.has(fault.code)) {
        report({
          ...common,
          event_type: "PERMISSION_DENIED",
          severity: "MEDIUM",
          agent_id: agentOf(progress.pathname),
          message: "A request was refused for want of a permission",
          details: { permission: typeof permission === "string" ? permission : null, ...details },
          automated_response: { action_taken: "REQUEST_REJECTED" },
        });
      } else if (fault.code === "RATE_LIMIT_EXCEEDED") {
        report({
          ...common,
          event_type: "RATE_LIMIT_REACHED",
          severity: "LOW",
          agent_id: null,
          message: "Requests to /api were refused because there were too many",
          details: { limit_type: String(limit_type), ...details },
          automated_response: { action_taken: "REQUESTS_REFUSED" },
        });
      }
    },
  };
}

function requestDetails(request: Request, progress: Progress) {
  return {
    method: request.method,
    route: progress.route?.path ?? null,
    request_id: progress.requestId,
  };
}

function agentOf(pathname: string): string | null {
  const uuid =
    /^\/api\/(?:agents|security\/scan)\/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})(?:\/|$)/i;
  return uuid.exec(pathname)?.[1]?.toLowerCase() ?? null;
}

/** What the proxies before us say of the client; whoever comes past them can write anything there. */
function originOf(headers: Headers): { ip_address: string | null; user_agent: string | null } {
  const addresses = (headers.get("x-forwarded-for") ?? "").split(",")
    .map((part) => part.trim().split("%")[0]!);
  return {
    ip_address: addresses.find((address) => isIP(address) !== 0) ?? null,
    user_agent: headers.get("user-agent")?.slice(0, 500) ?? null,
  };
}
