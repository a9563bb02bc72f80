/**
 * The body of a request or an answer, at most `limit` bytes of it: whoever sends is not trusted with our memory.
 *
 * @returns what was read, and whether more would have come; the rest is not read then
 */
export async function readBounded(
  body: AsyncIterable<Uint8Array> | null,
  limit: number,
): Promise<{ bytes: Uint8Array<ArrayBuffer>; truncated: boolean }> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  let truncated = false;
  for await (const chunk of body ?? []) {
    truncated = size + chunk.length > limit;
    if (truncated) break;
    chunks.push(chunk);
    size += chunk.length;
  }
  const bytes = new Uint8Array(size);
  let offset = 0;
  for (const chunk of chunks) {
    bytes.set(chunk, offset);
    offset += chunk.length;
  }
  return { bytes, truncated };
}
