import { runCommand } from "./local/command.ts";
import { loadConfig } from "./local/config.ts";
import { askStack, followReset } from "./local/control.ts";
import { DatabaseHalf } from "./local/database-half.ts";
import { StackError } from "./local/errors.ts";
import { loadKeys } from "./local/keys.ts";
import { claimStateDir, findRunning, isLocked } from "./local/lock.ts";
import { createLog } from "./local/log.ts";
import { resetPortainer } from "./local/portainer-process.ts";

/**
 * `npm run reset`: deletes the local data and makes the database anew from migrations and seed, in
 * the running stack or, when none runs, by itself. Keys stay.
 */
await runCommand(async () => {
  const config = loadConfig();
  if (await isLocked(config.stateDir)) {
    const running = await findRunning(config.stateDir);
    const answer = running && await askStack(running, "POST", "/reset");
    if (!answer?.ok) {
      throw new StackError("The stack is starting or stopping at this moment.", "Try again soon.");
    }
    await followReset(answer, console.log);
  } else {
    const lock = await claimStateDir(config);
    const database = new DatabaseHalf(
      config,
      await loadKeys(config),
      () => Promise.resolve(),
      createLog("info", console.log),
    );
    try {
      await database.reset(console.log);
      await resetPortainer(config);
    } finally {
      await database.stop();
      await lock.release();
    }
  }
  console.log("The database is as new.");
});
