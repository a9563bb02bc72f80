// The unified API's Node.js example, with addresses of the environment and an end.
import { AgentLaunchpadClient } from "@agent-launchpad/sdk";

const client = new AgentLaunchpadClient({
  apiUrl: process.env.API_URL,
  supabaseUrl: process.env.SUPABASE_URL,
  supabaseKey: process.env.SUPABASE_KEY,
  portainerUrl: "https://portainer.yourdomain.com",
});

// Authenticate
await client.authenticate({
  email: process.env.EMAIL,
  password: process.env.PASSWORD,
});

// Create agent
const agent = await client.agents.create({
  name: "my-bot",
  character: {/* character config */},
  plugins: ["@elizaos/plugin-discord"],
  platforms: ["discord"],
});
console.log(`id: ${agent.id}`);

// Monitor deployment
const deployment = await client.agents.watchDeployment(agent.id);
deployment.on("progress", (progress) => {
  console.log(`Deployment progress: ${progress.percentage}%`);
});

deployment.on("complete", () => {
  console.log("Agent deployed successfully!");
});
await deployment.finished;

// Get real-time metrics
const metrics = await client.agents.getMetrics(agent.id);
console.log("figures:", Object.keys(metrics.metrics).includes("cpu") && "cpu_usage" in metrics);
const metricsStream = client.agents.streamMetrics(agent.id);

metricsStream.on("data", (data) => {
  if (data.cpu_usage === null) return;
  console.log("CPU:", data.cpu_usage);
  console.log("Memory:", data.memory_usage);
  metricsStream.close();
});
