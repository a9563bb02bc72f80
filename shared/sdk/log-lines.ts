import type { z } from "zod";
import type { Edition } from "../contract/editions.ts";
import type { logLine1 } from "../contract/responses/edition-1.ts";
import type { logLine2 } from "../contract/responses/edition-2.ts";
import type { logLine3 } from "../contract/responses/edition-3.ts";
import { AgentLaunchpadError } from "./error.ts";
import { pause, type RequestInput, type Transport } from "./transport.ts";

const PAUSE_MS = 500;
const ENDED = { done: true, value: undefined } as const;

export interface Lines {
  1: z.output<typeof logLine1>;
  2: z.output<typeof logLine2>;
  3: z.output<typeof logLine3>;
}

/**
 * Lines of a log as they are written. The server ends an answer after some minutes; it is gone on with
 * behind the last line.
 * @throws AgentLaunchpadError for what will not pass
 */
export async function* followLines<Own extends Edition>(
  transport: Transport,
  { query, ...input }: RequestInput<"readAgentLogs">,
): AsyncGenerator<Lines[Own]> {
  let last: string | null = null;
  while (!input.signal?.aborted) {
    const answer: Response = await transport.response("readAgentLogs", {
      ...input,
      query: { ...query, follow: true },
    }, { Accept: "text/event-stream", ...(last !== null && { "Last-Event-ID": last }) });
    for await (const event of events(answer)) {
      if (event.name === "error") {
        const { code, message } = JSON.parse(event.data).error;
        throw new AgentLaunchpadError(code, message);
      }
      if (event.name !== "log") continue;
      last = event.id;
      yield JSON.parse(event.data);
    }
    await pause(PAUSE_MS, input.signal);
  }
}

interface ServerSentEvent {
  id: string;
  name: string;
  data: string;
}

async function* events({ body }: Response): AsyncGenerator<ServerSentEvent> {
  const reader = body!.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  try {
    while (true) {
      // A connection that broke off has ended like one that the server closed.
      const { done, value } = await reader.read().catch(() => ENDED);
      if (done) return;
      const blocks = (buffer + value).split("\n\n");
      buffer = blocks.pop()!;
      for (const block of blocks) {
        const field = (name: string) => new RegExp(`^${name}: (.*)$`, "m").exec(block)?.[1] ?? "";
        if (field("event") !== "") {
          yield { id: field("id"), name: field("event"), data: field("data") };
        }
      }
    }
  } finally {
    await reader.cancel().catch(() => {});
  }
}
