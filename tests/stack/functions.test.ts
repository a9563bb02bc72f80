import { afterEach, expect, test, vi } from "vitest";
import { PATIENCE } from "../support/until.ts";
import { type GatewayUnderTest, startGatewayUnderTest } from "./support/gateway.ts";

const OK = `Deno.serve(() => new Response("one"));`;
const BROKEN = `Deno.serve(() => new Response("never")`;
const FRAGILE = `
  Deno.serve(async (request) => {
    if (request.url.endsWith("/crash")) setTimeout(() => { throw new Error("boom"); });
    if (request.url.endsWith("/crash")) await new Promise(() => {});
    return new Response(String(Deno.pid));
  });
`;

let gateway: GatewayUnderTest;
afterEach(() => gateway.stop());

const get = (path: string) => fetch(gateway.url + path);
const text = async (path: string) => await (await get(path)).text();

test("a crash gives 502, takes no other function down and is followed by a new start", async () => {
  gateway = await startGatewayUnderTest({ api: OK, fragile: FRAGILE });
  const before = await text("/functions/v1/fragile");
  const crashed = await get("/functions/v1/fragile/crash");
  expect(crashed.status).toBe(502);
  expect(await crashed.json()).toMatchObject({ code: "WORKER_ERROR" });
  expect(await text("/functions/v1/api")).toBe("one");
  await vi.waitFor(async () => {
    const after = await get("/functions/v1/fragile");
    expect(after.status).toBe(200);
    expect(await after.text()).not.toBe(before);
  }, PATIENCE);
});

test("a killed function comes back", async () => {
  gateway = await startGatewayUnderTest({ fragile: FRAGILE });
  const { fragile } = await gateway.pids();
  process.kill(fragile!, "SIGKILL");
  await vi.waitFor(async () => {
    expect((await gateway.pids()).fragile).not.toBe(fragile);
    expect((await get("/functions/v1/fragile")).status).toBe(200);
  }, PATIENCE);
});

test("a function that does not start says so, and works once it is mended", async () => {
  gateway = await startGatewayUnderTest({ api: OK, broken: BROKEN });
  const answer = await get("/functions/v1/broken");
  expect(answer.status).toBe(503);
  expect(answer.headers.get("retry-after")).toMatch(/^\d+$/);
  expect(await answer.json()).toMatchObject({ code: "BOOT_ERROR" });
  expect(await text("/functions/v1/api")).toBe("one");
  await gateway.save("broken", OK);
  await vi.waitFor(async () => expect(await text("/functions/v1/broken")).toBe("one"), PATIENCE);
});

test("saving a file puts the new version in place without one failed request", async () => {
  gateway = await startGatewayUnderTest({ api: OK });
  expect(await text("/functions/v1/api")).toBe("one");
  await gateway.save("api", OK.replace("one", "two"));
  const seen = new Set<string>();
  await vi.waitFor(async () => {
    const answer = await get("/functions/v1/api");
    expect(answer.status).toBe(200);
    seen.add(await answer.text());
    expect(seen).toContain("two");
  }, PATIENCE);
});

test("a function has the hosted environment and nothing of ours", async () => {
  process.env.LAUNCHPAD_TEST_LEAK = "leak";
  gateway = await startGatewayUnderTest({
    api: `Deno.serve(() => Response.json(Deno.env.toObject()));`,
  });
  delete process.env.LAUNCHPAD_TEST_LEAK;
  const environment = JSON.parse(await text("/functions/v1/api"));
  expect(environment).toMatchObject({
    SUPABASE_URL: gateway.url,
    SUPABASE_PUBLISHABLE_KEYS: JSON.stringify({ default: gateway.keys.publishable }),
    SUPABASE_SECRET_KEYS: JSON.stringify({ default: gateway.keys.secret }),
    SUPABASE_SERVICE_ROLE_KEY: gateway.keys.serviceRole,
  });
  expect(JSON.parse(environment.SUPABASE_JWKS).keys[0]).not.toHaveProperty("d");
  expect(environment).not.toHaveProperty("LAUNCHPAD_TEST_LEAK");
});

test("a function can neither write files nor start processes", async () => {
  gateway = await startGatewayUnderTest({
    api: `
      const attempt = async (work) => { try { await work(); return "did"; } catch (e) { return e.name; } };
      Deno.serve(async () => Response.json([
        await attempt(() => Deno.writeTextFile("/tmp/x", "")),
        await attempt(() => new Deno.Command("/bin/sh", { args: ["-c", ":"] }).output()),
        await attempt(() => Deno.readTextFile("/etc/passwd")),
      ]));
    `,
  });
  expect(JSON.parse(await text("/functions/v1/api"))).toEqual(
    ["NotCapable", "NotCapable", "NotCapable"],
  );
});

test("work given to EdgeRuntime.waitUntil is finished before an orderly end", async () => {
  gateway = await startGatewayUnderTest({
    api: `
      Deno.serve(() => {
        EdgeRuntime.waitUntil(new Promise((done) => setTimeout(done, 300)).then(() => console.log("background done")));
        return new Response("one");
      });
    `,
  });
  await text("/functions/v1/api");
  await gateway.stop();
  expect(gateway.log()).toContain("background done");
});

test("what fails in the background neither ends the function nor stays unsaid", async () => {
  gateway = await startGatewayUnderTest({
    api: `
      Deno.serve(() => {
        EdgeRuntime.waitUntil(Promise.reject(new Error("lost")));
        return new Response(String(Deno.pid));
      });
    `,
  });
  const pid = await text("/functions/v1/api");
  await expect.poll(gateway.log).toContain("lost");
  expect(await text("/functions/v1/api")).toBe(pid);
});

test("functions end when the host is killed", async () => {
  gateway = await startGatewayUnderTest({ api: OK });
  const { api } = await gateway.pids();
  gateway.child.kill("SIGKILL");
  await vi.waitFor(() => expect(() => process.kill(api!, 0)).toThrow(), PATIENCE);
});

test("a client that hangs up ends the function's work for it", async () => {
  gateway = await startGatewayUnderTest({
    api: `
      Deno.serve((request) => {
        request.signal.addEventListener("abort", () => console.log("client gone"));
        return new Response(new ReadableStream({ pull: (c) => { c.enqueue(new Uint8Array(1)); return new Promise(() => {}); } }));
      });
    `,
  });
  const hangUp = new AbortController();
  await fetch(`${gateway.url}/functions/v1/api`, { signal: hangUp.signal });
  hangUp.abort();
  await expect.poll(gateway.log).toContain("client gone");
});
