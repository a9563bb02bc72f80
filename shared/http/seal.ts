/**
 * Sealing of answers that show a secret once: what is kept for a replay is AES-256-GCM under a key
 * derived from a secret of the function's environment, so that a copy of the database does not
 * hold it.
 */
const encoder = new TextEncoder();

async function keyFrom(secret: string): Promise<CryptoKey> {
  const material = await crypto.subtle.importKey("raw", encoder.encode(secret), "HKDF", false, [
    "deriveKey",
  ]);
  return crypto.subtle.deriveKey(
    {
      name: "HKDF",
      hash: "SHA-256",
      salt: new Uint8Array(),
      info: encoder.encode("agent-launchpad idempotent answer"),
    },
    material,
    { name: "AES-GCM", length: 256 },
    false,
    ["encrypt", "decrypt"],
  );
}

const toBase64 = (bytes: Uint8Array) => btoa(String.fromCharCode(...bytes));
const fromBase64 = (text: string) => Uint8Array.from(atob(text), (char) => char.charCodeAt(0));

/** Seals a text; each call gives another result. */
export async function seal(secret: string, text: string): Promise<string> {
  const iv = crypto.getRandomValues(new Uint8Array(12));
  const key = await keyFrom(secret);
  const sealed = await crypto.subtle.encrypt({ name: "AES-GCM", iv }, key, encoder.encode(text));
  return `${toBase64(iv)}.${toBase64(new Uint8Array(sealed))}`;
}

/** Opens what `seal` made; null when it was sealed with another secret or changed since. */
export async function unseal(secret: string, sealed: string): Promise<string | null> {
  try {
    const [iv, data] = sealed.split(".").map(fromBase64);
    const key = await keyFrom(secret);
    const opened = await crypto.subtle.decrypt({ name: "AES-GCM", iv: iv! }, key, data!);
    return new TextDecoder().decode(opened);
  } catch {
    return null;
  }
}
