import { OrchestratorError } from "../errors.ts";
import { failureError, recogniseReason } from "../failures.ts";
import type { PortainerApi } from "./api.ts";

/** The end of the progress report, where a failure stands. */
const TAIL_CHARACTERS = 4096;

/**
 * Pulls the image before the stack is created. Portainer's create blocks through the pull and shows nothing of itself
 * until it is over; done first, a time-out happens where it is harmless and may simply be repeated.
 *
 * Refusals that are not plainly about the image are left to the create, which decides.
 */
export async function ensureImage(
  api: PortainerApi,
  image: string,
  registryId: number | undefined,
  signal: AbortSignal,
): Promise<void> {
  const present = await api.docker.send(
    {
      path: `/images/${image.split("/").map(encodeURIComponent).join("/")}/json`,
      accept: [400, 404, 500, 501],
    },
    signal,
  );
  if (present.status === 200) return;
  const { name, tag } = splitImage(image);
  const decoder = new TextDecoder();
  let tail = "";
  try {
    const { status } = await api.docker.stream(
      {
        method: "POST",
        path: "/images/create",
        // Without a tag Docker pulls every one of them.
        query: { fromImage: name, tag },
        headers: registryId === undefined
          ? {}
          : { "x-registry-auth": btoa(JSON.stringify({ registryId })) },
        timeoutMs: api.deployTimeoutMs,
        accept: [400, 405, 501],
      },
      (chunk) => {
        tail = (tail + decoder.decode(chunk, { stream: true })).slice(-TAIL_CHARACTERS);
        return true;
      },
      signal,
    );
    if (status !== 200) return;
  } catch (error) {
    if (!(error instanceof OrchestratorError)) throw error;
    const { reason } = error.details;
    if (reason === "timeout" || reason === "aborted") {
      throw new OrchestratorError("UPSTREAM_UNAVAILABLE", "Pulling the image takes long.", {
        retryAfterSeconds: 5,
        details: { reason: reason === "aborted" ? reason : "image_pull" },
        cause: error.cause,
      });
    }
    if (reason === "image_not_found" || reason === "registry_unreachable") throw error;
    return;
  }
  if (!tail.includes('"error"')) return;
  const reason = recogniseReason(tail);
  if (reason === "image_not_found" || reason === "registry_unreachable") throw failureError(reason);
}

/** `host:5000/name@sha256:…`, `name:tag`, `name` → what `/images/create` takes. */
export function splitImage(image: string): { name: string; tag: string } {
  const at = image.indexOf("@");
  if (at !== -1) return { name: image.slice(0, at), tag: image.slice(at + 1) };
  const colon = image.lastIndexOf(":");
  if (colon > image.lastIndexOf("/")) {
    return { name: image.slice(0, colon), tag: image.slice(colon + 1) };
  }
  return { name: image, tag: "latest" };
}
