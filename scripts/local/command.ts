import { StackError, systemErrorCode } from "./errors.ts";

/**
 * Runs one of the npm scripts: what the person can put right is printed as a sentence with advice,
 * a defect with its stack trace, and both end with exit code 1.
 */
export async function runCommand(main: () => Promise<number | void>): Promise<never> {
  try {
    return Deno.exit(await main() ?? 0);
  } catch (error) {
    const known = explain(error);
    if (known === null) console.error(error);
    else console.error(`\n${known.message}\n${known.hint}`);
    return Deno.exit(1);
  }
}

function explain(error: unknown): StackError | null {
  if (error instanceof StackError) return error;
  if (systemErrorCode(error) === "ENOSPC") {
    return new StackError("The disk is full.", "Free some space and try again.");
  }
  if (systemErrorCode(error) === "EACCES") {
    return new StackError(
      (error as Error).message,
      "These files belong to another user: run the command as that one, or set LAUNCHPAD_STATE_DIR.",
    );
  }
  return null;
}
