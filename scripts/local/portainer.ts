/**
 * The local Portainer, a process of its own: `deno run -A scripts/local/portainer.ts`.
 *
 * Environment: PORTAINER_PORT (54325), PORTAINER_API_KEY (needed), PORTAINER_STATE_DIR (needed), PORTAINER_FAULTS=1 to
 * serve the fault routes that `portainer/faults.ts` describes. It prints one line with its address when it is ready, and
 * ends, with its containers, on SIGTERM, SIGINT or the end of standard input.
 */
import { startPortainer } from "./portainer/server.ts";

function required(name: string): string {
  const value = Deno.env.get(name);
  if (!value) {
    console.error(`portainer: ${name} is not set`);
    Deno.exit(2);
  }
  return value;
}

const log = (line: string) => console.error(`portainer: ${line}`);

async function main(): Promise<void> {
  let portainer;
  try {
    portainer = await startPortainer({
      port: Number(Deno.env.get("PORTAINER_PORT") ?? 54325),
      apiKey: required("PORTAINER_API_KEY"),
      stateDirectory: required("PORTAINER_STATE_DIR"),
      withFaults: Deno.env.get("PORTAINER_FAULTS") === "1",
      log,
    });
  } catch (error) {
    log((error as Error).message);
    Deno.exit(1);
  }
  console.log(`portainer: listening on http://127.0.0.1:${portainer.port}`);

  let leaving = false;
  const leave = async () => {
    if (leaving) return;
    leaving = true;
    await portainer.close();
    Deno.exit(0);
  };
  Deno.addSignalListener("SIGTERM", leave);
  Deno.addSignalListener("SIGINT", leave);
  const buffer = new Uint8Array(256);
  while (await Deno.stdin.read(buffer) !== null);
  await leave();
}

main();
