/** The built package: the documents' Node.js examples, word by word, and its types. */
import { copyFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { root } from "../support/deno.ts";
import { installPackage, makeKey, PATIENCE_MS, run, signUp } from "./support.ts";

let installed: Awaited<ReturnType<typeof installPackage>>;

beforeAll(async () => {
  installed = await installPackage();
}, PATIENCE_MS);
afterAll(() => installed.remove());

/** Runs an example to its own end; nothing of the client may keep the process. */
async function example(name: string, env: Record<string, string>, flags: string[] = []) {
  const file = path.join(installed.folder, name);
  await copyFile(path.join(root, "tests/sdk/examples", name), file);
  const { stdout } = await run(process.execPath, [...flags, file], {
    env: { PATH: process.env.PATH, ...env },
    timeout: PATIENCE_MS,
  });
  return stdout;
}

/** Node 20 has its WebSocket behind a flag. */
const withWebSocket = "WebSocket" in globalThis && process.version.startsWith("v20.")
  ? ["--experimental-websocket"]
  : [];

async function unified(): Promise<Record<string, string>> {
  const { access, email, password } = await signUp();
  return {
    API_URL: `${access.apiUrl}/api`,
    SUPABASE_URL: access.apiUrl,
    SUPABASE_KEY: access.publishableKey,
    EMAIL: email,
    PASSWORD: password,
  };
}

describe("the examples of the documents", () => {
  it.each([["with a WebSocket", withWebSocket], ["as Node comes", []]])(
    "of the unified API, %s",
    async (_name, flags) => {
      const printed = await example("unified.mjs", await unified(), flags);
      expect(printed).toMatch(/^id: [0-9a-f-]{36}$/m);
      expect(printed).toContain("Deployment progress: 100%\n");
      expect(printed).toContain("Agent deployed successfully!\n");
      expect(printed).toContain("figures: true\n");
      expect(printed).toMatch(/^CPU: \d/m);
      expect(printed).toMatch(/^Memory: \d/m);
    },
    PATIENCE_MS,
  );

  it("of the first REST API", async () => {
    const account = await signUp();
    const printed = await example("api-key.cjs", {
      API_KEY: await makeKey(account),
      BASE_URL: account.access.apiUrl,
    });
    expect(printed).toMatch(/^id: [0-9a-f-]{36}$/m);
    expect(printed).toMatch(/^status: [A-Z]+ (null|[A-Z]+)$/m);
  }, PATIENCE_MS);

  it("of the Supabase edition", async () => {
    const { access, email, password, userId } = await signUp();
    const printed = await example("supabase.cjs", {
      SUPABASE_URL: access.apiUrl,
      SUPABASE_ANON_KEY: access.publishableKey,
      BASE_URL: access.apiUrl,
      EMAIL: email,
      PASSWORD: password,
    }, withWebSocket);
    expect(printed).toMatch(/^id: [0-9a-f-]{36}$/m);
    expect(printed).toMatch(new RegExp(`^status: [A-Z]+ of ${userId}$`, "m"));
    expect(printed).toContain("Agent update: operations succeeded\n");
  }, PATIENCE_MS);
});

it("its types know each edition's requests and answers", async () => {
  const file = path.join(installed.folder, "use.mts");
  await writeFile(
    file,
    `import { AgentLaunchpadClient } from "@agent-launchpad/sdk";
    const client = new AgentLaunchpadClient({ apiKey: "alk_", baseUrl: "https://api.example.com" });
    const unified = new AgentLaunchpadClient({ apiUrl: "a", supabaseUrl: "b", supabaseKey: "c" });
    const asked = new AgentLaunchpadClient({ apiKey: "k", baseUrl: "b", edition: 3 });
    const id: string = (await client.agents.create({ agentName: "a" })).agentId;
    const state: string | null = (await client.agents.getStatus(id)).health.overall;
    const stack: string | null = (await unified.agents.create({ name: "a" })).portainer.stack_id;
    const cpu: number | null = (await unified.agents.getMetrics(id, { timeframe: "1h" })).cpu_usage;
    const total: number = (await unified.agents.list({ limit: 5 })).pagination.total;
    const success: true = (await asked.agents.scale(id, { replicas: 2 })).success;
    console.log(state, stack, cpu, total, success);
    // @ts-expect-error -- there is no such field
    await client.agents.create({ agentNam: "a" });
    // @ts-expect-error -- a number
    await client.agents.scale(id, { replicas: "2" });
    // @ts-expect-error -- edition 3's
    (await client.agents.list()).pagination;
    // @ts-expect-error -- one of a few
    await client.agents.getMetrics(id, { timeframe: "2h" });`,
  );
  const tsc = path.join(root, "node_modules/typescript/bin/tsc");
  const options = ["--noEmit", "--strict", "--module", "nodenext", "--target", "es2022"];
  const printed = await run(process.execPath, [tsc, file, ...options, "--skipLibCheck"])
    .then(() => "", (error) => error.stdout);
  expect(printed).toBe("");
}, PATIENCE_MS);
