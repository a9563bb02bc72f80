import { PATIENCE } from "../../support/until.ts";

/** Waits until `condition` gives something true, and gives it back. */
export async function eventually<T>(
  condition: () => T | Promise<T>,
  { what = "the condition" } = {},
): Promise<NonNullable<T>> {
  const end = Date.now() + PATIENCE.timeout;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (Date.now() > end) throw new Error(`${what} never came true`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
