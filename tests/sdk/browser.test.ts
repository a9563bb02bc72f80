import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, expect, test } from "vitest";
import { findChromium, startChromium } from "../support/chromium.ts";
import { denoCommand, root } from "../support/deno.ts";
import { startSite } from "../support/site.ts";
import { PATIENCE_MS, run, signUp } from "./support.ts";

const chromium = findChromium();
const closers: (() => Promise<unknown>)[] = [];
afterAll(async () => {
  for (const close of closers.reverse()) await close();
});

/** The client with all that it imports, as a bundler makes it for a page. */
async function bundle(): Promise<string> {
  const folder = await mkdtemp(path.join(tmpdir(), "agent-launchpad-page-"));
  closers.push(() => rm(folder, { recursive: true, force: true }));
  const file = path.join(folder, "sdk.js");
  const { command, args } = denoCommand();
  await run(command, [
    ...args,
    ...["bundle", "--quiet", "--platform", "browser", "--format", "cjs", "--output", file],
    "shared/sdk/client.ts",
  ], { cwd: root });
  return await readFile(file, "utf8");
}

test.skipIf(chromium === null)(
  "a page of another origin signs in, deploys an agent and follows it",
  async () => {
    const [{ access, email, password }, code] = await Promise.all([signUp(), bundle()]);
    const { url, close } = await startSite(() => `
      const module = { exports: {} };
      ${code.replaceAll("</script", "<\\/script")}
      window.sdk = module.exports;`);
    closers.push(close);
    const browser = await startChromium(chromium!);
    closers.push(() => browser.close());
    const page = await browser.open(url);
    await expect.poll(
      () => page.evaluate("typeof window.sdk?.AgentLaunchpadClient").catch(() => null),
      { timeout: PATIENCE_MS },
    ).toBe("function");
    const followed = await page.evaluate<{ percentage: number; table: string; error: string }>(`
      (async () => {
        const client = new sdk.AgentLaunchpadClient(${
      JSON.stringify({
        apiUrl: `${access.apiUrl}/api`,
        supabaseUrl: access.apiUrl,
        supabaseKey: access.publishableKey,
      })
    });
        await client.authenticate(${JSON.stringify({ email, password })});
        const { id } = await client.agents.create({ name: "from-a-page" });
        const heard = new Promise((resolve) => {
          const end = client.subscribeToAgent(id, (update) => {
            end();
            resolve(update.table);
          });
        });
        const { percentage } = await (await client.agents.watchDeployment(id)).finished;
        const error = await client.agents.get("nobody").catch(({ code, requestId }) => code + !!requestId);
        return { percentage, table: await heard, error };
      })()`);
    expect(followed).toEqual({
      percentage: 100,
      table: expect.stringMatching(/^[a-z_]+$/),
      error: "AGENT_NOT_FOUNDtrue",
    });
  },
  PATIENCE_MS,
);
