import { readFileSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { describe, it } from "vitest";
import { parse } from "yaml";
import { describeContract } from "./contract.ts";
import { openKubernetesRig } from "./kubernetes-rig.ts";
import type { Rig } from "./rig.ts";
import { describeStrategies } from "./strategies.ts";

// A cluster of one's own: KUBECONFIG; KUBERNETES_NAMESPACE (default); KUBERNETES_IMAGE, which its nodes can pull;
// KUBERNETES_LACKS, comma-separated, for what simulated nodes cannot show.
const file = process.env["KUBECONFIG"];

interface Named<T> {
  name: string;
  value: T;
}

interface Kubeconfig {
  "current-context": string;
  contexts: { name: string; context: { cluster: string; user: string } }[];
  clusters: { name: string; cluster: Record<string, string> }[];
  users: { name: string; user: Record<string, string> }[];
}

function byName<T>(entries: Named<T>[], name: string): T {
  const found = entries.find((entry) => entry.name === name);
  if (!found) throw new Error(`KUBECONFIG has no entry ${name}`);
  return found.value;
}

function readKubeconfig(path: string) {
  const config = parse(readFileSync(path, "utf8")) as Kubeconfig;
  const context = byName(
    config.contexts.map(({ name, context }) => ({ name, value: context })),
    config["current-context"],
  );
  const cluster = byName(
    config.clusters.map(({ name, cluster }) => ({ name, value: cluster })),
    context.cluster,
  );
  const user = byName(config.users.map(({ name, user }) => ({ name, value: user })), context.user);
  const pem = (of: Record<string, string>, key: string): string | undefined => {
    const data = of[`${key}-data`];
    if (data) return Buffer.from(data, "base64").toString();
    return of[key] ? readFileSync(resolve(dirname(path), of[key]), "utf8") : undefined;
  };
  return {
    url: cluster["server"]!,
    ca: pem(cluster, "certificate-authority"),
    credential: JSON.stringify({
      token: user["token"],
      clientCertificate: pem(user, "client-certificate"),
      clientKey: pem(user, "client-key"),
    }),
  };
}

if (file) {
  const open = () => {
    const { url, ca, credential } = readKubeconfig(file);
    return Promise.resolve(openKubernetesRig({
      url,
      credential,
      ...(ca ? { ca } : {}),
      namespace: process.env["KUBERNETES_NAMESPACE"] ?? "default",
      image: process.env["KUBERNETES_IMAGE"] ?? "agent-launchpad/demo-agent:latest",
      lacks: new Set((process.env["KUBERNETES_LACKS"] ?? "").split(",")) as Rig["lacks"],
    }));
  };
  describeContract("Kubernetes at KUBECONFIG", open);
  describeStrategies("Kubernetes at KUBECONFIG", open);
} else {
  describe("Kubernetes at KUBECONFIG", () => {
    it.skip("needs KUBECONFIG", () => {});
  });
}
