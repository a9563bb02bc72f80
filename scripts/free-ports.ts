import { createServer } from "node:net";

/**
 * Below what systems hand out by themselves, to outgoing connections and to whoever asks for any port: those may be
 * somebody else's a moment after they were found free. Clear also of the local Portainer, which begins at 20000.
 */
const RANGE = { from: 10_000, count: 10_000 };
const given = new Set<number>();

/** Ports of the loopback that nobody listens on, all different, for servers that have to be told theirs. */
export async function freePorts(count: number): Promise<number[]> {
  const found: number[] = [];
  while (found.length < count) {
    const port = RANGE.from + Math.floor(Math.random() * RANGE.count);
    if (given.has(port) || !await isFree(port)) continue;
    given.add(port);
    found.push(port);
  }
  return found;
}

function isFree(port: number): Promise<boolean> {
  const server = createServer();
  return new Promise((resolve) => {
    server.once("error", () => resolve(false));
    server.listen(port, "127.0.0.1", () => server.close(() => resolve(true)));
  });
}
