import { parseArgs } from "node:util";
import { runCommand } from "./local/command.ts";
import { loadConfig } from "./local/config.ts";
import { describeError } from "./local/errors.ts";
import { createLog, type Log, type LogLevel } from "./local/log.ts";
import { arePresent, npmProcesses } from "./local/parents.ts";
import { startStack } from "./local/stack.ts";
import { formatSummary, sampleRequest } from "./local/summary.ts";

/** How often to look whether npm, which started us, is still there. */
const PARENT_CHECK_MS = 500;
/** A second Ctrl-C counts as one of its own after this time. */
const IMPATIENT_AFTER_MS = 700;

await runCommand(async () => {
  const startedAt = performance.now();
  const { values } = parseArgs({ options: { "no-watch": { type: "boolean", default: false } } });
  const config = loadConfig();
  const log = createLog((Deno.env.get("LAUNCHPAD_LOG") ?? "info") as LogLevel, say);
  surviveDefects(log);
  bypassProxyFor(config.host);
  const end = endOfStack();

  // Asked to end meanwhile, it starts to the end and stops in order then.
  const stack = await startStack({
    config,
    log,
    watch: !values["no-watch"],
    progress: (part, milliseconds) => say(`  ✓ ${part} ${seconds(milliseconds)}`),
    onStopRequest: end.request,
  });
  if (!end.requested) {
    say(`Started in ${seconds(performance.now() - startedAt)}.\n`);
    say(formatSummary(config, stack.keys));
    say(`\nTry it:\n  ${sampleRequest(config)}\n`);
    say("Ctrl-C or npm run stop ends it. npm run demo takes an agent through its life.\n");
  }
  await end.done;
  say("Stopping …");
  await stack.stop();
  say("Stopped.");
});

/** Resolves at Ctrl-C, SIGTERM, the terminal's end, `npm run stop`, or when npm is gone. */
function endOfStack() {
  const { promise, resolve } = Promise.withResolvers<void>();
  const end = {
    requested: false,
    done: promise,
    request: () => {
      end.requested = true;
      resolve();
    },
  };
  let askedAt = Infinity;
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    Deno.addSignalListener(signal, () => {
      // Ctrl-C reaches us twice, from the terminal and from npm. Pressed again, it means now: the
      // parts notice that we are gone and end, the database without losing a committed row.
      if (performance.now() - askedAt > IMPATIENT_AFTER_MS) Deno.exit(130);
      if (!end.requested) askedAt = performance.now();
      end.request();
    });
  }
  const npm = npmProcesses();
  const timer = setInterval(() => {
    if (!arePresent(npm)) end.request();
  }, PARENT_CHECK_MS);
  Deno.unrefTimer(timer as unknown as number);
  return end;
}

/** A defect in one service must not take the database away from all the others. */
function surviveDefects(log: Log): void {
  const report = (error: unknown) =>
    log.error(error instanceof Error ? error.stack ?? error.message : describeError(error));
  addEventListener("unhandledrejection", (event) => {
    event.preventDefault();
    report(event.reason);
  });
  addEventListener("error", (event) => {
    event.preventDefault();
    report(event.error);
  });
}

/** What the parts of the stack say to each other must not go through a proxy. */
function bypassProxyFor(host: string): void {
  for (const name of ["NO_PROXY", "no_proxy"]) {
    Deno.env.set(name, [Deno.env.get(name), host, "localhost"].filter(Boolean).join(","));
  }
}

/** A terminal that has been closed takes no more output; that must not stop the stop. */
function say(line: string): void {
  try {
    const bytes = new TextEncoder().encode(line + "\n");
    for (let at = 0; at < bytes.length;) at += Deno.stdout.writeSync(bytes.subarray(at));
  } catch {
    // Nobody is listening.
  }
}

function seconds(milliseconds: number): string {
  return `${(milliseconds / 1000).toFixed(1)} s`;
}
