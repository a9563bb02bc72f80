/**
 * Seed 002's snippets in a real browser, on a page of another origin: what Node does not try are CORS, the
 * headers that scripts may read, and the browser's own WebSocket.
 */
import postgres from "postgres";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Browser, findChromium, startChromium, type Tab } from "../support/chromium.ts";
import { startSite } from "../support/site.ts";
import { type StackAccess, useStack } from "../support/stack.ts";
import { createBody2 } from "./support/bodies.ts";

const chromium = findChromium();

/** What the page does by itself; what it has seen so far is `seen`. */
const pageScript = ({ apiUrl, publishableKey }: StackAccess) => `
  const seen = { statuses: {}, metrics: [], logs: [], security: [] };
  const client = supabase.createClient("${apiUrl}", "${publishableKey}");
  function follow(channel, table, filter, rows) {
    client.channel(channel)
      .on("postgres_changes", { event: "INSERT", schema: "public", table, filter }, (payload) => rows.push(payload.new))
      .subscribe((status) => seen.statuses[channel] = status);
  }
  async function run() {
    const { data, error } = await client.auth.signUp({
      email: crypto.randomUUID() + "@example.com", password: "correct horse battery",
    });
    if (error) throw error;
    seen.userId = data.user.id;
    const answer = await fetch("${apiUrl}/api/agents", {
      method: "POST",
      headers: {
        Authorization: "Bearer " + data.session.access_token,
        apikey: "${publishableKey}",
        "Content-Type": "application/json",
        "API-Version": "2",
        "Idempotency-Key": crypto.randomUUID(),
      },
      body: ${JSON.stringify(JSON.stringify(createBody2))},
    });
    seen.headers = Object.fromEntries(answer.headers);
    seen.agent = await answer.json();
    const id = seen.agent.agentId;
    follow("agent-metrics", "agent_metrics", "agent_id=eq." + id, seen.metrics);
    follow("agent-logs", "agent_logs", "agent_id=eq." + id, seen.logs);
    follow("security-events", "security_events", "severity=eq.CRITICAL", seen.security);
    seen.rows = await client.from("agents").select("id,status,deployments(agent_id),operations(kind)", { count: "estimated" });
  }
  run().catch((error) => seen.error = String(error));`;

describe.skipIf(chromium === null)("a page of another origin", () => {
  let browser: Browser;
  let tab: Tab;
  let sql: postgres.Sql;
  const closers: (() => Promise<unknown>)[] = [];

  beforeAll(async () => {
    const stack = await useStack();
    sql = postgres(stack.dbUrl, { max: 1, onnotice: () => {} });
    closers.push(() => sql.end());
    const site = await startSite(() => pageScript(stack));
    closers.push(site.close);
    browser = await startChromium(chromium!);
    closers.push(() => browser.close());
    tab = await browser.open(site.url);
  });
  afterAll(async () => {
    for (const close of closers.reverse()) await close();
  });

  /** Waits for what the page sees to become something. */
  const seen = <Value>(expression: string) =>
    expect.poll(() => tab.evaluate<Value>(`seen.error ?? ${expression}`).catch(() => null));

  it("creates an agent over the API and reads the limits from its headers", async () => {
    await seen("seen.agent").toMatchObject({
      agentId: expect.any(String),
      status: "QUEUED",
      supabase_integration: {
        tables_created: true,
        rls_policies_applied: true,
        real_time_enabled: true,
      },
    });
    expect(await tab.evaluate("seen.headers")).toMatchObject({
      "x-ratelimit-limit": "100",
      "x-ratelimit-remaining": expect.any(String),
      "x-ratelimit-reset": expect.any(String),
      "supabase-ratelimit-remaining": expect.any(String),
      "supabase-auth-rate-limit": "29",
      location: expect.stringContaining("/api/agents/"),
    });
  });

  it("reads it over PostgREST with what belongs to it", async () => {
    await seen("seen.rows").toMatchObject({
      count: 1,
      data: [{ deployments: expect.any(Object), operations: [{ kind: "deploy" }] }],
    });
  });

  it("follows metrics and logs of the agent", async () => {
    await seen("seen.metrics.length").toBeGreaterThan(0);
    await seen("seen.logs.length").toBeGreaterThan(0);
    const id = await tab.evaluate<string>("seen.agent.agentId");
    const kinds = "[...new Set([...seen.metrics, ...seen.logs].map((row) => row.agent_id))]";
    expect(await tab.evaluate(kinds)).toEqual([id]);
  });

  it("hears of critical security events, and of no others", async () => {
    await seen("seen.statuses").toMatchObject({ "security-events": "SUBSCRIBED" });
    const userId = await tab.evaluate<string>("seen.userId");
    for (const severity of ["HIGH", "CRITICAL"]) {
      await sql`
        insert into public.security_events (event_type, severity, user_id, message)
        values ('API_KEY_MISUSE', ${severity}, ${userId}, 'A try')`;
    }
    await seen("seen.security.map((event) => event.severity)").toEqual(["CRITICAL"]);
  });
});
