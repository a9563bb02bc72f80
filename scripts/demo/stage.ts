/** What the demo shows: headings, answers, progress bars; and the one place where it fails. */
import type { z } from "zod";

const colour = Deno.stdout.isTerminal() && !Deno.env.has("NO_COLOR");
const paint = (code: number, text: string) => colour ? `\x1b[${code}m${text}\x1b[0m` : text;

export class DemoError extends Error {}

export function heading(text: string): void {
  console.log(`\n${paint(1, text)}`);
}

export function say(text: string): void {
  console.log(`  ${text}`);
}

/** Prints an answer, shortened to what fits a screen. */
export function show(answer: unknown, lines = 24): void {
  const all = JSON.stringify(answer, null, 2).split("\n");
  for (const line of all.slice(0, lines)) console.log(`  ${paint(2, line)}`);
  if (all.length > lines) console.log(`  ${paint(2, `… ${all.length - lines} more lines`)}`);
}

/** A bar that is drawn over itself in a terminal, and printed when it changes elsewhere. */
export function progress(label: string): (percent: number, note: string) => void {
  let last = "";
  return (percent, note) => {
    const width = 24;
    const filled = Math.round((percent / 100) * width);
    const bar = "█".repeat(filled) + "░".repeat(width - filled);
    const line = `  ${label} ${bar} ${String(percent).padStart(3)} % ${note}`;
    if (line === last) return;
    last = line;
    if (!Deno.stdout.isTerminal()) return console.log(line);
    Deno.stdout.writeSync(
      new TextEncoder().encode(`\r\x1b[K${line}${percent >= 100 ? "\n" : ""}`),
    );
  };
}

/** Parses an answer as documented; what differs ends the demo. */
export function documented<T>(what: string, schema: z.ZodType<T>, answer: unknown): T {
  const parsed = schema.safeParse(answer);
  if (parsed.success) {
    say(paint(32, `✓ ${what}: as documented`));
    return parsed.data;
  }
  show(answer, 60);
  const faults = parsed.error.issues.map((issue) => `${issue.path.join(".")}: ${issue.message}`);
  throw new DemoError(`${what} is not as documented: ${faults.join("; ")}`);
}

export function expect(holds: boolean, what: string): void {
  if (!holds) throw new DemoError(`Not seen: ${what}.`);
  say(paint(32, `✓ ${what}`));
}

/** Waits until `look` gives something, at most so long. */
export async function until<T>(
  what: string,
  look: () => Promise<T | undefined | false | null>,
  seconds = 60,
): Promise<T> {
  const end = Date.now() + seconds * 1000;
  while (Date.now() < end) {
    const found = await look();
    if (found) return found;
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
  throw new DemoError(`Not within ${seconds} seconds: ${what}.`);
}
