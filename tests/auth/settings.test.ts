import { describe, expect, test } from "vitest";
import { isAllowedRedirect } from "../../scripts/local/auth/redirect.ts";
import { createRateLimiter } from "../../scripts/local/auth/rate-limit.ts";
import { parseDuration, readAuthSettings } from "../../scripts/local/auth/settings.ts";

describe("durations of Go", () => {
  test.each([
    ["1s", 1],
    ["24h", 86400],
    ["1m30s", 90],
    ["1.5h", 5400],
    ["500ms", 0.5],
    ["0", 0],
  ])("%s is %d seconds", (text, seconds) => {
    expect(parseDuration(text)).toBeCloseTo(seconds);
  });

  test.each(["", "1", "soon", "1d", "-1h", "1h 5m", "h"])("%j is none", (text) => {
    expect(parseDuration(text)).toBeNull();
  });
});

describe("config.toml", () => {
  test("is the CLI's defaults when empty", () => {
    expect(readAuthSettings({})).toMatchObject({
      siteUrl: "http://127.0.0.1:3000",
      jwtExpiry: 3600,
      refreshTokenReuseInterval: 10,
      autoconfirm: true,
      secureEmailChange: true,
      passwordMinLength: 6,
      otpLength: 6,
      accessTokenHook: null,
      passwordHook: null,
    });
  });

  test("names the setting that cannot be followed", () => {
    const hook = { custom_access_token: { enabled: true, uri: "https://example.com/hook" } };
    expect(() => readAuthSettings({ auth: { hook } })).toThrow("hook.custom_access_token.uri");
    expect(() => readAuthSettings({ auth: { sessions: { timebox: "soon" } } })).toThrow(
      "sessions.timebox",
    );
  });
});

describe("a redirect", () => {
  const settings = {
    ...readAuthSettings({}),
    siteUrl: "https://site.example.com",
    redirectUrls: ["https://*.preview.test/**", "app://callback", "https://one.test/?"],
  };

  test.each([
    "https://site.example.com/anywhere?x=1#y",
    "https://branch.preview.test/deep/path",
    "app://callback",
    "https://one.test/a",
    "http://127.0.0.1:5173/",
  ])("may lead to %s", (target) => {
    expect(isAllowedRedirect(settings, target)).toBe(true);
  });

  test.each([
    "",
    "/relative",
    "http://site.example.com/",
    "https://site.example.com:8443/",
    "https://site.example.com.evil.test/",
    "https://a.b.preview.test/x",
    "https://one.test/ab",
    "app://callback/more",
    "https://10.0.0.1/",
    "javascript:alert(1)",
  ])("may not lead to %j", (target) => {
    expect(isAllowedRedirect(settings, target)).toBe(false);
  });
});

describe("the rate limiter", () => {
  function limiter(signInSignUps: number) {
    let now = 0;
    const { rateLimits } = readAuthSettings({
      auth: { rate_limit: { sign_in_sign_ups: signInSignUps } },
    });
    return {
      limiter: createRateLimiter(rateLimits, () => now),
      wait: (seconds: number) => now += seconds * 1000,
    };
  }

  test("lets the whole allowance through at once and then as it refills", () => {
    const { limiter: limits, wait } = limiter(30);
    for (let request = 0; request < 30; request++) {
      expect(limits.tryTake("signInSignUps", "a")).toBe(true);
    }
    expect(limits.tryTake("signInSignUps", "a")).toBe(false);
    wait(10);
    expect(limits.tryTake("signInSignUps", "a")).toBe(true);
    expect(limits.tryTake("signInSignUps", "a")).toBe(false);
  });

  test("forgets the clients that have not come for longest", () => {
    const { limiter: limits } = limiter(1);
    limits.tryTake("signInSignUps", "first");
    for (let client = 0; client < 20_000; client++) limits.tryTake("signInSignUps", `${client}`);
    expect(limits.tryTake("signInSignUps", "first")).toBe(true);
    expect(limits.tryTake("signInSignUps", "19999")).toBe(false);
  });
});

describe("secrets of config.toml", () => {
  const github = (secret: string) => ({
    auth: { external: { GitHub: { enabled: true, client_id: "id", secret } } },
  });

  test("come from the environment", () => {
    const { external } = readAuthSettings(github("env(GITHUB_SECRET)"), { GITHUB_SECRET: "s" });
    expect(external).toMatchObject({ github: { clientId: "id", secret: "s" } });
  });

  test("name the variable that is not set", () => {
    expect(() => readAuthSettings(github("env(GITHUB_SECRET)"), {})).toThrow(
      "auth.external.GitHub.secret in supabase/config.toml takes its value from GITHUB_SECRET",
    );
  });

  test("are not needed for what is switched off", () => {
    const off = { auth: { external: { github: { enabled: false, secret: "env(NOT_SET)" } } } };
    expect(readAuthSettings(off, {}).external).toEqual({});
  });
});

describe("a mail server", () => {
  const smtp = (section: Record<string, string | number | boolean>) =>
    readAuthSettings({ auth: { email: { smtp: section } } }, { PASS: "p" }).smtp;
  const server = { host: "smtp.example.com", port: 587, admin_email: "a@example.com" };

  test("is there as soon as it is described", () => {
    expect(smtp({ ...server, user: "u", pass: "env(PASS)", sender_name: "A" })).toEqual({
      host: "smtp.example.com",
      port: 587,
      user: "u",
      pass: "p",
      adminEmail: "a@example.com",
      senderName: "A",
    });
  });

  test("can be switched off", () => {
    expect(smtp({ ...server, enabled: false })).toBeNull();
    expect(smtp({})).toBeNull();
  });

  test.each([{ host: "" }, { port: 0 }, { port: 70000 }, { admin_email: "" }])(
    "is named when half described: %j",
    (fault) => {
      expect(() => smtp({ ...server, ...fault })).toThrow(
        `auth.email.smtp.${Object.keys(fault)[0]}`,
      );
    },
  );
});
