import { apiKey, standaloneEndpoint, swarmEndpoint, TestPortainer } from "../portainer/support.ts";
import { describeContract } from "./contract.ts";
import { openPortainerRig } from "./portainer-rig.ts";
import { describeStrategies } from "./strategies.ts";

for (
  const [title, endpointId] of [
    ["the local Portainer, standalone Docker", standaloneEndpoint],
    ["the local Portainer, Swarm", swarmEndpoint],
  ] as const
) {
  const open = async () => {
    const portainer = await TestPortainer.start();
    return openPortainerRig({
      url: portainer.url,
      apiKey,
      endpointId,
      image: "agent-launchpad/demo-agent:latest",
      lacks: new Set(["environment"]),
      close: () => portainer.discard(),
    });
  };
  describeContract(title, open);
  describeStrategies(title, open);
}
