import { beforeAll, describe, expect, it } from "vitest";
import { createTestApi, type Persona, type TestApi } from "./support/test-api.ts";

let test: TestApi;

beforeAll(async () => {
  test = await createTestApi();
});

const list = (as: Persona, edition?: 1 | 2 | 3) => test.call("GET", "/api/agents", { as, edition });

/** The request of many that is over the limit, and how many got through. */
async function exhaust(persona: Persona, edition?: 1 | 2 | 3) {
  for (let admitted = 0; admitted < 200; admitted++) {
    const answer = await list(persona, edition);
    if (answer.status === 429) return { admitted, answer };
  }
  throw new Error("never refused");
}

describe("the installation's limits", () => {
  it("admit 20 requests in a minute, as documented", async () => {
    const user = await test.user({ limits: null });
    const { admitted, answer } = await exhaust(user, 3);
    expect(admitted).toBe(20);
    expect(answer.json.error.code).toBe("RATE_LIMIT_EXCEEDED");
    expect(answer.json.error.details).toMatchObject({ limit_type: "burst", user_id: user.userId });
    expect(Number(answer.headers.get("retry-after"))).toBeGreaterThan(0);
    expect(Number(answer.headers.get("retry-after"))).toBeLessThanOrEqual(60);
  });

  it.each([1, 2, 3] as const)("show edition %i the window that refused", async (edition) => {
    const user = await test.user({ limits: null });
    const { answer } = await exhaust(user, edition);
    expect(answer.headers.get("x-ratelimit-limit")).toBe("20");
    expect(answer.headers.get("x-ratelimit-remaining")).toBe("0");
    const wait = Number(answer.headers.get("x-ratelimit-reset")) - Date.now() / 1000;
    expect(wait).toBeGreaterThan(0);
    expect(wait).toBeLessThanOrEqual(61);
  });

  it("admit 100 in 15 minutes, as documented", async () => {
    const user = await test.user({ limits: { burst_limit: 1000 } });
    const { admitted, answer } = await exhaust(user, 3);
    expect(admitted).toBe(100);
    expect(answer.json.error.details.limit_type).toBe("window");
    expect(answer.headers.get("x-ratelimit-limit")).toBe("100");
    expect(answer.headers.get("x-ratelimit-remaining")).toBe("0");
  });

  it("tell where a caller stands, in the documented headers and the standard ones", async () => {
    const user = await test.user({ limits: null });
    const { headers } = await list(user);
    expect(headers.get("x-ratelimit-limit")).toBe("100");
    expect(headers.get("x-ratelimit-remaining")).toBe("99");
    const reset = Number(headers.get("x-ratelimit-reset")) - Date.now() / 1000;
    expect(reset).toBeGreaterThan(600);
    expect(reset).toBeLessThan(910);
    expect(headers.get("ratelimit-policy")).toBe('"default";q=100;w=900, "burst";q=20;w=60');
    expect(headers.get("ratelimit")).toMatch(/^"default";r=99;t=\d+, "burst";r=19;t=\d+$/);
    expect(headers.get("retry-after")).toBeNull();
  });

  it("can be changed by a row, without a restart", async () => {
    const user = await test.user({ limits: null });
    await test.sql`update public.settings set value = '3'
      where category = 'rate_limit' and key = 'burst_limit'`;
    try {
      expect((await exhaust(user)).admitted).toBe(3);
    } finally {
      await test.sql`update public.settings set value = '20'
        where category = 'rate_limit' and key = 'burst_limit'`;
    }
    expect((await list(user)).status).toBe(200);
  });

  it("give way to a user's own", async () => {
    const user = await test.user({ limits: { burst_limit: 5 } });
    expect((await exhaust(user)).admitted).toBe(5);
  });

  it("give way to a key's own, and count the key apart from its owner", async () => {
    const user = await test.user({ limits: null });
    const key = await test.apiKey(user);
    await test.sql`update public.api_keys set rate_limit = '{"burst_limit": 2}'
      where user_id = ${user.userId}`;
    expect((await exhaust(key)).admitted).toBe(2);
    expect((await list(user)).status).toBe(200);
  });
});

describe("Supabase's limits, which edition 2 tells", () => {
  const queries = "supabase-ratelimit-remaining";
  const signIns = "supabase-auth-rate-limit";

  it("are what the user has left", async () => {
    // In a window that does not end meanwhile.
    const user = await test.user({ limits: { query_seconds: 86_400 } });
    const { headers } = await list(user, 2);
    expect(headers.get(queries)).toBe("1000");
    await test.asCaller(user, (sql) => sql`select private.guard_request()`);
    expect((await list(user, 2)).headers.get(queries)).toBe("999");
    await test.sql`select private.count_auth_request(${user.userId})`;
    expect((await list(user, 2)).headers.get(signIns)).toBe("29");
  });

  it("stand in answers to nobody else's edition", async () => {
    const user = await test.user();
    expect((await list(user)).headers.get(queries)).toBe("1000");
    for (const edition of [1, 3] as const) {
      const { headers } = await list(user, edition);
      expect([headers.get(queries), headers.get(signIns)]).toEqual([null, null]);
    }
  });

  it("stand in refusals as well", async () => {
    const user = await test.user({ limits: { burst_limit: 1 } });
    const { answer } = await exhaust(user, 2);
    expect(answer.headers.get(queries)).toBe("1000");
  });

  it("are no key's, as far as they are Auth's", async () => {
    const user = await test.user();
    await test.sql`select private.count_auth_request(${user.userId})`;
    const key = await test.apiKey(user);
    const { headers } = await list(key, 2);
    expect([headers.get(queries), headers.get(signIns)]).toEqual(["1000", null]);
  });

  it("say nothing of Auth where its hooks tell nothing", async () => {
    await test.sql`delete from private.auth_requests`;
    const user = await test.user();
    expect((await list(user, 2)).headers.get(signIns)).toBeNull();
  });

  it("can be read by scripts of other origins", async () => {
    const { headers } = await list(await test.user(), 2);
    const exposed = headers.get("access-control-expose-headers")!.toLowerCase();
    expect(exposed).toContain(queries);
    expect(exposed).toContain(signIns);
  });
});

describe("a refused request", () => {
  it("is edition 1's only 429", async () => {
    const user = await test.user({ limits: { burst_limit: 1 } });
    const { answer } = await exhaust(user, 1);
    expect(answer.json.error.code).toBe("RESOURCE_LIMIT_EXCEEDED");
  });

  it("is seed 002's to edition 2", async () => {
    const user = await test.user({ limits: { burst_limit: 1 } });
    const { answer } = await exhaust(user, 2);
    expect(answer.json.error).toMatchObject({
      code: "RATE_LIMIT_EXCEEDED",
      message: "Rate limit exceeded",
      details: {
        limit_type: "burst",
        reset_time: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d.*Z$/),
        user_id: user.userId,
      },
    });
  });

  it("is one security event, however many there are", async () => {
    const user = await test.user({ limits: { burst_limit: 1 } });
    for (let n = 0; n < 4; n++) await list(user);
    const events = () =>
      test.sql`
      select event_type, severity, details from public.security_events where user_id = ${user.userId}`;
    await expect.poll(async () => (await events())[0]?.details.count).toBe(3);
    expect(await events()).toEqual([
      expect.objectContaining({
        event_type: "RATE_LIMIT_REACHED",
        severity: "LOW",
        details: expect.objectContaining({ limit_type: "burst", route: "/api/agents" }),
      }),
    ]);
  });

  it("has done nothing", async () => {
    const user = await test.user({ limits: { burst_limit: 1 } });
    await list(user);
    const answer = await test.call("POST", "/api/agents", { as: user, body: { agentName: "no" } });
    expect(answer.status).toBe(429);
    const rows = await test.sql`select from public.agents where user_id = ${user.userId}`;
    expect(rows).toHaveLength(0);
  });

  it("is admitted again after a time", async () => {
    const user = await test.user({ limits: { burst_limit: 1, burst_seconds: 5 } });
    const { answer } = await exhaust(user);
    expect(Number(answer.headers.get("retry-after"))).toBeLessThanOrEqual(5);
    await expect.poll(async () => (await list(user)).status).toBe(200);
  });
});

describe("counting", () => {
  it("counts requests that fail", async () => {
    const user = await test.user({ limits: { burst_limit: 4 } });
    const bad = [
      () => test.call("GET", "/api/agents?limit=0", { as: user }),
      () => test.call("GET", `/api/agents/${crypto.randomUUID()}`, { as: user }),
      () => test.call("POST", "/api/agents", { as: user, raw: "{" }),
      () => test.call("POST", "/api/agents", { as: user, body: { agentName: "a", replicas: 999 } }),
    ];
    for (const call of bad) expect((await call()).status).toBeLessThan(429);
    expect((await list(user)).status).toBe(429);
  });

  it("admits no more when they come at once, over several instances", async () => {
    const user = await test.user({ limits: { burst_limit: 10 } });
    const instances = [test.api, test.build(), test.build()];
    const answers = await Promise.all(
      Array.from(
        { length: 60 },
        (_, index) => test.call("GET", "/api/agents", { as: user, api: instances[index % 3]! }),
      ),
    );
    expect(answers.filter((answer) => answer.status === 200)).toHaveLength(10);
  });

  it("tells each of those that come at once how many are left after it", async () => {
    const user = await test.user({ limits: { burst_limit: 30 } });
    const answers = await Promise.all(Array.from({ length: 20 }, () => list(user)));
    const left = answers.map((answer) => Number(answer.headers.get("x-ratelimit-remaining")));
    expect(left.sort((a, b) => b - a)).toEqual(
      Array.from({ length: 20 }, (_, index) => 99 - index),
    );
  });

  it("counts nobody who did not prove who they are", async () => {
    const before = await test.sql`select from private.rate_limits`;
    await test.call("GET", "/api/agents");
    await test.call("GET", "/api/agents", { headers: { Authorization: "Bearer x" } });
    expect(await test.sql`select from private.rate_limits`).toHaveLength(before.length);
  });
});
