import { generateKeyPair, importJWK, SignJWT, UnsecuredJWT } from "jose";
import { createHmac } from "node:crypto";
import { readFile } from "node:fs/promises";
import path from "node:path";
import { describe, expect, test } from "vitest";
import { claimsOf, useAuth } from "./support.ts";

const auth = await useAuth();

function encode(value: unknown): string {
  return Buffer.from(JSON.stringify(value)).toString("base64url");
}

/** Signs claims with the stack's own key, as only Auth can. */
async function signed(claims: Record<string, unknown>, expiresAt = "1h"): Promise<string> {
  const file = path.join(auth.access.stateDir, "keys.json");
  const { signingKey } = JSON.parse(await readFile(file, "utf8"));
  return await new SignJWT(claims)
    .setProtectedHeader({ alg: "ES256", kid: signingKey.kid })
    .setIssuedAt()
    .setExpirationTime(expiresAt)
    .sign(await importJWK(signingKey, "ES256"));
}

async function userWith(token: string | null) {
  const { status, body } = await auth.request("/user", { token });
  return { status, code: body.code };
}

describe("GET /user refuses", () => {
  test("no credential of a user: the publishable key alone", async () => {
    expect(await userWith(null)).toEqual({ status: 403, code: "bad_jwt" });
  });

  test("a bearer that is no token", async () => {
    expect(await userWith("garbage")).toEqual({ status: 403, code: "bad_jwt" });
  });

  test("a token without a signature (alg none)", async () => {
    const { accessToken } = await auth.signUp();
    const forged = new UnsecuredJWT(claimsOf(accessToken)).encode();
    expect(await userWith(forged)).toEqual({ status: 403, code: "bad_jwt" });
  });

  test("a token signed with another key under our key's id", async () => {
    const { accessToken } = await auth.signUp();
    const { kid } = JSON.parse(Buffer.from(accessToken.split(".")[0]!, "base64url").toString());
    const { privateKey } = await generateKeyPair("ES256");
    const forged = await new SignJWT(claimsOf(accessToken))
      .setProtectedHeader({ alg: "ES256", kid })
      .sign(privateKey);
    expect(await userWith(forged)).toEqual({ status: 403, code: "bad_jwt" });
  });

  test("a token signed symmetrically with the public key", async () => {
    const { accessToken } = await auth.signUp();
    const { body } = await auth.request("/.well-known/jwks.json");
    const head = encode({ alg: "HS256", typ: "JWT", kid: body.keys[0]!.kid });
    const content = `${head}.${encode(claimsOf(accessToken))}`;
    const signature = createHmac("sha256", JSON.stringify(body.keys[0])).update(content);
    expect(await userWith(`${content}.${signature.digest("base64url")}`)).toEqual({
      status: 403,
      code: "bad_jwt",
    });
  });

  test("changed claims under a good signature", async () => {
    const { accessToken } = await auth.signUp();
    const stranger = await auth.signUp();
    const [head, , signature] = accessToken.split(".");
    const forged = [head, encode({ ...claimsOf(accessToken), sub: stranger.id }), signature];
    expect(await userWith(forged.join("."))).toEqual({ status: 403, code: "bad_jwt" });
  });

  test("an expired token", async () => {
    const { accessToken } = await auth.signUp();
    const { exp: _exp, ...claims } = claimsOf(accessToken);
    const { status, body } = await auth.request("/user", { token: await signed(claims, "-1m") });
    expect(status).toBe(403);
    expect(body).toEqual({
      code: "bad_jwt",
      message: "invalid JWT: unable to parse or verify signature, " +
        "token has invalid claims: token is expired",
    });
  });

  test("a token of a user who is gone", async () => {
    const { accessToken, id } = await auth.signUp();
    await auth.admin().auth.admin.deleteUser(id);
    expect(await userWith(accessToken)).toEqual({ status: 403, code: "user_not_found" });
  });

  test("a token of a banned user", async () => {
    const { accessToken, id } = await auth.signUp();
    await auth.admin().auth.admin.updateUserById(id, { ban_duration: "1h" });
    expect(await userWith(accessToken)).toEqual({ status: 403, code: "user_banned" });
  });

  test("a subject that is no id", async () => {
    const token = await signed({ sub: "me", role: "authenticated" });
    expect(await userWith(token)).toEqual({ status: 400, code: "bad_jwt" });
  });
});

test("the access token carries every claim of Auth", async () => {
  const { accessToken, id, email } = await auth.signUp({ full_name: "Ada" });
  const now = Math.floor(Date.now() / 1000);
  const claims = claimsOf(accessToken);
  expect(claims).toMatchObject({
    iss: `${auth.access.apiUrl}/auth/v1`,
    sub: id,
    aud: "authenticated",
    email,
    phone: "",
    app_metadata: { provider: "email", providers: ["email"] },
    user_metadata: { full_name: "Ada" },
    role: "authenticated",
    aal: "aal1",
    amr: [{ method: "password" }],
    is_anonymous: false,
  });
  expect(claims.exp).toBe(Number(claims.iat) + 3600);
  expect(Math.abs(Number(claims.iat) - now)).toBeLessThan(30);
  expect(claims.session_id).toMatch(/^[0-9a-f-]{36}$/);
});

test("the published key verifies the token", async () => {
  const { client } = await auth.signUp();
  const { data, error } = await client.auth.getClaims();
  expect(error).toBeNull();
  expect(data!.header.alg).toBe("ES256");
});

test("the published keys hold nothing private", async () => {
  const answer = await auth.request("/.well-known/jwks.json", { apikey: null });
  expect(answer.status).toBe(200);
  expect(answer.headers.get("cache-control")).toBe("public, max-age=600");
  for (const key of answer.body.keys) {
    expect(key).toMatchObject({ kty: "EC", crv: "P-256", alg: "ES256" });
    expect(key).not.toHaveProperty("d");
  }
});
