/** Vitest's `globalSetup` behind `useStack`: the stack starts when the first test file asks. */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { stackDoor } from "./stack.ts";
import { type StackProcess, startStackProcess } from "./stack-process.ts";

let close: (() => Promise<void>) | undefined;

export async function setup(): Promise<void> {
  let started: Promise<StackProcess> | undefined;
  const door = createServer((_request, response) => {
    started ??= startStackProcess();
    started.then(
      ({ child: _child, output: _output, stop: _stop, ...access }) =>
        response.end(JSON.stringify(access)),
      (error) => response.writeHead(500).end(error instanceof Error ? error.message : "failed"),
    );
  });
  await new Promise<void>((resolve) => door.listen(0, "127.0.0.1", resolve));
  process.env[stackDoor] = `http://127.0.0.1:${(door.address() as AddressInfo).port}`;
  close = async () => {
    door.closeAllConnections();
    door.close();
    const stack = await started?.catch(() => undefined);
    if (process.env.TEST_STACK_LOG) console.log(stack?.output());
    await stack?.stop();
  };
}

export async function teardown(): Promise<void> {
  await close?.();
}
