// The Supabase edition's Node.js example, with addresses of the environment and an end.
const { createClient } = require("@supabase/supabase-js");
const { AgentLaunchpadClient } = require("@agent-launchpad/sdk");

async function main() {
  // Initialize Supabase client
  const supabase = createClient(
    process.env.SUPABASE_URL,
    process.env.SUPABASE_ANON_KEY,
  );

  // Initialize Agent Launchpad client with Supabase auth
  const client = new AgentLaunchpadClient({
    supabaseClient: supabase,
    baseUrl: process.env.BASE_URL,
  });

  // Authenticate user
  const { error } = await supabase.auth.signInWithPassword({
    email: process.env.EMAIL,
    password: process.env.PASSWORD,
  });
  if (error) throw error;

  // Create agent (automatically uses Supabase JWT)
  const agent = await client.agents.create({
    agentName: "my-bot",
    description: "My AI bot",
    supabase_config: {
      project_ref: "your-project-ref",
      real_time: { enabled: true },
    },
  });
  console.log(`id: ${agent.agentId}`);

  // Get status with real-time updates
  const status = await client.agents.getStatus(agent.agentId);
  console.log(`status: ${status.status} of ${status.user_id}`);

  // Subscribe to real-time updates
  const end = client.subscribeToAgent(agent.agentId, (update) => {
    console.log("Agent update:", update.table, update.record?.state ?? "");
    if (update.table !== "operations" || update.record.state !== "succeeded") return;
    end();
    supabase.realtime.disconnect();
  });
}
main();
