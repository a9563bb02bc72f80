import type { Log } from "./log.ts";

/**
 * Work that is due now and then, called as often as the worker is woken: it never throws, and a second call while one is
 * under way joins it.
 *
 * @param complaint what the log says when it goes wrong
 */
export function createRounds(
  log: Log,
  complaint: string,
  round: () => Promise<void>,
): () => Promise<void> {
  let underWay: Promise<void> | null = null;

  async function once(): Promise<void> {
    try {
      await round();
    } catch (error) {
      log("warn", complaint, {
        reason: error instanceof Error
          ? `${error.name}: ${error.message}`.slice(0, 300)
          : "unknown",
      });
    } finally {
      underWay = null;
    }
  }

  return () => underWay ??= once();
}
