import { z } from "zod";
import { createFrameReader } from "../log-lines.ts";
import {
  type ExaminationRequest,
  parseTrivyReport,
  type Vulnerability,
  type VulnerabilityReport,
} from "../posture.ts";
import type { PortainerApi } from "./api.ts";

/** A report beyond this is refused. */
const MOST_REPORT_BYTES = 32 * 1024 * 1024;
/** The first scan of an engine fetches the scanner's database. */
const SCAN_TIMEOUT_MS = 80_000;
const MEMORY_BYTES = 1024 ** 3;
/** Answers of engines, and of credentials, that do not let us. */
const NOT_OFFERED = [400, 403, 404, 405, 501];

/** All attempts at a scan take less. */
const ABANDONED_AFTER_MS = 15 * 60_000;
const LABEL = "agent-launchpad.scan";

const created = z.object({ Id: z.string() });
const inspected = z.object({ State: z.object({ Status: z.string() }) });
const waited = z.object({ StatusCode: z.number() });
const scanners = z.array(z.object({ Id: z.string(), Created: z.number() }));
const images = z.array(z.object({ RepoTags: z.array(z.string()).nullish() }));

/**
 * Scans images on the engine that holds them, by a container of Trivy (or of any scanner that takes its words). Only an
 * image that is on the engine already is run: whoever put it there let a scanner read the engine's images, for which it
 * gets the engine's socket. None is ever pulled for that.
 */
export async function scanImages(
  api: PortainerApi,
  scanned: string[],
  request: ExaminationRequest,
  signal: AbortSignal,
): Promise<VulnerabilityReport> {
  if (scanned.length === 0) {
    return unavailable("There is no container whose image could be scanned.");
  }
  const scanner = await findScanner(api, request.scannerImage, signal);
  if (scanner === null) {
    return unavailable(`The engine has no image of a scanner (${request.scannerImage}).`);
  }
  await removeAbandoned(api, signal);
  const vulnerabilities: Vulnerability[] = [];
  for (const [index, image] of scanned.entries()) {
    const report = await runScanner(api, scanner, image, `${request.id}-${index}`, signal);
    if (!Array.isArray(report)) return unavailable(report.reason);
    vulnerabilities.push(...report);
  }
  return { available: true, scanner, vulnerabilities };
}

const unavailable = (reason: string): VulnerabilityReport => ({ available: false, reason });

async function findScanner(
  api: PortainerApi,
  repository: string,
  signal: AbortSignal,
): Promise<string | null> {
  const { data } = await api.docker.json(
    {
      path: "/images/json",
      query: { filters: JSON.stringify({ reference: [repository] }) },
      accept: NOT_OFFERED,
    },
    images,
    signal,
  );
  return data?.flatMap(({ RepoTags }) => RepoTags ?? [])
    .find((tag) => tag.startsWith(`${repository}:`)) ?? null;
}

/** Scanners of scans that were given up, or whose worker was killed before it had removed them. */
async function removeAbandoned(api: PortainerApi, signal: AbortSignal): Promise<void> {
  const { data } = await api.docker.json(
    { path: "/containers/json", query: { all: true, filters: JSON.stringify({ label: [LABEL] }) } },
    scanners,
    signal,
  );
  const before = (Date.now() - ABANDONED_AFTER_MS) / 1000;
  for (const { Id, Created } of data ?? []) {
    if (Created < before) await removeContainer(api, `/containers/${Id}`, signal);
  }
}

async function removeContainer(
  api: PortainerApi,
  path: string,
  signal: AbortSignal,
): Promise<void> {
  await api.docker.send(
    { method: "DELETE", path, query: { force: true, v: true }, accept: [404, 409] },
    signal,
  );
}

/** One image's report, or why there is none. A scan that an earlier attempt began is waited for, not repeated. */
async function runScanner(
  api: PortainerApi,
  scanner: string,
  image: string,
  id: string,
  signal: AbortSignal,
): Promise<Vulnerability[] | { reason: string }> {
  const name = `agent-launchpad-scan-${id}`;
  const made = await api.docker.json(
    {
      method: "POST",
      path: "/containers/create",
      query: { name },
      body: {
        Image: scanner,
        Cmd: ["image", "--quiet", "--format", "json", "--scanners", "vuln", "--", image],
        Labels: { [LABEL]: id },
        HostConfig: {
          Binds: [
            "/var/run/docker.sock:/var/run/docker.sock:ro",
            // Its databases alone: what it keeps of images beside them is for one scan at a time, and several may run.
            "agent-launchpad-scanner-db:/root/.cache/trivy/db",
            "agent-launchpad-scanner-java-db:/root/.cache/trivy/java-db",
          ],
          CapDrop: ["ALL"],
          SecurityOpt: ["no-new-privileges"],
          Memory: MEMORY_BYTES,
        },
      },
      accept: [...NOT_OFFERED, 409],
    },
    created,
    signal,
  );
  if (made.data === null && made.status !== 409) {
    return { reason: "The engine refused the scanner's container." };
  }
  const path = `/containers/${encodeURIComponent(name)}`;
  // One that has ended would write a second report behind its first.
  if (made.data !== null || await isUnstarted(api, path, signal)) {
    // 304: it was started by now.
    await api.docker.send({ method: "POST", path: `${path}/start`, accept: [304] }, signal);
  }
  const { data: ended } = await api.docker.json(
    { method: "POST", path: `${path}/wait`, timeoutMs: SCAN_TIMEOUT_MS },
    waited,
    signal,
  );
  const code = ended?.StatusCode;
  const report = code === 0 ? await readReport(api, path, signal) : {
    // Its words are not passed on; this is what it fails at as a rule.
    reason:
      `The scanner ended with code ${code} and gave no report; it may not reach its vulnerability database.`,
  };
  await removeContainer(api, path, signal);
  return report;
}

async function isUnstarted(
  api: PortainerApi,
  path: string,
  signal: AbortSignal,
): Promise<boolean> {
  const { data } = await api.docker.json({ path: `${path}/json` }, inspected, signal);
  return data?.State.Status === "created";
}

async function readReport(
  api: PortainerApi,
  path: string,
  signal: AbortSignal,
): Promise<Vulnerability[] | { reason: string }> {
  const decoder = new TextDecoder();
  let text = "";
  let size = 0;
  const read = createFrameReader((stream, payload) => {
    if (stream === "stdout") text += decoder.decode(payload, { stream: true });
  });
  await api.docker.stream(
    { path: `${path}/logs`, query: { stdout: true, stderr: false } },
    (chunk) => {
      size += chunk.length;
      read(chunk);
      return size <= MOST_REPORT_BYTES;
    },
    signal,
  );
  if (size > MOST_REPORT_BYTES) return { reason: "The scanner's report is too large." };
  return parseTrivyReport(text) ?? { reason: "The scanner gave no report that can be read." };
}
