import net from "node:net";
import tls from "node:tls";
import type { Finding } from "./services.ts";

/** More than this is not the answer to `INFO`. */
const MAX_BYTES = 64 * 1024;

/** A command in Redis' wire format. */
function command(...words: string[]): string {
  const parts = words.map((word) => `$${new TextEncoder().encode(word).length}\r\n${word}\r\n`);
  return `*${words.length}\r\n${parts.join("")}`;
}

/**
 * Asks a Redis for its `INFO`: it signs in, counts its clients and weighs its memory.
 * @param address `redis://[user:password@]host[:port]`, or `rediss://` for TLS
 */
export function probeRedis(address: string, signal: AbortSignal): Promise<Finding> {
  const url = new URL(address);
  const options = { host: url.hostname, port: Number(url.port || "6379") };
  return new Promise((resolve) => {
    const socket = url.protocol === "rediss:"
      ? tls.connect({ ...options, servername: url.hostname })
      : net.connect(options);
    let received = "";
    const end = (finding: Finding) => {
      signal.removeEventListener("abort", giveUp);
      socket.destroy();
      resolve(finding);
    };
    const giveUp = () => end({ is: "failing" });
    signal.addEventListener("abort", giveUp);
    socket.setEncoding("utf8");
    socket.on("error", giveUp).on("close", giveUp);
    socket.once(url.protocol === "rediss:" ? "secureConnect" : "connect", () => {
      const password = decodeURIComponent(url.password);
      const user = decodeURIComponent(url.username);
      if (password) socket.write(command("AUTH", ...(user ? [user] : []), password));
      socket.write(command("INFO"));
    });
    socket.on("data", (chunk: string) => {
      received += chunk;
      if (/^-/m.test(received) || received.length > MAX_BYTES) return giveUp();
      const memory = /^used_memory:(\d+)\r$/m.exec(received);
      const clients = /^connected_clients:(\d+)\r$/m.exec(received);
      if (memory === null || clients === null) return;
      end({
        is: "working",
        details: { memory_bytes: Number(memory[1]), connections: Number(clients[1]) },
      });
    });
  });
}
