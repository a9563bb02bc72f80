import { ApiError, validationError } from "../contract/errors.ts";
import { readBounded } from "./read-bounded.ts";

function tooLarge(maxBytes: number): ApiError {
  return new ApiError("PAYLOAD_TOO_LARGE", `The body is larger than ${maxBytes} bytes`, {
    details: { max_bytes: maxBytes },
  });
}

/**
 * Reads a body of at most `maxBytes`, also when its length was not declared or declared wrongly.
 * @throws ApiError PAYLOAD_TOO_LARGE 413
 */
export async function readBody(
  request: Request,
  maxBytes: number,
): Promise<Uint8Array<ArrayBuffer>> {
  const declared = Number(request.headers.get("content-length") ?? "0");
  if (declared > maxBytes) {
    await request.body?.cancel();
    throw tooLarge(maxBytes);
  }
  const { bytes, truncated } = await readBounded(request.body, maxBytes);
  if (truncated) throw tooLarge(maxBytes);
  return bytes;
}

/** Deeper than any real document, far shallower than what overflows a recursive reader's stack. */
const MAX_DEPTH = 100;

function tooDeep(json: string): boolean {
  let depth = 0;
  let quoted = false;
  for (let index = 0; index < json.length; index++) {
    const char = json[index];
    if (quoted) {
      if (char === "\\") index++;
      else if (char === '"') quoted = false;
    } else if (char === '"') {
      quoted = true;
    } else if (char === "{" || char === "[") {
      if (++depth > MAX_DEPTH) return true;
    } else if (char === "}" || char === "]") {
      depth--;
    }
  }
  return false;
}

/**
 * Reads a body as JSON. No body at all is `{}`: seeds 001 and 002 send none with a restart.
 * @throws ApiError VALIDATION_ERROR 400 for what is not JSON, UNSUPPORTED_MEDIA_TYPE 415 for what
 * does not claim to be
 */
export function parseJson(body: Uint8Array, contentType: string | null): unknown {
  if (body.length === 0) return {};
  const type = (contentType ?? "").split(";")[0]!.trim().toLowerCase();
  // `fetch` calls every string text/plain, so what claims no more than that is read as well.
  if (!/^(application\/json|[^/]+\/[^/]+\+json|text\/plain|)$/.test(type)) {
    throw new ApiError("UNSUPPORTED_MEDIA_TYPE", "Send the body as application/json");
  }
  const text = decode(body);
  if (text !== null && tooDeep(text)) {
    throw validationError({ body: `must not be nested deeper than ${MAX_DEPTH} levels` });
  }
  try {
    if (text !== null) return text.trim() === "" ? {} : JSON.parse(text);
  } catch {
    // The parser's words would quote the body, and bodies hold secrets.
  }
  throw validationError({ body: "must be valid JSON in UTF-8" });
}

function decode(body: Uint8Array): string | null {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(body);
  } catch {
    return null;
  }
}
