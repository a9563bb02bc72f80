/** Bytes that went through a container's published ports; a "packet" is one read. */
export interface Traffic {
  rxBytes: number;
  txBytes: number;
  rxPackets: number;
  txPackets: number;
}

export const noTraffic = (): Traffic => ({ rxBytes: 0, txBytes: 0, rxPackets: 0, txPackets: 0 });

/** Where a connection goes: the real port of a container's process, and the counter of that container. */
export interface Backend {
  port: number;
  traffic: Traffic;
}

/** The address that everything of this engine binds. */
export const HOST = "127.0.0.1";

/** A host port is taken, by another container or by another program. */
export class PortTaken extends Error {
  constructor(readonly port: number) {
    super(`Bind for 0.0.0.0:${port} failed: port is already allocated`);
  }
}

/**
 * Where one local Portainer begins to look for published ports: a place in the range that its folder
 * decides. Two of them on one machine then seldom want the same ports, and each finds its own again
 * after a restart.
 */
export function firstPublishedPort(range: { from: number; count: number }, folder: string): number {
  let hash = 0;
  for (const character of folder) hash = (hash * 31 + character.charCodeAt(0)) % 1_000_003;
  return range.from + hash % range.count;
}

const given = new Set<number>();

/**
 * A free port for a process. The range keeps clear of published ports (from 30000) and of the range
 * that systems take ports for outgoing connections from.
 */
export function freeProcessPort(): number {
  for (let attempt = 0; attempt < 1000; attempt++) {
    const port = 20000 + Math.floor(Math.random() * 9000);
    if (given.has(port)) continue;
    try {
      Deno.listen({ hostname: HOST, port }).close();
      given.add(port);
      return port;
    } catch (error) {
      if (!(error instanceof Deno.errors.AddrInUse)) throw error;
    }
  }
  throw new Error("no free port for a container's process");
}

export function releaseProcessPort(port: number): void {
  given.delete(port);
}

async function pump(from: Deno.TcpConn, to: Deno.TcpConn, count: (bytes: number) => void) {
  const buffer = new Uint8Array(32 * 1024);
  try {
    for (let read; (read = await from.read(buffer)) !== null;) {
      count(read);
      for (let written = 0; written < read;) {
        written += await to.write(buffer.subarray(written, read));
      }
    }
    await to.closeWrite();
  } catch {
    // A side that hangs up ends the connection for both.
    for (const connection of [from, to]) {
      try {
        connection.close();
      } catch { /* closed already */ }
    }
  }
}

/** A published port: a listener on the host that hands each connection to the next backend. */
export class PublishedPort {
  readonly port: number;
  readonly #listener: Deno.TcpListener;
  readonly #backends: () => Backend[];
  #turn = 0;
  #connections = new Set<Deno.TcpConn>();

  private constructor(listener: Deno.TcpListener, backends: () => Backend[]) {
    this.#listener = listener;
    this.port = listener.addr.port;
    this.#backends = backends;
    this.#accept();
  }

  /**
   * @param wanted the port, or 0 for the first free one from `from` upward
   * @throws PortTaken
   */
  static open(wanted: number, from: number, backends: () => Backend[]): PublishedPort {
    for (let port = wanted || from; port < 65536; port++) {
      try {
        return new PublishedPort(Deno.listen({ hostname: HOST, port }), backends);
      } catch (error) {
        const taken = error instanceof Deno.errors.AddrInUse ||
          error instanceof Deno.errors.PermissionDenied;
        if (!taken) throw error;
        if (wanted) throw new PortTaken(wanted);
      }
    }
    throw new PortTaken(wanted || from);
  }

  async #accept(): Promise<void> {
    try {
      for await (const connection of this.#listener) this.#forward(connection);
    } catch { /* closed */ }
  }

  async #forward(client: Deno.TcpConn): Promise<void> {
    const backends = this.#backends();
    this.#connections.add(client);
    try {
      for (let attempt = 0; attempt < backends.length; attempt++) {
        const { port, traffic } = backends[this.#turn++ % backends.length]!;
        let server: Deno.TcpConn;
        try {
          server = await Deno.connect({ hostname: HOST, port });
        } catch {
          continue;
        }
        await Promise.all([
          pump(client, server, (bytes) => {
            traffic.rxBytes += bytes;
            traffic.rxPackets++;
          }),
          pump(server, client, (bytes) => {
            traffic.txBytes += bytes;
            traffic.txPackets++;
          }),
        ]);
        try {
          server.close();
        } catch { /* closed already */ }
        return;
      }
    } finally {
      this.#connections.delete(client);
      try {
        client.close();
      } catch { /* closed already */ }
    }
  }

  close(): void {
    this.#listener.close();
    for (const connection of this.#connections) {
      try {
        connection.close();
      } catch { /* closed already */ }
    }
  }
}
