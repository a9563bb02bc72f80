import { z } from "zod";
import { readBounded } from "../http/read-bounded.ts";

export interface StorageApiOptions {
  /** `https://<ref>.supabase.co` */
  projectUrl: string;
  /** The project's secret key: no policy stands in its way. */
  secretKey: string;
  /** Longest that one request may take, in milliseconds. */
  timeoutMs?: number;
  fetch?: typeof fetch;
}

/** The little of Supabase Storage's API that is called from here. */
export interface StorageApi {
  /** Names of at most `limit` objects that begin with `prefix`; none when there is no such bucket. */
  list(bucket: string, prefix: string, limit: number): Promise<string[]>;
  /** Removes objects and their files. @returns the names of those that were there */
  remove(bucket: string, names: string[]): Promise<string[]>;
}

/** Storage is away, refuses, or says what it should not. Its words are not passed on. */
export class StorageApiError extends Error {
  override readonly name = "StorageApiError";
}

const TIMEOUT_MS = 20_000;
const MOST_BYTES = 8 * 1024 * 1024;

const listed = z.object({ objects: z.array(z.object({ name: z.string() })) });
const removed = z.array(z.object({ name: z.string() }));

/** @throws {StorageApiError} from each of its methods */
export function createStorageApi(options: StorageApiOptions): StorageApi {
  const { projectUrl, secretKey } = options;
  const send = options.fetch ?? fetch;

  async function call<Shape extends z.ZodType>(
    method: "POST" | "DELETE",
    path: string,
    body: object,
    shape: Shape,
  ): Promise<z.infer<Shape>> {
    let text: string;
    try {
      const response = await send(`${projectUrl}/storage/v1/object/${path}`, {
        method,
        headers: {
          apikey: secretKey,
          authorization: `Bearer ${secretKey}`,
          "content-type": "application/json",
        },
        body: JSON.stringify(body),
        signal: AbortSignal.timeout(options.timeoutMs ?? TIMEOUT_MS),
      });
      if (!response.ok) {
        await response.body?.cancel();
        throw new StorageApiError(`Storage answered ${response.status}`);
      }
      const { bytes, truncated } = await readBounded(response.body, MOST_BYTES);
      if (truncated) throw new StorageApiError("Storage gave too large an answer");
      text = new TextDecoder().decode(bytes);
    } catch (error) {
      if (error instanceof StorageApiError) throw error;
      const late = error instanceof Error && error.name === "TimeoutError";
      throw new StorageApiError(late ? "Storage did not answer in time" : "Storage is away");
    }
    const answer = shape.safeParse(parsed(text));
    if (!answer.success) throw new StorageApiError("Storage gave an unexpected answer");
    return answer.data;
  }

  const namesOf = (objects: { name: string }[]) => objects.map(({ name }) => name);
  return {
    async list(bucket, prefix, limit) {
      const path = `list-v2/${encodeURIComponent(bucket)}`;
      return namesOf((await call("POST", path, { prefix, limit }, listed)).objects);
    },
    async remove(bucket, names) {
      const path = encodeURIComponent(bucket);
      return namesOf(await call("DELETE", path, { prefixes: names }, removed));
    },
  };
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
