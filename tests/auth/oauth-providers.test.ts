import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, expect, test } from "vitest";
import { fetchBounded } from "../../scripts/local/auth/external/http.ts";
import type { ExternalProvider } from "../../scripts/local/auth/external/provider.ts";
import { createProviders } from "../../scripts/local/auth/external/providers.ts";
import { readAuthSettings } from "../../scripts/local/auth/settings.ts";
import { type Misbehaviour, startOidcProvider } from "../support/oidc-provider.ts";

const CALLBACK = "http://127.0.0.1:54321/auth/v1/callback";
const REQUEST = { state: "s", nonce: "n", codeChallenge: "c", scopes: [], extra: {} };

const servers: Server[] = [];
afterAll(() => {
  for (const server of servers) {
    server.closeAllConnections();
    server.close();
  }
});

/** A server that answers each path with the same JSON, and never answers any other. */
async function serve(answers: Record<string, unknown>): Promise<string> {
  const server = createServer((request, response) => {
    const answer = answers[`${request.method} ${request.url}`];
    if (answer !== undefined) response.end(JSON.stringify(answer));
  });
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

function provider(name: string, more: Record<string, string> = {}): ExternalProvider {
  const section = { enabled: true, client_id: "id", secret: "secret", ...more };
  const { external } = readAuthSettings({ auth: { external: { [name]: section } } }, {});
  return createProviders(external, CALLBACK).get(name)!;
}

test.each([
  ["github", "https://github.com/login/oauth/authorize", "user:email"],
  ["discord", "https://discord.com/api/oauth2/authorize", "email identify"],
])("%s needs no url", async (name, endpoint, scope) => {
  const url = new URL(await provider(name).authorizationUrl(REQUEST));
  expect(url.origin + url.pathname).toBe(endpoint);
  expect(url.searchParams.get("scope")).toBe(scope);
  expect(url.searchParams.get("redirect_uri")).toBe(CALLBACK);
});

test("GitHub tells of an account by its own API", async () => {
  const url = await serve({
    "POST /login/oauth/access_token": { access_token: "token" },
    "GET /api/v3/user": { id: 7, login: "ada", name: "Ada", avatar_url: null, email: null },
    "GET /api/v3/user/emails": [
      { email: "old@example.com", primary: false, verified: true },
      { email: "ada@example.com", primary: true, verified: true },
    ],
  });
  const github = provider("github", { url });
  const tokens = await github.exchange("code", "verifier");
  expect(tokens).toEqual({ accessToken: "token", refreshToken: null, idToken: null });
  expect(await github.profile(tokens, "n")).toMatchObject({
    subject: "7",
    emails: [{ primary: false }, { email: "ada@example.com", primary: true, verified: true }],
    claims: { user_name: "ada", full_name: "Ada", sub: "7" },
  });
});

test("Discord tells of an account by its own API", async () => {
  const url = await serve({
    "GET /api/users/@me": {
      id: "9",
      username: "ada",
      discriminator: "0",
      avatar: "a_b",
      email: "ada@example.com",
      verified: false,
    },
  });
  const tokens = { accessToken: "token", refreshToken: null, idToken: null };
  expect(await provider("discord", { url }).profile(tokens, "n")).toMatchObject({
    subject: "9",
    emails: [{ email: "ada@example.com", verified: false, primary: true }],
    claims: { avatar_url: "https://cdn.discordapp.com/avatars/9/a_b.gif" },
  });
});

test("an account described in an unknown way is refused", async () => {
  const url = await serve({ "GET /api/users/@me": { id: 9 } });
  const tokens = { accessToken: "token", refreshToken: null, idToken: null };
  await expect(provider("discord", { url }).profile(tokens, "n")).rejects.toThrow("unknown way");
});

test("a redirect_uri of config.toml takes the place of the stack's", async () => {
  const url = await provider("github", { redirect_uri: "https://tunnel.example.com/callback" })
    .authorizationUrl(REQUEST);
  expect(new URL(url).searchParams.get("redirect_uri")).toBe("https://tunnel.example.com/callback");
});

test.each<[string, Misbehaviour["discovery"]]>([
  ["another issuer", (document) => ({ ...document, issuer: "https://accounts.google.com" })],
  ["no keys", (document) => ({ ...document, jwks_uri: undefined })],
  ["an endpoint that is none", (document) => ({ ...document, token_endpoint: "file:///etc/x" })],
  ["nothing", () => []],
])("an issuer that describes %s is refused, until it mends", async (_case, discovery) => {
  const server = await startOidcProvider();
  try {
    const keycloak = provider("keycloak", { url: `${server.issuer}/` });
    server.misbehaviour = { discovery: discovery! };
    await expect(keycloak.authorizationUrl(REQUEST)).rejects.toThrow(server.issuer);
    server.misbehaviour = {};
    expect(await keycloak.authorizationUrl(REQUEST)).toContain(`${server.issuer}/authorize?`);
  } finally {
    await server.close();
  }
});

test("a provider that does not answer is waited for no longer than said", async () => {
  const silent = await serve({});
  await expect(fetchBounded(silent, {}, 50)).rejects.toThrow("did not answer within 0.05 s");
});

test("a provider that is not there is said to be", async () => {
  const gone = provider("keycloak", { url: "http://127.0.0.1:9" });
  await expect(gone.authorizationUrl(REQUEST)).rejects.toThrow("could not be reached");
});

test("an unknown provider without an issuer is named at the start", () => {
  expect(() => provider("acme")).toThrow("auth.external.acme in supabase/config.toml has no url");
});
