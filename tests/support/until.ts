/**
 * How long a condition may take to come true. It is no bound on the speed of anything: a machine may be slow and busy,
 * and whoever waits longer than this waits for what never happens.
 */
export const PATIENCE = { timeout: 180_000, interval: 50 };

/** Waits for a condition and says what it last saw when the time is up. */
export async function until<T>(
  look: () => Promise<T>,
  holds: (value: T) => boolean,
): Promise<T> {
  const end = Date.now() + PATIENCE.timeout;
  while (true) {
    const value = await look();
    if (holds(value)) return value;
    if (Date.now() > end) throw new Error(`never happened; last seen: ${JSON.stringify(value)}`);
    await new Promise((resolve) => setTimeout(resolve, PATIENCE.interval));
  }
}
