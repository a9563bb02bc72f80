/**
 * Something the person at the terminal can put right. The commands print `message` and `hint`
 * and exit with 1; every other error is a defect and keeps its stack trace.
 */
export class StackError extends Error {
  override readonly name = "StackError";

  /**
   * @param message what is wrong, one sentence
   * @param hint what to do about it, one or more sentences
   */
  constructor(message: string, readonly hint: string, options?: ErrorOptions) {
    super(message, options);
  }
}

/** The operating system's error code (`ENOSPC`, `EACCES` …), or null for any other error. */
export function systemErrorCode(error: unknown): string | null {
  if (typeof error !== "object" || error === null) return null;
  const code = (error as { code?: unknown }).code;
  if (typeof code === "string" && /^E[A-Z0-9]+$/.test(code)) return code;
  const cause = (error as { cause?: unknown }).cause;
  return cause === undefined ? null : systemErrorCode(cause);
}

/** `error` as one line for a log or a terminal. */
export function describeError(error: unknown): string {
  const text = error instanceof Error ? error.message || error.name : String(error);
  return text.replace(/\s+/g, " ").trim();
}
