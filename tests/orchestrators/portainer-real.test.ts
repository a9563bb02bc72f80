import { describe, it } from "vitest";
import { describeContract } from "./contract.ts";
import { openPortainerRig } from "./portainer-rig.ts";

// A Portainer of one's own: PORTAINER_URL, PORTAINER_API_KEY, and PORTAINER_ENDPOINTS with the numbers of the
// environments to try (1). PORTAINER_IMAGE names an image that its engines have; PORTAINER_PUBLISH_MODE is
// `host` for a Swarm whose kernel lacks IPVS.
const { PORTAINER_URL: url, PORTAINER_API_KEY: apiKey } = process.env;

if (url && apiKey) {
  for (const endpoint of (process.env["PORTAINER_ENDPOINTS"] ?? "1").split(",")) {
    describeContract(
      `Portainer at PORTAINER_URL, environment ${endpoint}`,
      () =>
        Promise.resolve(openPortainerRig({
          url,
          apiKey,
          endpointId: Number(endpoint),
          image: process.env["PORTAINER_IMAGE"] ?? "agent-launchpad/demo-agent:latest",
          clusterOptions: process.env["PORTAINER_PUBLISH_MODE"] === "host"
            ? { publishMode: "host" }
            : {},
          lacks: new Set(process.env["PORTAINER_IMAGE_PRINTS"] ? [] : ["environment"]),
        })),
    );
  }
} else {
  describe("Portainer at PORTAINER_URL", () => {
    it.skip("needs PORTAINER_URL and PORTAINER_API_KEY", () => {});
  });
}
