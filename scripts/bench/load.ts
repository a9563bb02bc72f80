/**
 * Sends one request again and again over kept-open connections and counts the answers. It writes
 * prepared bytes and reads no more of an answer than its status and length: `fetch` would take a
 * good part of the processor time that the servers are measured by.
 */

export interface LoadRequest {
  path: string;
  token: string;
}

/**
 * @param requests what the connections send, in turn; each connection sends one of them only
 * @param inFlight connections, each with one request at a time
 * @returns answers per second
 * @throws Error when an answer is not 200
 */
export async function load(
  port: number,
  requests: readonly LoadRequest[],
  inFlight: number,
  milliseconds: number,
): Promise<number> {
  const began = performance.now();
  const until = began + milliseconds;
  const counts = await Promise.all(
    Array.from({ length: inFlight }, (_, index) => {
      const { path, token } = requests[index % requests.length]!;
      const head =
        `GET ${path} HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nAuthorization: Bearer ${token}`;
      return repeat(port, new TextEncoder().encode(`${head}\r\n\r\n`), until);
    }),
  );
  const seconds = (performance.now() - began) / 1000;
  return counts.reduce((sum, count) => sum + count, 0) / seconds;
}

async function repeat(port: number, request: Uint8Array, until: number): Promise<number> {
  using connection = await Deno.connect({ hostname: "127.0.0.1", port });
  connection.setNoDelay(true);
  const buffer = new Uint8Array(65_536);
  let count = 0;
  while (performance.now() < until) {
    for (let at = 0; at < request.length;) at += await connection.write(request.subarray(at));
    await readAnswer(connection, buffer);
    count += 1;
  }
  return count;
}

const decoder = new TextDecoder();

async function readAnswer(connection: Deno.Conn, buffer: Uint8Array): Promise<void> {
  let head = "";
  let end = -1;
  let received = 0;
  while (end < 0) {
    const length = await connection.read(buffer);
    if (length === null) throw new Error("The server closed the connection");
    // Headers are ASCII, so one character is one byte of them.
    head += decoder.decode(buffer.subarray(0, length));
    received += length;
    end = head.indexOf("\r\n\r\n");
  }
  if (!head.startsWith("HTTP/1.1 200 ")) throw new Error(`The server answered ${head}`);
  const [, length] = /\r\ncontent-length: (\d+)/i.exec(head.slice(0, end)) ?? [];
  if (length === undefined) throw new Error("The answer does not say its length");
  for (let missing = end + 4 + Number(length) - received; missing > 0;) {
    const more = await connection.read(buffer.subarray(0, Math.min(missing, buffer.length)));
    if (more === null) throw new Error("The server closed the connection");
    missing -= more;
  }
}
