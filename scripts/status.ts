import { parseArgs } from "node:util";
import { runCommand } from "./local/command.ts";
import { loadConfig } from "./local/config.ts";
import { askStack, type ProcessStatus } from "./local/control.ts";
import { StackError } from "./local/errors.ts";
import { readKeys } from "./local/keys.ts";
import { findRunning } from "./local/lock.ts";
import { formatEnv, formatSummary, sampleRequest, statusVariables } from "./local/summary.ts";

/** `npm run status [-- -o env|json]`: addresses and keys of the running stack, as Supabase's CLI. */
await runCommand(async () => {
  const { values } = parseArgs({
    options: { output: { type: "string", short: "o", default: "pretty" } },
  });
  if (!["pretty", "env", "json"].includes(values.output)) {
    throw new StackError(`-o ${values.output} is not known.`, "Use -o env or -o json.");
  }
  const config = loadConfig();
  const running = await findRunning(config.stateDir);
  const keys = await readKeys(config);
  const answer = running && await askStack(running, "GET", "/status");
  if (running === null || keys === null) {
    throw new StackError("Agent Launchpad is not running here.", "npm start starts it.");
  }
  if (values.output === "env") return console.log(formatEnv(statusVariables(running, keys)));
  if (values.output === "json") {
    return console.log(JSON.stringify(statusVariables(running, keys), null, 2));
  }
  console.log(`Agent Launchpad runs since ${running.startedAt}.\n`);
  console.log(formatSummary(running, keys));
  console.log(`\n${await describeProcesses(answer)}`);
  console.log(`\nTry it:\n  ${sampleRequest(running)}`);
});

async function describeProcesses(answer: Response | null): Promise<string> {
  if (answer?.status !== 200) return "It is starting, or stopping, at this moment.";
  const { processes } = await answer.json() as { processes: ProcessStatus[] };
  return processes
    .map(({ name, pid, state }) =>
      `  ${String(pid ?? "-").padStart(8)}  ${state.padEnd(8)}  ${name}`
    )
    .join("\n");
}
