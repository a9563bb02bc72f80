import { createHash } from "node:crypto";
import { createClient } from "@supabase/supabase-js";
import { afterAll, afterEach, beforeEach, describe, expect, test } from "vitest";
import { createTestDatabase } from "../support/database.ts";
import { startOidcProvider } from "../support/oidc-provider.ts";
import { startAuthServer } from "./own-server.ts";
import { claimsOf, freshEmail, linkIn, PASSWORD } from "./support.ts";

const provider = await startOidcProvider();
const config = (name: string, more = "") => `
[auth.external."${name}"]
enabled = true
client_id = "${provider.clientId}"
secret = "${provider.clientSecret}"
url = "${provider.issuer}"
${more}
`;
const auth = await startAuthServer(
  `
[auth]
site_url = "http://localhost:3000"
additional_redirect_urls = ["https://app.example.com/welcome"]
enable_manual_linking = true
[auth.email]
enable_confirmations = true
max_frequency = "1ms"
${config("keycloak")}
${config("custom:lenient", "email_optional = true\nskip_nonce_check = true")}
`,
  await createTestDatabase(),
);
afterAll(async () => {
  await auth.stop();
  await provider.close();
});

beforeEach(() => {
  provider.person = {
    sub: crypto.randomUUID(),
    email: freshEmail(),
    email_verified: true,
    name: "Ada Lovelace",
    picture: "https://example.com/ada.png",
  };
});
afterEach(() => {
  provider.misbehaviour = {};
});

const HOME = "http://localhost:3000/home";

function client(flowType: "implicit" | "pkce" = "implicit") {
  return createClient(auth.access.apiUrl, auth.access.publishableKey, {
    auth: { flowType, persistSession: false, autoRefreshToken: false, detectSessionInUrl: false },
    realtime: { transport: class {} as unknown as typeof WebSocket },
  });
}

/** Where a plain browser is sent. */
async function location(url: string | URL): Promise<URL> {
  const { headers } = await fetch(url, { redirect: "manual" });
  return new URL(headers.get("location")!);
}

/** The address at the provider that a sign-in leads to. */
async function begin(
  from: ReturnType<typeof client>,
  options: Record<string, unknown> = {},
  name = "keycloak",
): Promise<URL> {
  const { data, error } = await from.auth.signInWithOAuth({
    provider: name as "keycloak",
    options: { redirectTo: HOME, ...options },
  });
  if (error) throw error;
  return await location(data.url!);
}

interface Arrival {
  url: URL;
  fragment: URLSearchParams;
  /** Where the provider sent the person: the callback. */
  callback: string;
}

/** A whole sign-in by the browser. */
async function signIn(
  options: Record<string, unknown> = {},
  name = "keycloak",
): Promise<Arrival> {
  return await arrive(await provider.signIn((await begin(client(), options, name)).href));
}

async function arrive(callback: string): Promise<Arrival> {
  const url = await location(callback);
  return { url, fragment: new URLSearchParams(url.hash.slice(1)), callback };
}

async function userOf({ fragment }: Arrival) {
  const token = fragment.get("access_token");
  if (token === null) throw new Error(`No session but ${fragment}`);
  return (await auth.request("/user", { token })).body as unknown as {
    id: string;
    email: string;
    email_confirmed_at?: string;
    app_metadata: Record<string, unknown>;
    user_metadata: Record<string, unknown>;
    identities: { provider: string; id: string; identity_id: string }[];
  };
}

describe("signing in", () => {
  test("leads to the provider with what it needs, and back with a session", async () => {
    const there = await begin(client(), { scopes: "offline_access", queryParams: { prompt: "x" } });
    expect(there.origin).toBe(provider.issuer);
    expect(Object.fromEntries(there.searchParams)).toMatchObject({
      client_id: provider.clientId,
      redirect_uri: `${auth.access.apiUrl}/auth/v1/callback`,
      response_type: "code",
      scope: "openid email profile offline_access",
      prompt: "x",
    });
    const arrival = await arrive(await provider.signIn(there.href));
    expect(arrival.url.href).toContain(`${HOME}#`);
    expect(arrival.fragment.get("provider_token")).toMatch(/^at-/);
    expect(arrival.fragment.get("provider_refresh_token")).toMatch(/^rt-/);
    const user = await userOf(arrival);
    expect(user).toMatchObject({
      email: provider.person.email,
      app_metadata: { provider: "keycloak", providers: ["keycloak"] },
      user_metadata: {
        full_name: "Ada Lovelace",
        avatar_url: "https://example.com/ada.png",
        email_verified: true,
      },
      identities: [{ provider: "keycloak", id: provider.person.sub }],
    });
    expect(claimsOf(arrival.fragment.get("access_token")!).amr).toMatchObject([
      { method: "oauth" },
    ]);
  });

  test("keeps the session from the browser's address when the client has a verifier", async () => {
    const verifying = client("pkce");
    const there = await begin(verifying);
    const { url } = await arrive(await provider.signIn(there.href));
    expect(url.hash).toBe("");
    const { data, error } = await verifying.auth.exchangeCodeForSession(
      url.searchParams.get("code")!,
    );
    expect(error).toBeNull();
    expect(data.user).toMatchObject({ email: provider.person.email });
    expect(data.session!.provider_token).toMatch(/^at-/);
    expect(data.session!.provider_refresh_token).toMatch(/^rt-/);
  });

  test("again is the same user, with what the provider says now", async () => {
    const first = await userOf(await signIn());
    provider.person = { ...provider.person, name: "Ada King", email: freshEmail() };
    const second = await userOf(await signIn());
    expect(second.id).toBe(first.id);
    expect(second.user_metadata.full_name).toBe("Ada King");
    expect(second.email).toBe(first.email);
  });

  test("twice at once makes one user", async () => {
    const callbacks = await Promise.all(
      [1, 2, 3].map(async () => await provider.signIn((await begin(client())).href)),
    );
    const users = await Promise.all(callbacks.map(async (one) => userOf(await arrive(one))));
    expect(new Set(users.map(({ id }) => id)).size).toBe(1);
    expect(users[0]!.identities).toHaveLength(1);
  });

  test("takes the address from the provider's own endpoint when the token has none", async () => {
    provider.misbehaviour = { leavesOut: ["email", "email_verified"] };
    expect((await userOf(await signIn())).email).toBe(provider.person.email);
  });

  test("never leads to an address that config.toml does not allow", async () => {
    for (const redirectTo of ["https://evil.test/", "javascript:alert(1)"]) {
      const { url, fragment } = await signIn({ redirectTo });
      expect(url.origin).toBe("http://localhost:3000");
      expect(fragment.get("access_token")).not.toBeNull();
    }
    const { url } = await signIn({ redirectTo: "https://app.example.com/welcome" });
    expect(url.host).toBe("app.example.com");
  });

  test("lets nothing of the client's take the place of what Auth sends", async () => {
    const there = await begin(client(), {
      queryParams: {
        redirect_uri: "https://evil.test",
        state: "mine",
        Client_ID: "mine",
        nonce: "mine",
        code_challenge_method: "",
      },
    });
    expect(there.href).not.toContain("evil");
    expect(there.href).not.toContain("mine");
  });

  test("names an unknown provider", async () => {
    expect(await auth.request("/authorize?provider=nobody")).toMatchObject({
      status: 400,
      body: { code: "validation_failed" },
    });
  });
});

describe("POST /authorize", () => {
  test("answers with the provider and the address of its sign-in", async () => {
    const answer = await auth.request("/authorize", {
      body: { provider: "keycloak", redirect_to: HOME },
    });
    expect(answer).toMatchObject({ status: 200, body: { provider: "keycloak" } });
    const arrival = await arrive(await provider.signIn(answer.body.url as string));
    expect(arrival.url.href).toContain(`${HOME}#`);
    expect((await userOf(arrival)).email).toBe(provider.person.email);
    expect(answer.headers.get("set-cookie")).toBeNull();
  });

  test("leads nowhere that GET would not", async () => {
    const { body } = await auth.request("/authorize", {
      body: { provider: "keycloak", redirect_to: "https://evil.test/" },
    });
    const { url } = await arrive(await provider.signIn(body.url as string));
    expect(url.origin).toBe("http://localhost:3000");
  });

  test("takes no other body", async () => {
    const answer = await auth.request("/authorize", { body: "provider=keycloak" });
    expect(answer).toMatchObject({ status: 400, body: { code: "bad_json" } });
  });
});

describe("an account of the same address", () => {
  async function confirmed() {
    const email = freshEmail();
    await auth.anonymous().auth.signUp({ email, password: PASSWORD });
    const [mail] = await auth.deliveredTo(email);
    await fetch(linkIn(mail!), { redirect: "manual" });
    return await auth.signIn(email);
  }

  test("gets the provider's account when the provider vouches for the address", async () => {
    const { id, email } = await confirmed();
    provider.person.email = email.toUpperCase();
    const user = await userOf(await signIn());
    expect(user.id).toBe(id);
    expect(user.app_metadata.providers).toEqual(["email", "keycloak"]);
    expect((await auth.signIn(email)).id).toBe(id);
  });

  test("does not when the provider does not", async () => {
    const { id, email } = await confirmed();
    provider.person = { ...provider.person, email, email_verified: false };
    const { fragment } = await signIn();
    expect(fragment.get("error_code")).toBe("provider_email_needs_verification");
    const identities = await auth.sql`select from auth.identities where user_id = ${id}`;
    expect(identities).toHaveLength(1);
  });

  test("loses its password when nobody had shown that the address is theirs", async () => {
    const email = freshEmail();
    await auth.anonymous().auth.signUp({ email, password: PASSWORD });
    provider.person.email = email;
    const user = await userOf(await signIn());
    expect(user.app_metadata.providers).toEqual(["keycloak"]);
    const { error } = await auth.anonymous().auth.signInWithPassword({ email, password: PASSWORD });
    expect(error).toMatchObject({ code: "invalid_credentials" });
  });

  test("is asked to confirm an address that the provider has not checked", async () => {
    provider.person.email_verified = false;
    const { url, fragment } = await signIn();
    expect(url.searchParams.get("error")).toBe("access_denied");
    expect(fragment.get("error_code")).toBe("provider_email_needs_verification");
    const [mail] = await auth.deliveredTo(provider.person.email!);
    await fetch(linkIn(mail!), { redirect: "manual" });
    expect((await userOf(await signIn())).email).toBe(provider.person.email);
  });

  test("an address is needed, unless config.toml says otherwise", async () => {
    delete provider.person.email;
    const { fragment } = await signIn();
    expect(fragment.get("error")).toBe("server_error");
    expect(fragment.get("error_description")).toBe(
      "Error getting user email from external provider",
    );
    const user = await userOf(await signIn({}, "custom:lenient"));
    expect(user).toMatchObject({ email: "", app_metadata: { provider: "custom:lenient" } });
  });

  test("a banned user stays out", async () => {
    const { id } = await userOf(await signIn());
    await auth.sql`update auth.users set banned_until = now() + interval '1 day' where id = ${id}`;
    expect((await signIn()).fragment.get("error_code")).toBe("user_banned");
  });
});

describe("an answer of the provider", () => {
  test("that says no reaches the client", async () => {
    provider.misbehaviour = { refuses: "access_denied" };
    const { url, fragment, callback } = await signIn();
    expect(url.href).toContain(HOME);
    expect(url.searchParams.get("error")).toBe("access_denied");
    expect(fragment.get("error_description")).toBe("The person said no");
    expect((await arrive(callback)).url.searchParams.get("error_code")).toBe("bad_oauth_state");
  });

  test.each([
    ["without a state", ""],
    ["with a state of no flow", `state=${crypto.randomUUID()}`],
    ["with a state that is none", "state=forged"],
  ])("%s leads to the site and signs nobody in", async (_case, query) => {
    const { url } = await arrive(`${auth.access.apiUrl}/auth/v1/callback?code=x&${query}`);
    expect(url.origin).toBe("http://localhost:3000");
    expect(url.searchParams.get("error_code")).toMatch(/^bad_oauth_(state|callback)$/);
    expect(url.hash).toBe("");
  });

  test("is good for five minutes", async () => {
    const callback = await provider.signIn((await begin(client())).href);
    const state = new URL(callback).searchParams.get("state")!;
    await auth.sql`
      update auth.flow_state set created_at = now() - interval '6 minutes' where id = ${state}`;
    expect((await arrive(callback)).url.searchParams.get("error_code")).toBe("bad_oauth_state");
  });

  test("works once, also for a client with a verifier", async () => {
    const { callback } = await signIn();
    expect((await arrive(callback)).url.searchParams.get("error_code")).toBe("bad_oauth_state");
    const again = await provider.signIn((await begin(client("pkce"))).href);
    await arrive(again);
    expect((await arrive(again)).url.searchParams.get("error_code")).toBe(
      "flow_state_already_used",
    );
  });

  test("may come as a form", async () => {
    const callback = new URL(await provider.signIn((await begin(client())).href));
    const response = await fetch(`${callback.origin}${callback.pathname}`, {
      method: "POST",
      body: callback.searchParams,
      redirect: "manual",
    });
    expect(response.headers.get("location")).toContain("access_token=");
  });

  test("with a code of somebody else's sign-in signs nobody in", async () => {
    const theirs = new URL(await provider.signIn((await begin(client())).href));
    const mine = new URL(await provider.signIn((await begin(client())).href));
    mine.searchParams.set("code", theirs.searchParams.get("code")!);
    const { fragment } = await arrive(mine.href);
    expect(fragment.get("error")).toBe("server_error");
    expect(fragment.has("access_token")).toBe(false);
  });

  const minute = 60;
  test.each<[string, typeof provider.misbehaviour]>([
    ["a refusal of the code", { token: { status: 400, body: "{}" } }],
    ["a broken server", { token: { status: 500, body: "oops" } }],
    ["text", { token: { status: 200, body: "<html>" } }],
    ["no tokens", { token: { status: 200, body: "{}" } }],
    ["two megabytes", { token: { status: 200, body: "x".repeat(2 << 20) } }],
    ["no ID token", { idToken: () => null }],
    ["an ID token by a foreign key", { foreignKey: true }],
    ["one for another client", { idToken: (claims) => ({ ...claims, aud: "other" }) }],
    ["one for two clients", { idToken: (claims) => ({ ...claims, aud: ["launchpad", "other"] }) }],
    ["one of another issuer", { idToken: (claims) => ({ ...claims, iss: "https://evil.test" }) }],
    ["an expired one", {
      idToken: (claims) => ({ ...claims, exp: Math.floor(Date.now() / 1000) - minute }),
    }],
    ["one for another request", { idToken: (claims) => ({ ...claims, nonce: "other" }) }],
    ["one without a nonce", { leavesOut: ["nonce"] }],
    ["one of another access token", { idToken: (claims) => ({ ...claims, at_hash: "other" }) }],
    ["one of nobody", { leavesOut: ["sub"] }],
    ["somebody else's details", { leavesOut: ["email"], userInfo: { sub: "other", email: "a@b" } }],
  ])("of %s signs nobody in and tells nothing of it", async (_case, misbehaviour) => {
    provider.misbehaviour = misbehaviour;
    const { url, fragment } = await signIn();
    expect(fragment.get("error")).toBe("server_error");
    expect(fragment.get("error_code")).toBe("unexpected_failure");
    expect(fragment.has("access_token")).toBe(false);
    expect(url.href).not.toContain("oops");
    const users = await auth.sql`select from auth.users where email = ${provider.person.email!}`;
    expect(users).toHaveLength(0);
  });
});

describe("linking", () => {
  async function signedIn() {
    const email = freshEmail();
    const one = client();
    const { error } = await one.auth.signUp({ email, password: PASSWORD });
    if (error) throw error;
    const [mail] = await auth.deliveredTo(email);
    await fetch(linkIn(mail!), { redirect: "manual" });
    await one.auth.signInWithPassword({ email, password: PASSWORD });
    return one;
  }

  async function link(one: ReturnType<typeof client>) {
    const { data, error } = await one.auth.linkIdentity({
      provider: "keycloak",
      options: { redirectTo: HOME },
    });
    if (error) throw error;
    return await arrive(await provider.signIn(data.url!));
  }

  test("adds the provider's account to the user's, and unlinking takes it off", async () => {
    const one = await signedIn();
    const linked = await userOf(await link(one));
    const { data } = await one.auth.getUserIdentities();
    expect(data!.identities.map(({ provider }) => provider)).toEqual(["email", "keycloak"]);
    expect((await userOf(await signIn())).id).toBe(linked.id);

    const added = data!.identities.find(({ provider }) => provider === "keycloak")!;
    expect((await one.auth.unlinkIdentity(added)).error).toBeNull();
    const left = (await one.auth.getUserIdentities()).data!.identities;
    expect(left.map(({ provider }) => provider)).toEqual(["email"]);
    expect((await one.auth.unlinkIdentity(left[0]!)).error).toMatchObject({
      status: 422,
      code: "single_identity_not_deletable",
    });
  });

  test("does not take another user's account", async () => {
    await signIn();
    const { fragment } = await link(await signedIn());
    expect(fragment.get("error_code")).toBe("identity_already_exists");
  });

  test("needs a signed-in user", async () => {
    const answer = await auth.request("/user/identities/authorize?provider=keycloak");
    expect(answer.status).toBe(403);
  });

  test("leaves another user's identities alone", async () => {
    const { identities } = await userOf(await signIn());
    const one = await signedIn();
    await link(one).catch(() => {});
    provider.person = { sub: crypto.randomUUID(), email: freshEmail(), email_verified: true };
    await link(one);
    const { error } = await one.auth.unlinkIdentity(
      { identity_id: identities[0]!.identity_id } as Parameters<typeof one.auth.unlinkIdentity>[0],
    );
    expect(error).toMatchObject({ status: 422, code: "identity_not_found" });
  });
});

describe("an ID token that the client brings", () => {
  const withToken = async (nonce?: string, claims = {}) =>
    await auth.anonymous().auth.signInWithIdToken({
      provider: "keycloak",
      token: await provider.idToken(claims),
      ...(nonce !== undefined && { nonce }),
    });

  test("signs in, with a nonce or without", async () => {
    const plain = await withToken();
    expect(plain.error).toBeNull();
    expect(plain.data.user).toMatchObject({ email: provider.person.email });
    const nonce = createHash("sha256").update("once").digest("hex");
    const bound = await withToken("once", { nonce });
    expect(bound.data.user!.id).toBe(plain.data.user!.id);
  });

  test.each([
    ["with another nonce", "other", { nonce: "x" }],
    ["with a nonce that the client does not show", undefined, { nonce: "x" }],
    ["for another client", undefined, { aud: "other" }],
    ["of another issuer", undefined, { iss: "https://evil.test" }],
    ["that is expired", undefined, { exp: 1 }],
  ])("%s does not", async (_case, nonce, claims) => {
    expect((await withToken(nonce, claims)).error).toMatchObject({ status: 400 });
  });

  test("by a foreign key does not", async () => {
    provider.misbehaviour = { foreignKey: true };
    expect((await withToken()).error).toMatchObject({ status: 400, message: "Bad ID token" });
  });
});

test("the settings name the providers that are enabled", async () => {
  const { body } = await auth.request("/settings");
  expect(body.external).toMatchObject({ keycloak: true, "custom:lenient": true, google: false });
});

test("no code, token or secret of a provider is in any log line", async () => {
  provider.misbehaviour = { token: { status: 400, body: "a-secret-of-the-provider" } };
  const { callback } = await signIn();
  provider.misbehaviour = {};
  const { fragment } = await signIn();
  const log = auth.output();
  expect(log).toContain("Unable to exchange external code");
  const secrets = [
    provider.clientSecret,
    "a-secret-of-the-provider",
    new URL(callback).searchParams.get("code")!,
    fragment.get("provider_token")!,
    fragment.get("access_token")!,
  ];
  for (const secret of secrets) expect(log).not.toContain(secret);
});
