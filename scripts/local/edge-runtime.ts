/**
 * Runs one Edge Function, named by its path as the only argument: gives it what the hosted runtime
 * has and Deno has not, and ties its life to the stack's. (Deno's `--preload` would do, but waits
 * for everything that the preloaded module leaves running, as our watch on standard input.)
 *
 * Standard input is the line to the supervisor: `stop` asks for an orderly end, and its end means
 * that the supervisor is gone, however it went; a function must not outlive it and hold a port.
 * On standard output the line `READY_MARK + address` says where the function listens.
 */
import { pathToFileURL } from "node:url";
import { READY_MARK, STOP_COMMAND } from "./child-protocol.ts";

/** How long a stopping function may finish its requests and its background work. */
const DRAIN_MS = 5_000;

const background = new Set<Promise<unknown>>();
const servers: Deno.HttpServer[] = [];

Object.defineProperty(globalThis, "EdgeRuntime", {
  value: {
    waitUntil<T>(work: Promise<T>): Promise<T> {
      const settled = Promise.resolve(work).catch((error) => {
        console.error("EdgeRuntime.waitUntil:", error);
      }).finally(() => background.delete(settled));
      background.add(settled);
      return work;
    },
  },
});

const serve = Deno.serve as (
  options: Deno.ServeTcpOptions,
  handler: Deno.ServeHandler,
) => Deno.HttpServer<Deno.NetAddr>;

/** `Deno.serve` in all its forms, on a free port of the loopback whatever the function asks for. */
function serveOnFreePort(...args: unknown[]): Deno.HttpServer {
  const options = args.find((arg) => typeof arg === "object" && arg !== null) ?? {};
  const handler = args.find((arg) => typeof arg === "function") ??
    (options as { handler?: unknown }).handler;
  if (typeof handler !== "function") throw new TypeError("Deno.serve needs a handler");
  const { signal, onError } = options as Deno.ServeTcpOptions;
  const server = serve(
    {
      ...(signal && { signal }),
      ...(onError && { onError }),
      hostname: "127.0.0.1",
      port: 0,
      onListen: ({ port }) => {
        if (servers.length === 0) console.log(`${READY_MARK}${port}`);
      },
    },
    handler as Deno.ServeHandler,
  );
  servers.push(server);
  return server;
}

Object.defineProperty(Deno, "serve", {
  value: serveOnFreePort,
  writable: true,
  configurable: true,
});

async function drain(): Promise<void> {
  setTimeout(() => Deno.exit(), DRAIN_MS);
  dispatchEvent(new CustomEvent("beforeunload", { detail: { reason: "shutdown" } }));
  await Promise.allSettled(servers.map((server) => server.shutdown()));
  while (background.size > 0) await Promise.allSettled(background);
  Deno.exit();
}

async function followSupervisor(): Promise<void> {
  const decoder = new TextDecoder();
  for await (const chunk of Deno.stdin.readable) {
    if (decoder.decode(chunk).includes(STOP_COMMAND)) void drain();
  }
  Deno.exit();
}

void followSupervisor();
await import(pathToFileURL(Deno.args[0]!).href);
