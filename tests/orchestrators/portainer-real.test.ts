import { describe, it } from "vitest";
import { describeContract } from "./contract.ts";
import { openKubernetesRig } from "./kubernetes-rig.ts";
import { openPortainerRig } from "./portainer-rig.ts";
import type { Rig } from "./rig.ts";
import { describeStrategies } from "./strategies.ts";

// A Portainer of one's own: PORTAINER_URL, PORTAINER_API_KEY, and PORTAINER_ENDPOINTS with the numbers of the Docker
// environments to try (1), PORTAINER_KUBERNETES_ENDPOINTS with those of Kubernetes. PORTAINER_IMAGE names an image that
// its engines have; PORTAINER_PUBLISH_MODE is `host` for a Swarm whose kernel lacks IPVS.
const { env } = process;
const { PORTAINER_URL: url, PORTAINER_API_KEY: apiKey } = env;

function numbers(text: string): number[] {
  return text.split(",").filter((part) => part !== "").map(Number);
}

function describeBoth(title: string, open: () => Promise<Rig>): void {
  describeContract(title, open);
  describeStrategies(title, open);
}

if (url && apiKey) {
  for (const endpointId of numbers(env["PORTAINER_ENDPOINTS"] ?? "1")) {
    describeBoth(
      `Portainer at PORTAINER_URL, environment ${endpointId}`,
      () =>
        Promise.resolve(openPortainerRig({
          url,
          apiKey,
          endpointId,
          image: env["PORTAINER_IMAGE"] ?? "agent-launchpad/demo-agent:latest",
          clusterOptions: env["PORTAINER_PUBLISH_MODE"] === "host" ? { publishMode: "host" } : {},
          lacks: new Set(env["PORTAINER_IMAGE_PRINTS"] ? [] : ["environment"]),
        })),
    );
  }
  for (const endpointId of numbers(env["PORTAINER_KUBERNETES_ENDPOINTS"] ?? "")) {
    describeBoth(
      `Kubernetes behind Portainer at PORTAINER_URL, environment ${endpointId}`,
      () =>
        Promise.resolve(openKubernetesRig({
          url: `${url}/api/endpoints/${endpointId}/kubernetes`,
          credential: "",
          namespace: env["KUBERNETES_NAMESPACE"] ?? "default",
          image: env["KUBERNETES_IMAGE"] ?? "agent-launchpad/demo-agent:latest",
          lacks: new Set((env["KUBERNETES_LACKS"] ?? "").split(",")) as Rig["lacks"],
          behind: {
            headers: { "x-api-key": apiKey },
            cluster: { kind: "portainer", url, endpointId, credential: apiKey },
          },
        })),
    );
  }
} else {
  describe("Portainer at PORTAINER_URL", () => {
    it.skip("needs PORTAINER_URL and PORTAINER_API_KEY", () => {});
  });
}
