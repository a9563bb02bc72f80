import type { ContainerPosture, Examination, Vulnerability } from "../../orchestrators/posture.ts";

type Severity = "LOW" | "MEDIUM" | "HIGH" | "CRITICAL";

/** Something about the containers that should not be so. */
export interface Finding {
  check: string;
  severity: Severity;
  /** Names of the containers; all have it. */
  containers: string[];
  message: string;
  recommendation: string;
}

/** What a scan found, as `private.complete_security_scan` keeps it. */
export interface Assessment {
  containers_examined: number;
  images: string[];
  findings: Finding[];
  /** Null when nobody scanned the images. */
  vulnerabilities: { critical: number; high: number; medium: number; low: number } | null;
  scanner: string | null;
  unavailable_reason: string | null;
  recommendations: string[];
}

interface Check {
  check: string;
  severity: Severity;
  /** What is wrong with a container; empty: nothing. */
  look(container: ContainerPosture): string[];
  message: string;
  recommendation: string;
}

const MIGHTY = ["ALL", "SYS_ADMIN", "SYS_MODULE", "SYS_PTRACE", "SYS_RAWIO", "NET_ADMIN", "BPF"];
const ENGINE_SOCKET = /\/(?:docker|containerd|crio|podman)(?:\/\w+)?\.sock$/;

const CHECKS: readonly Check[] = [
  {
    check: "privileged",
    severity: "CRITICAL",
    look: ({ privileged }) => privileged ? ["privileged"] : [],
    message: "The container is privileged: it has the host's devices and all capabilities",
    recommendation: "Run it without privileged mode",
  },
  {
    check: "engine_socket",
    severity: "CRITICAL",
    look: ({ hostMounts }) => hostMounts.filter((path) => ENGINE_SOCKET.test(path)),
    message: "The container can command the engine that runs it",
    recommendation: "Take the engine's socket out of its mounts",
  },
  {
    check: "mighty_capabilities",
    severity: "HIGH",
    look: ({ capabilities }) => capabilities.filter((name) => MIGHTY.includes(name)),
    message: "The container has capabilities that amount to the host's root",
    recommendation: "Take these capabilities away",
  },
  {
    check: "host_mounts",
    severity: "HIGH",
    look: ({ hostMounts }) => hostMounts.filter((path) => !ENGINE_SOCKET.test(path)),
    message: "The container reaches files of the host",
    recommendation: "Use a volume instead of the host's paths",
  },
  {
    check: "host_namespaces",
    severity: "HIGH",
    look: ({ hostNamespaces }) => hostNamespaces,
    message: "The container shares namespaces with the host",
    recommendation: "Give it namespaces of its own",
  },
  {
    check: "added_capabilities",
    severity: "MEDIUM",
    look: ({ capabilities }) => capabilities.filter((name) => !MIGHTY.includes(name)),
    message: "The container has capabilities beyond the engine's own set",
    recommendation: "Take away those that it does not need",
  },
  {
    check: "root_user",
    severity: "MEDIUM",
    look: ({ root }) => root ? ["root"] : [],
    message: "The container may run as root",
    recommendation: "Set a user other than root in the image",
  },
  {
    check: "plain_secrets",
    severity: "MEDIUM",
    look: ({ plainSecrets }) => plainSecrets,
    message: "Secrets stand in the container's definition, where all who may inspect it read them",
    recommendation: "Hand them over as secrets or files",
  },
  {
    check: "no_memory_limit",
    severity: "MEDIUM",
    look: ({ memoryLimited }) => memoryLimited === false ? ["memory"] : [],
    message: "The container may use all memory of its node",
    recommendation: "Set resources.memory",
  },
  {
    check: "no_cpu_limit",
    severity: "LOW",
    look: ({ cpuLimited }) => cpuLimited === false ? ["cpu"] : [],
    message: "The container may use all CPUs of its node",
    recommendation: "Set resources.cpu",
  },
  {
    check: "mutable_tag",
    severity: "LOW",
    look: ({ image }) => isMutable(image) ? [image] : [],
    message: "The image's tag can come to mean another image",
    recommendation: "Name the image by version or digest",
  },
];

/** Whether an image is named by neither tag nor digest, or by a tag that is meant to move. */
export function isMutable(image: string): boolean {
  if (image === "") return false;
  const [name, digest] = image.split("@");
  const tag = /:([^:/]+)$/.exec(name!)?.[1];
  if (tag === undefined) return digest === undefined;
  return (
    /^(?:latest|main|master|develop|dev|edge|nightly|stable|canary)$/i.test(tag)
  );
}

/** The name as it was asked for: a Swarm adds the digest that it stood for. */
function askedFor(image: string): string {
  const [name, digest] = image.split("@");
  return digest !== undefined && /:[^:/]+$/.test(name!) ? name! : image;
}

/** Vulnerabilities that a recommendation names, the worst ones first. */
const MOST_NAMED = 10;
/** Names that a finding lists before it counts the rest. */
const MOST_LISTED = 10;

/** Judges what was examined: one finding per check, with all containers that have it. */
export function assess({ containers, vulnerabilities: report }: Examination): Assessment {
  const findings = CHECKS.flatMap((check): Finding[] => {
    const having = containers.filter((container) => check.look(container).length > 0);
    if (having.length === 0) return [];
    const what = [...new Set(having.flatMap(check.look))];
    const named = ["privileged", "root_user", "no_memory_limit", "no_cpu_limit"].includes(
      check.check,
    );
    const listed = named ? "" : ` (${listing(what)})`;
    const names = having.map(({ name }) => name);
    return [{
      check: check.check,
      severity: check.severity,
      containers: names,
      message: check.message + listed,
      recommendation: `${check.check}: ${check.recommendation}${listed} in ${listing(names)}`,
    }];
  });
  const known = report.available ? unique(report.vulnerabilities) : null;
  const count = (severity: string) => known!.filter((one) => one.severity === severity).length;
  return {
    containers_examined: containers.length,
    images: [...new Set(containers.map(({ image }) => askedFor(image)))],
    findings,
    vulnerabilities: known === null ? null : {
      critical: count("critical"),
      high: count("high"),
      medium: count("medium"),
      // What a scanner cannot rate still counts.
      low: count("low") + count("unknown"),
    },
    scanner: report.available ? report.scanner : null,
    unavailable_reason: report.available ? null : report.reason,
    recommendations: [
      ...findings.map(({ recommendation }) => recommendation),
      ...(known === null ? [] : recommendUpdates(known)),
    ],
  };
}

/** Replicas have the same image, and an image can hold a package twice. */
function unique(all: Vulnerability[]): Vulnerability[] {
  return [
    ...new Map(all.map((one) => [`${one.id} ${one.package} ${one.installed}`, one])).values(),
  ];
}

function recommendUpdates(known: Vulnerability[]): string[] {
  const grave = (["critical", "high"] as const)
    .flatMap((severity) => known.filter((one) => one.severity === severity));
  return grave.slice(0, MOST_NAMED).map(({ id, severity, package: name, installed, fixed }) =>
    fixed === null
      ? `${id} (${severity}): ${name} ${installed} has no fix yet; leave the package out if you can`
      : `${id} (${severity}): update ${name} from ${installed} to ${fixed}`
  );
}

function listing(names: string[]): string {
  const rest = names.length - MOST_LISTED;
  return names.slice(0, MOST_LISTED).join(", ") + (rest > 0 ? ` and ${rest} more` : "");
}
