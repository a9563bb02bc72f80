export interface Rate {
  /** Whether there is room for one more. */
  take(): boolean;
}

/** Counts in windows, the first of which begins with what is counted first. */
export function createRate(most: number, windowMs = 1_000): Rate {
  let ends = 0;
  let taken = 0;
  return {
    take() {
      const now = Date.now();
      if (now >= ends) {
        ends = now + windowMs;
        taken = 0;
      }
      return ++taken <= most;
    },
  };
}
