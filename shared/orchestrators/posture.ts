import { z } from "zod";

/** How a container was set up, as far as that bears on security. Null and empty are what the cluster does not tell. */
export interface ContainerPosture {
  id: string;
  name: string;
  image: string;
  /** Runs as root, or as whoever the image says where nothing forbids root. */
  root: boolean | null;
  privileged: boolean | null;
  /** Added beyond the engine's own set, without `CAP_`. */
  capabilities: string[];
  memoryLimited: boolean | null;
  cpuLimited: boolean | null;
  /** Paths of the host. */
  hostMounts: string[];
  /** `network`, `pid`, `ipc`. */
  hostNamespaces: string[];
  /** Names, never values, of variables that look like secrets and stand in the container's definition. */
  plainSecrets: string[];
}

export type VulnerabilitySeverity = "critical" | "high" | "medium" | "low" | "unknown";

export interface Vulnerability {
  id: string;
  severity: VulnerabilitySeverity;
  package: string;
  installed: string;
  /** Null when there is no fix yet. */
  fixed: string | null;
}

/** What is known of the images. Unavailable is not the same as none. */
export type VulnerabilityReport =
  | { available: true; scanner: string; vulnerabilities: Vulnerability[] }
  | { available: false; reason: string };

export interface Examination {
  containers: ContainerPosture[];
  vulnerabilities: VulnerabilityReport;
}

/** Names the request, so that a scan that was interrupted is taken up again and not begun twice. */
export interface ExaminationRequest {
  id: string;
  /** Repository of the scanner's image on Docker engines; only one that is there is used. */
  scannerImage: string;
}

const SECRET_NAME =
  /(?:^|_)(?:TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIALS?|(?:API|PRIVATE|SECRET|ACCESS|SERVICE_ROLE|ENCRYPTION)_?KEY|DATABASE_URL|DSN)(?:_|$)/i;

/** Whether a variable's name says that its value is a secret; `…_FILE` names a place and not the secret. */
export function looksSecret(name: string): boolean {
  return SECRET_NAME.test(name) && !/_(?:FILE|PATH|NAME)$/i.test(name);
}

const SEVERITIES = ["critical", "high", "medium", "low"] as const;

export function toSeverity(word: string | null | undefined): VulnerabilitySeverity {
  const lower = (word ?? "").toLowerCase();
  return SEVERITIES.find((severity) => severity === lower) ?? "unknown";
}

const trivy = z.object({
  Results: z.array(z.object({
    Vulnerabilities: z.array(z.object({
      VulnerabilityID: z.string(),
      PkgName: z.string().default(""),
      InstalledVersion: z.string().default(""),
      FixedVersion: z.string().nullish(),
      Severity: z.string().nullish(),
    })).nullish(),
  })).nullish(),
  SchemaVersion: z.number(),
});

/** Reads a report in Trivy's JSON format, whichever scanner wrote it; null when it is none. */
export function parseTrivyReport(text: string): Vulnerability[] | null {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return null;
  }
  const { data } = trivy.safeParse(value);
  if (data === undefined) return null;
  return (data.Results ?? []).flatMap((result) =>
    (result.Vulnerabilities ?? []).map((one) => ({
      id: one.VulnerabilityID,
      severity: toSeverity(one.Severity),
      package: one.PkgName,
      installed: one.InstalledVersion,
      fixed: one.FixedVersion || null,
    }))
  );
}
