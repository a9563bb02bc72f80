import { edgeRuntime } from "./edge-runtime.ts";

/**
 * Makes the kick that follows a queued operation: it calls the worker in the background, so that
 * work begins before the next tick of cron. Many requests at once make one call under way and one
 * more after it. A kick that fails is no error: the database wakes the worker too.
 */
export function createWorkerKick(projectUrl: string, secretKey: string): () => void {
  let calling = false;
  let again = false;

  async function call(): Promise<void> {
    calling = true;
    do {
      again = false;
      try {
        const response = await fetch(`${projectUrl}/functions/v1/worker`, {
          method: "POST",
          headers: { "apikey": secretKey, "Content-Type": "application/json" },
          body: "{}",
          signal: AbortSignal.timeout(5000),
        });
        await response.body?.cancel();
      } catch {
        // Said above: cron and the queue's trigger do the same.
      }
    } while (again);
    calling = false;
  }

  return () => {
    const runtime = edgeRuntime();
    if (runtime === undefined) return;
    if (calling) again = true;
    else runtime.waitUntil(call());
  };
}
