import { runCommand } from "./local/command.ts";
import { loadConfig } from "./local/config.ts";
import { askStack } from "./local/control.ts";
import { StackError } from "./local/errors.ts";
import { findRunning, isLocked } from "./local/lock.ts";

/** Long enough for functions that finish their work and for a database that writes everything. */
const STOP_WITHIN_MS = 40_000;
const POLL_MS = 50;

/** `npm run stop`: ends the stack of this checkout from another terminal. Data stay. */
await runCommand(async () => {
  const { stateDir } = loadConfig();
  if (!await isLocked(stateDir)) return console.log("Agent Launchpad is not running here.");
  await requestStop(stateDir);
  const deadline = Date.now() + STOP_WITHIN_MS;
  while (await isLocked(stateDir)) {
    if (Date.now() > deadline) {
      const running = await findRunning(stateDir);
      throw new StackError(
        `It has not ended within ${STOP_WITHIN_MS / 1000} seconds.`,
        running === null ? "Try again." : `Try again, or end it by force: kill -9 ${running.pid}`,
      );
    }
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
  console.log("Stopped. The data stay; npm start brings them back.");
});

async function requestStop(stateDir: string): Promise<void> {
  const running = await findRunning(stateDir);
  if (running === null) return;
  const answer = await askStack(running, "POST", "/stop");
  // While it starts it does not listen yet, but it takes a signal.
  if (!answer?.ok) Deno.kill(running.pid, "SIGTERM");
}
