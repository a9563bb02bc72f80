/** Waits until `condition` gives something true, and gives it back. */
export async function eventually<T>(
  condition: () => T | Promise<T>,
  { withinMs = 10_000, what = "the condition" } = {},
): Promise<NonNullable<T>> {
  const until = Date.now() + withinMs;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (Date.now() > until) throw new Error(`${what} did not come true within ${withinMs} ms`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
