import { createHash } from "node:crypto";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { exportJWK, generateKeyPair, type JWTPayload, SignJWT } from "jose";

/** Somebody who signs in at the provider. */
export interface Person {
  sub: string;
  email?: string;
  email_verified?: boolean | string;
  name?: string;
  picture?: string;
  [claim: string]: unknown;
}

/** What the provider does other than it should. */
export interface Misbehaviour {
  /** Changes what it says of itself. */
  discovery?: (document: Record<string, unknown>) => unknown;
  /** Sends the person back with this error instead of a code. */
  refuses?: string;
  /** Answers the exchange of a code with this instead of tokens. */
  token?: { status: number; body: string };
  /** Changes the claims of ID tokens; null for no ID token at all. */
  idToken?: (claims: JWTPayload) => JWTPayload | null;
  /** Signs with a key that it does not publish. */
  foreignKey?: boolean;
  /** Leaves these claims to the endpoint for them. */
  leavesOut?: string[];
  /** What that endpoint says instead. */
  userInfo?: Record<string, unknown>;
}

export interface OidcProvider {
  issuer: string;
  clientId: string;
  clientSecret: string;
  /** Who signs in from now on. */
  person: Person;
  misbehaviour: Misbehaviour;
  /** Signs in at the address that Auth led to, and gives the address the browser is sent back to. */
  signIn(authorizationUrl: string): Promise<string>;
  /** An ID token as a phone app gets it from the provider. */
  idToken(claims?: JWTPayload): Promise<string>;
  close(): Promise<void>;
}

interface Grant {
  redirectUri: string;
  challenge: string;
  nonce: string | null;
  person: Person;
}

/** A small OpenID Connect provider over HTTP: discovery, keys, authorize, token, userinfo. */
export async function startOidcProvider(): Promise<OidcProvider> {
  const clientId = "launchpad";
  const clientSecret = "a secret: with % and +";
  const ours = await generateKeyPair("RS256");
  const foreign = await generateKeyPair("RS256");
  const jwk = { ...await exportJWK(ours.publicKey), kid: "key-1", alg: "RS256", use: "sig" };
  const grants = new Map<string, Grant>();
  const holders = new Map<string, Person>();

  const server = createServer((request, response) => void answer(request, response));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const issuer = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const provider: OidcProvider = {
    issuer,
    clientId,
    clientSecret,
    person: { sub: crypto.randomUUID() },
    misbehaviour: {},
    async signIn(authorizationUrl) {
      const { status, headers } = await fetch(authorizationUrl, { redirect: "manual" });
      if (status !== 302) throw new Error(`The provider answered ${status}`);
      return headers.get("location")!;
    },
    idToken: (claims = {}) => sign({ ...provider.person, ...claims }),
    close: () => new Promise((resolve) => server.close(() => resolve())),
  };

  async function sign(claims: JWTPayload): Promise<string> {
    const { misbehaviour } = provider;
    const keys = misbehaviour.foreignKey ? foreign : ours;
    const now = Math.floor(Date.now() / 1000);
    const payload = { iss: issuer, aud: clientId, iat: now, exp: now + 300, ...claims };
    return await new SignJWT(payload).setProtectedHeader({ alg: "RS256", kid: "key-1" })
      .sign(keys.privateKey);
  }

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url!, issuer);
    switch (url.pathname) {
      case "/.well-known/openid-configuration":
        return json(response, describe());
      case "/jwks":
        return json(response, { keys: [jwk] });
      case "/authorize":
        return authorize(url.searchParams, response);
      case "/token":
        return token(request, new URLSearchParams(await read(request)), response);
      case "/userinfo":
        return userInfo(request, response);
      default:
        response.writeHead(404).end();
    }
  }

  function describe(): unknown {
    const document = {
      issuer,
      authorization_endpoint: `${issuer}/authorize`,
      token_endpoint: `${issuer}/token`,
      userinfo_endpoint: `${issuer}/userinfo`,
      jwks_uri: `${issuer}/jwks`,
      response_types_supported: ["code"],
      token_endpoint_auth_methods_supported: ["client_secret_basic"],
      code_challenge_methods_supported: ["S256"],
    };
    return provider.misbehaviour.discovery?.(document) ?? document;
  }

  function authorize(query: URLSearchParams, response: ServerResponse): void {
    const sound = query.get("client_id") === clientId && query.get("response_type") === "code" &&
      query.get("code_challenge_method") === "S256" &&
      query.get("scope")!.split(" ").includes("openid");
    if (!sound) return void response.writeHead(400).end();
    const back = new URL(query.get("redirect_uri")!);
    back.searchParams.set("state", query.get("state")!);
    const { refuses } = provider.misbehaviour;
    if (refuses !== undefined) {
      back.searchParams.set("error", refuses);
      back.searchParams.set("error_description", "The person said no");
    } else {
      const code = crypto.randomUUID();
      back.searchParams.set("code", code);
      grants.set(code, {
        redirectUri: query.get("redirect_uri")!,
        challenge: query.get("code_challenge")!,
        nonce: query.get("nonce"),
        person: provider.person,
      });
    }
    response.writeHead(302, { location: back.href }).end();
  }

  async function token(
    request: IncomingMessage,
    form: URLSearchParams,
    response: ServerResponse,
  ): Promise<void> {
    const { misbehaviour } = provider;
    if (misbehaviour.token !== undefined) {
      response.writeHead(misbehaviour.token.status).end(misbehaviour.token.body);
      return;
    }
    const grant = grants.get(form.get("code") ?? "");
    grants.delete(form.get("code") ?? "");
    const verifier = form.get("code_verifier") ?? "";
    const sound = grant !== undefined && request.headers.authorization === basic() &&
      form.get("grant_type") === "authorization_code" &&
      form.get("redirect_uri") === grant.redirectUri &&
      createHash("sha256").update(verifier).digest("base64url") === grant.challenge;
    if (!sound) return json(response, { error: "invalid_grant" }, 400);
    const accessToken = `at-${crypto.randomUUID()}`;
    holders.set(accessToken, grant.person);
    const all: JWTPayload = {
      ...grant.person,
      ...(grant.nonce !== null && { nonce: grant.nonce }),
      at_hash: createHash("sha256").update(accessToken).digest().subarray(0, 16)
        .toString("base64url"),
    };
    const left = misbehaviour.leavesOut ?? [];
    const told = Object.fromEntries(Object.entries(all).filter(([name]) => !left.includes(name)));
    const claims = misbehaviour.idToken === undefined ? told : misbehaviour.idToken(told);
    json(response, {
      access_token: accessToken,
      refresh_token: `rt-${crypto.randomUUID()}`,
      token_type: "Bearer",
      ...(claims !== null && { id_token: await sign(claims) }),
    });
  }

  function userInfo(request: IncomingMessage, response: ServerResponse): void {
    const holder = holders.get((request.headers.authorization ?? "").replace("Bearer ", ""));
    if (holder === undefined) return json(response, {}, 401);
    json(response, provider.misbehaviour.userInfo ?? holder);
  }

  function basic(): string {
    const encoded = new URLSearchParams({ "": clientSecret }).toString().slice(1);
    return `Basic ${btoa(`${clientId}:${encoded}`)}`;
  }

  return provider;
}

async function read(request: IncomingMessage): Promise<string> {
  let text = "";
  for await (const chunk of request) text += chunk;
  return text;
}

function json(response: ServerResponse, body: unknown, status = 200): void {
  response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
}
