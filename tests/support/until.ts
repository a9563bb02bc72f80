/** Waits for a condition and says what it last saw when the time is up. */
export async function until<T>(
  look: () => Promise<T>,
  holds: (value: T) => boolean,
  limitMs = 60_000,
): Promise<T> {
  const end = Date.now() + limitMs;
  while (true) {
    const value = await look();
    if (holds(value)) return value;
    if (Date.now() > end) throw new Error(`never happened; last seen: ${JSON.stringify(value)}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
