import { createFrameReader, createLineCollector } from "../log-lines.ts";
import { toNanoseconds, toUnixSeconds } from "../timestamps.ts";
import type { LogOptions, LogPage } from "../types.ts";
import type { PortainerApi } from "./api.ts";
import { nodeHeader } from "./containers.ts";
import type { LocatedContainer } from "./engine.ts";

/** Reads a container's log from its beginning, from `since` or the last `tail` lines, and stops at the limit. */
export async function readDockerLogs(
  api: PortainerApi,
  container: LocatedContainer,
  options: LogOptions,
  signal: AbortSignal,
): Promise<LogPage> {
  const after = options.since === undefined ? null : toNanoseconds(options.since);
  const collector = createLineCollector({ after, limitBytes: options.limitBytes });
  let wanted = true;
  const frames = createFrameReader((stream, payload) => {
    wanted = wanted && collector.push(stream, payload);
  });
  await api.docker.stream(
    {
      path: `/containers/${encodeURIComponent(container.id)}/logs`,
      query: {
        stdout: 1,
        stderr: 1,
        timestamps: 1,
        since: after === null ? undefined : toUnixSeconds(after),
        tail: options.tail,
      },
      headers: { accept: "*/*", ...nodeHeader(container.node) },
      // A container without a log driver that can be read answers 501; a vanished one 404.
      accept: [404, 409, 501],
    },
    (chunk) => {
      // With a terminal there are no frames and no telling stdout from stderr.
      if (container.tty) wanted = collector.push("stdout", chunk);
      else frames(chunk);
      return wanted;
    },
    signal,
  );
  return collector.finish();
}
