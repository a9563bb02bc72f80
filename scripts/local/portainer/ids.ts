/** 64 hexadecimal digits, as containers, images and networks have them. */
export function hexId(): string {
  return [...crypto.getRandomValues(new Uint8Array(32))]
    .map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** 25 characters of base 36, as everything in a Swarm has them. */
export function swarmId(): string {
  let id = "";
  while (id.length < 25) {
    for (const byte of crypto.getRandomValues(new Uint8Array(32))) {
      // Bytes from 252 on would favour the first letters.
      if (byte < 252 && id.length < 25) id += (byte % 36).toString(36);
    }
  }
  return id;
}

/** Hexadecimal SHA-256 of a text. */
export async function digest(text: string): Promise<string> {
  const hash = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
  return [...new Uint8Array(hash)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
