/** The client against a real stack: what its examples do not show. */
import { beforeAll, describe, expect, it } from "vitest";
import { AgentLaunchpadClient, type AgentUpdate } from "../../shared/sdk/client.ts";
import { type Account, makeKey, PATIENCE_MS, signUp } from "./support.ts";

let account: Account;
let unified: Awaited<ReturnType<typeof signedIn>>;
let byKey: ReturnType<typeof keyed>;
let agentId: string;

async function signedIn({ access, email, password }: Account) {
  const client = new AgentLaunchpadClient({
    apiUrl: `${access.apiUrl}/api`,
    supabaseUrl: access.apiUrl,
    supabaseKey: access.publishableKey,
  });
  await client.authenticate({ email, password });
  return client;
}
const keyed = (apiKey: string) =>
  new AgentLaunchpadClient({ apiKey, baseUrl: account.access.apiUrl });

beforeAll(async () => {
  account = await signUp();
  unified = await signedIn(account);
  byKey = keyed(await makeKey(account));
  agentId = (await byKey.agents.create({ agentName: "followed" })).id;
  await (await unified.agents.watchDeployment(agentId)).finished;
}, PATIENCE_MS);

it("each edition's client says the same agent in its own words", async () => {
  const asked = new AgentLaunchpadClient({
    supabaseClient: unified.supabase!,
    baseUrl: account.access.apiUrl,
  });
  const [one, two, three] = [
    await byKey.agents.list(),
    await asked.agents.list(),
    await unified.agents.list(),
  ];
  expect([one.agents[0]!.status, two.agents[0]!.user_id, three.agents[0]!.status])
    .toEqual(["DEPLOYED", account.userId, "running"]);
});

it("a wrong password is an error of the SDK", async () => {
  const { access, email } = account;
  const client = new AgentLaunchpadClient({
    apiUrl: `${access.apiUrl}/api`,
    supabaseUrl: access.apiUrl,
    supabaseKey: access.publishableKey,
  });
  await expect(client.authenticate({ email, password: "wrong" }))
    .rejects.toMatchObject({ code: "AUTHENTICATION_FAILED", status: 400 });
  await expect(client.agents.list())
    .rejects.toMatchObject({ code: "AUTHENTICATION_FAILED", status: 401 });
});

it("names every bad field, and the request for the log", async () => {
  const failed = byKey.agents.scale(agentId, { replicas: 0 });
  await expect(failed).rejects.toMatchObject({
    code: "VALIDATION_ERROR",
    status: 400,
    details: { replicas: "must be a whole number from 1 to 1000" },
    requestId: expect.stringMatching(/^[0-9a-f-]{36}$/),
  });
});

it("lines of a log are followed until the loop ends", async () => {
  const lines: string[] = [];
  for await (const line of unified.agents.followLogs(agentId, { lines: 1 })) {
    expect(line.level).toMatch(/^[a-z]+$/);
    lines.push(line.message);
    if (lines.length === 2) break;
  }
  expect(lines).toHaveLength(2);
}, PATIENCE_MS);

describe("Realtime", () => {
  it("is joined once for all who listen, and left when none does", async () => {
    const joined = () => unified.supabase!.getChannels().map(({ topic }) => topic);
    const heard: AgentUpdate[][] = [[], []];
    const ends = heard.map((list) =>
      unified.subscribeToAgent(agentId, (update) => list.push(update))
    );
    // Measurements come by themselves.
    await expect.poll(() => heard.every((list) => list.length > 0), { timeout: PATIENCE_MS })
      .toBe(true);
    expect(joined()).toEqual([`realtime:agent:${agentId}`]);
    ends[0]!();
    expect(joined()).toHaveLength(1);
    ends[1]!();
    await expect.poll(joined, { timeout: PATIENCE_MS }).toEqual([]);
  }, PATIENCE_MS);

  it("takes in again who comes while the last one leaves", async () => {
    const wait = () =>
      new Promise<AgentUpdate>((resolve) => {
        const end = unified.subscribeToAgent(agentId, (update) => {
          end();
          resolve(update);
        });
      });
    const first = await wait();
    const second = await wait();
    expect([first, second]).toMatchObject([{ agentId }, { agentId }]);
  }, PATIENCE_MS);

  it("tells nothing of another user's agent, and says so", async () => {
    const stranger = await signedIn(await signUp());
    const error = await new Promise((resolve, reject) => {
      const end = stranger.subscribeToAgent(
        agentId,
        () => reject(new Error("heard it")),
        (fault) => {
          end();
          resolve(fault);
        },
      );
    });
    expect(error).toMatchObject({ code: "REAL_TIME_SUBSCRIPTION_FAILED" });
    await expect(stranger.agents.watchDeployment(agentId))
      .rejects.toMatchObject({ code: "AGENT_NOT_FOUND", status: 404 });
  }, PATIENCE_MS);
});
