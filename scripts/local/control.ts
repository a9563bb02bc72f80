import { randomBytes, timingSafeEqual } from "node:crypto";
import { describeError, StackError } from "./errors.ts";
import type { RunningStack } from "./lock.ts";

/** One process of the stack, for `npm run status`. */
export interface ProcessStatus {
  name: string;
  pid: number | null;
  state: string;
}

/** What the other commands may ask of a running stack. */
export interface ControlActions {
  stop(): void;
  status(): Promise<{ processes: ProcessStatus[] }>;
  /** Makes the database anew; `progress` gets one line per step. */
  reset(progress: (line: string) => void): Promise<void>;
}

export interface ControlServer {
  url: string;
  token: string;
  close(): Promise<void>;
}

/** A line of `/reset` that begins with this ends a reset that failed; the rest is what to print. */
const FAILED = "!";

/**
 * Listens on a free port of the loopback for `npm run stop`, `status` and `reset`. The token in
 * `stack.json`, which only the user who started the stack can read, opens it.
 */
export function startControl(host: string, actions: ControlActions): ControlServer {
  const token = randomBytes(24).toString("base64url");
  const expected = new TextEncoder().encode(`Bearer ${token}`);
  const server = Deno.serve({ hostname: host, port: 0, onListen() {} }, async (request) => {
    const given = new TextEncoder().encode(request.headers.get("authorization") ?? "");
    if (given.length !== expected.length || !timingSafeEqual(given, expected)) {
      return new Response(null, { status: 404 });
    }
    switch (`${request.method} ${new URL(request.url).pathname}`) {
      case "GET /status":
        return Response.json(await actions.status());
      case "POST /stop":
        // After the answer is out.
        setTimeout(actions.stop, 20);
        return Response.json({});
      case "POST /reset":
        return streamLines((write) => actions.reset(write));
      default:
        return new Response(null, { status: 404 });
    }
  });
  return {
    url: `http://${host}:${server.addr.port}`,
    token,
    close: () => server.shutdown(),
  };
}

/** Asks a running stack; null when it does not answer (any more). */
export async function askStack(
  running: RunningStack,
  method: "GET" | "POST",
  path: string,
): Promise<Response | null> {
  if (running.control === null) return null;
  try {
    return await fetch(running.control.url + path, {
      method,
      headers: { authorization: `Bearer ${running.control.token}` },
    });
  } catch {
    return null;
  }
}

/**
 * Prints the lines of a `/reset` as they come.
 *
 * @throws {StackError} with the reason when the reset failed
 */
export async function followReset(
  answer: Response,
  progress: (line: string) => void,
): Promise<void> {
  let rest = "";
  const decoder = new TextDecoder();
  for await (const bytes of answer.body ?? []) {
    const lines = (rest + decoder.decode(bytes, { stream: true })).split("\n");
    rest = lines.pop()!;
    for (const line of lines) {
      if (!line.startsWith(FAILED)) progress(line);
      else {
        const [message, hint] = JSON.parse(line.slice(FAILED.length)) as [string, string];
        throw new StackError(message, hint);
      }
    }
  }
}

function streamLines(run: (write: (line: string) => void) => Promise<void>): Response {
  const encoder = new TextEncoder();
  const body = new ReadableStream<Uint8Array>({
    async start(controller) {
      const write = (line: string) => controller.enqueue(encoder.encode(`${line}\n`));
      try {
        await run(write);
      } catch (error) {
        const hint = error instanceof StackError ? error.hint : "The log of npm start has more.";
        write(FAILED + JSON.stringify([describeError(error), hint]));
      }
      controller.close();
    },
  });
  return new Response(body, { headers: { "content-type": "text/plain" } });
}
