import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { exportJWK, generateKeyPair, type JSONWebKeySet, SignJWT, UnsecuredJWT } from "jose";
import { afterEach, beforeAll, describe, expect, it } from "vitest";
import { createTokenVerifier, type TokenVerifierOptions } from "../../shared/http/tokens.ts";

const ISSUER = "https://project.example.com/auth/v1";
const USER = "22222222-2222-4222-8222-222222222222";
const SECRET = "a-shared-secret-of-at-least-32-characters";

let keys: Awaited<ReturnType<typeof generateKeyPair>>;
let stranger: Awaited<ReturnType<typeof generateKeyPair>>;
let jwks: JSONWebKeySet;
const servers: Server[] = [];

beforeAll(async () => {
  keys = await generateKeyPair("ES256", { extractable: true });
  stranger = await generateKeyPair("ES256", { extractable: true });
  jwks = { keys: [{ ...(await exportJWK(keys.publicKey)), kid: "k1", alg: "ES256" }] };
});

afterEach(() => {
  for (const server of servers.splice(0)) server.close();
});

const options = (overrides: Partial<TokenVerifierOptions> = {}): TokenVerifierOptions => ({
  issuers: [ISSUER],
  jwks,
  jwksUrl: null,
  legacySecret: null,
  ...overrides,
});

function claims(overrides: Record<string, unknown> = {}) {
  const moment = Math.floor(Date.now() / 1000);
  return {
    sub: USER,
    role: "authenticated",
    iss: ISSUER,
    aud: "authenticated",
    iat: moment,
    exp: moment + 60,
    ...overrides,
  };
}

function sign(overrides: Record<string, unknown> = {}, key = keys.privateKey, kid = "k1") {
  return new SignJWT(claims(overrides)).setProtectedHeader({ alg: "ES256", kid }).sign(key);
}

const refused = { code: "INVALID_JWT_TOKEN", status: 401 };

describe("a token", () => {
  it("of a user is believed", async () => {
    const verified = await createTokenVerifier(options())(await sign());
    expect(verified.userId).toBe(USER);
  });

  it.each([
    ["expired", { exp: Math.floor(Date.now() / 1000) - 1 }],
    ["without an end", { exp: undefined }],
    ["of another issuer", { iss: "https://other.example.com/auth/v1" }],
    ["for another audience", { aud: "other" }],
    ["of the anon key", { role: "anon", sub: undefined }],
    ["of the service role", { role: "service_role" }],
    ["of the database owner", { role: "postgres" }],
    ["whose subject is no user id", { sub: "'; drop table agents; --" }],
    ["not valid yet", { nbf: Math.floor(Date.now() / 1000) + 60 }],
  ])("%s is refused", async (_name, overrides) => {
    await expect(createTokenVerifier(options())(await sign(overrides))).rejects.toMatchObject(
      refused,
    );
  });

  it("signed by another key under our key's name is refused", async () => {
    const token = await sign({}, stranger.privateKey);
    await expect(createTokenVerifier(options())(token)).rejects.toMatchObject(refused);
  });

  it("with alg none is refused", async () => {
    const token = new UnsecuredJWT(claims()).encode();
    await expect(createTokenVerifier(options())(token)).rejects.toMatchObject(refused);
  });

  it.each([["garbage"], ["a.b.c"], [""], ["alk_0123456789abcdef0123456789abcdef"]])(
    "that is %s is refused",
    async (token) => {
      await expect(createTokenVerifier(options())(token)).rejects.toMatchObject(refused);
    },
  );

  it("signed with the public key as a shared secret is refused", async () => {
    const secret = new TextEncoder().encode(JSON.stringify(jwks.keys[0]));
    const token = await new SignJWT(claims()).setProtectedHeader({ alg: "HS256", kid: "k1" }).sign(
      secret,
    );
    await expect(createTokenVerifier(options())(token)).rejects.toMatchObject(refused);
  });

  it("with HS256 is believed only when the project has a legacy secret", async () => {
    const token = await new SignJWT(claims()).setProtectedHeader({ alg: "HS256" }).sign(
      new TextEncoder().encode(SECRET),
    );
    await expect(createTokenVerifier(options())(token)).rejects.toMatchObject(refused);
    const legacy = createTokenVerifier(options({ legacySecret: SECRET }));
    expect((await legacy(token)).userId).toBe(USER);
  });

  it("stops being believed when it ends, although it was remembered", async () => {
    let moment = new Date();
    const verify = createTokenVerifier(options({ now: () => moment }));
    const token = await sign();
    await verify(token);
    moment = new Date(moment.getTime() + 61_000);
    await expect(verify(token)).rejects.toMatchObject(refused);
  });

  it("that was changed is not taken for the remembered one", async () => {
    const verify = createTokenVerifier(options());
    const token = await sign();
    await verify(token);
    const [header, , signature] = token.split(".");
    const forged = btoa(JSON.stringify(claims({ sub: USER.replace("2", "3") })))
      .replaceAll("=", "").replaceAll("+", "-").replaceAll("/", "_");
    await expect(verify(`${header}.${forged}.${signature}`)).rejects.toMatchObject(refused);
  });
});

describe("signing keys", () => {
  async function serveKeys(keySet: JSONWebKeySet): Promise<{ url: URL; asked: () => number }> {
    let asked = 0;
    const server = createServer((_request, response) => {
      asked++;
      response.setHeader("Content-Type", "application/json").end(JSON.stringify(keySet));
    });
    servers.push(server);
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const { port } = server.address() as AddressInfo;
    return { url: new URL(`http://127.0.0.1:${port}/jwks.json`), asked: () => asked };
  }

  it("that came after the function started are fetched", async () => {
    const later: JSONWebKeySet = {
      keys: [{ ...(await exportJWK(stranger.publicKey)), kid: "k2", alg: "ES256" }],
    };
    const { url } = await serveKeys(later);
    const verify = createTokenVerifier(options({ jwksUrl: url }));
    expect((await verify(await sign({}, stranger.privateKey, "k2"))).userId).toBe(USER);
  });

  it("are not fetched again for each unknown name", async () => {
    const { url, asked } = await serveKeys(jwks);
    const verify = createTokenVerifier(options({ jwksUrl: url }));
    for (const kid of ["x1", "x2", "x3", "x4"]) {
      await expect(verify(await sign({}, stranger.privateKey, kid))).rejects.toMatchObject(refused);
    }
    expect(asked()).toBe(1);
  });

  it("that cannot be read at all are the service's fault, not the token's", async () => {
    const verify = createTokenVerifier(options({
      jwks: null,
      jwksUrl: new URL("http://127.0.0.1:1/jwks.json"),
    }));
    await expect(verify(await sign())).rejects.toMatchObject({
      code: "SUPABASE_CONNECTION_ERROR",
      status: 503,
    });
  });
});
