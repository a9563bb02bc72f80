import { createServer, type IncomingHttpHeaders } from "node:http";
import type { AddressInfo } from "node:net";

export interface Answer {
  status: number;
  headers?: Record<string, string>;
  body?: unknown;
}

interface Asked {
  method: string;
  url: string;
  headers: IncomingHttpHeaders;
  body: string;
}

export interface ScriptedServer {
  url: string;
  /** What is still to be answered, one each; null hangs up. After the last it is 200 and `{}`. */
  answers: (Answer | null)[];
  /** What it was asked. */
  asked: Asked[];
  forget(): void;
  close(): Promise<void>;
}

/** A server that answers as it is told. */
export async function startScriptedServer(): Promise<ScriptedServer> {
  const server = createServer(async (request, response) => {
    let body = "";
    for await (const chunk of request) body += chunk;
    const { method, url, headers } = request;
    script.asked.push({ method: method!, url: url!, headers, body });
    const answer = script.answers.shift();
    if (answer === null) return void request.socket.destroy();
    const { status, headers: further, body: sent } = answer ?? { status: 200, body: {} };
    response.writeHead(status, { "Content-Type": "application/json", ...further });
    response.end(JSON.stringify(sent ?? {}));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const script: ScriptedServer = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    answers: [],
    asked: [],
    forget() {
      script.answers = [];
      script.asked = [];
    },
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
  return script;
}
