import type { HealthReport, RequestFigures } from "./health.ts";
import type { Logger } from "./log.ts";

/** A message that was answered, and the answer. */
export interface Exchange {
  conversation: string;
  message: string;
  reply: string;
}

export interface Reporter {
  /** Reports an exchange with the next figures. */
  heard(exchange: Exchange): void;
  /** Last words, before the process ends. */
  close(): Promise<void>;
}

/** Exchanges that wait while nothing can be reported; older ones are given up. */
const MOST_WAITING = 50;

/**
 * Reports as a deployed agent does, when its environment says where to and by which key
 * (`supabase_config.reporting`): its status once, then every so often the figures of its requests and what was
 * said. What could not be told goes with the next report; its batch keeps it from being stored twice.
 */
export function startReporting(facts: {
  environment: (name: string) => string | undefined;
  everyMs: number;
  requests: RequestFigures;
  check: () => Promise<HealthReport>;
  log: Logger;
}): Reporter {
  const [url, agentId, key] = ["URL", "AGENT_ID", "KEY"]
    .map((name) => facts.environment(`AGENT_LAUNCHPAD_${name}`));
  if (!url || !agentId || !key) return { heard() {}, close: () => Promise.resolve() };
  const instance = facts.environment("HOSTNAME") ?? "agent";
  const waiting: (Exchange & { batch: string })[] = [];
  let saidStatus = false;
  let trouble = "";

  async function send(method: string, what: string, body: unknown): Promise<boolean> {
    let fault = "";
    try {
      const response = await fetch(`${url}/api/agents/${agentId}/${what}`, {
        method,
        headers: { "X-API-Key": key!, "Content-Type": "application/json" },
        body: JSON.stringify(body),
        signal: AbortSignal.timeout(5000),
      });
      await response.body?.cancel();
      // 409: the system sets the status while it deploys; that is no trouble, and it is tried again.
      if (!response.ok && response.status !== 409) fault = `answered ${response.status}`;
      if (response.ok || fault === "") return response.ok;
    } catch (error) {
      fault = (error as Error).name;
    }
    if (fault !== trouble) facts.log("warn", "reporter", `Report of ${what} failed: ${fault}`);
    trouble = fault;
    return false;
  }

  async function report(): Promise<void> {
    const { total, failed, totalMs } = facts.requests;
    const { checks } = await facts.check();
    const reached = await send("POST", "metrics", {
      instance,
      requests_total: total,
      requests_failed: failed,
      response_time_ms: total === 0 ? null : totalMs / total,
      checks,
    });
    if (!reached) return;
    trouble = "";
    if (!saidStatus) saidStatus = await send("PUT", "status", { status: "idle" });
    while (waiting.length > 0) {
      const { conversation, message, reply, batch } = waiting[0]!;
      const stored = await send("POST", "conversations", {
        conversation_id: conversation,
        batch_id: batch,
        messages: [
          { role: "user", content: message },
          { role: "assistant", content: reply },
        ],
      });
      if (!stored) return;
      waiting.shift();
    }
  }

  // At once too: rates are counted from the first report on.
  let turn = report();
  const timer = setInterval(() => {
    turn = turn.then(report);
  }, facts.everyMs);
  return {
    heard(exchange) {
      waiting.push({ ...exchange, batch: crypto.randomUUID() });
      if (waiting.length > MOST_WAITING) waiting.shift();
    },
    async close() {
      clearInterval(timer);
      await turn;
      await report();
    },
  };
}
