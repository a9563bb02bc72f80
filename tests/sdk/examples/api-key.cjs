// The first REST API's Node.js example, with an address of the environment.
const { AgentLaunchpadClient } = require("@agent-launchpad/sdk");

async function main() {
  const client = new AgentLaunchpadClient({
    apiKey: process.env.API_KEY,
    baseUrl: process.env.BASE_URL,
  });

  // Create agent
  const agent = await client.agents.create({
    agentName: "my-bot",
    description: "My AI bot",
  });
  console.log(`id: ${agent.agentId}`);

  // Get status
  const status = await client.agents.getStatus(agent.agentId);
  console.log(`status: ${status.status} ${status.health.overall}`);
}
main();
