import { Buffer } from "node:buffer";
import { createHash, randomBytes } from "node:crypto";
import { mkdir, open, readFile, rename } from "node:fs/promises";
import { join } from "node:path";
import { exportJWK, generateKeyPair, importJWK, type JWK, jwtVerify, SignJWT } from "jose";
import { DATABASE_PASSWORD, type StackConfig } from "./config.ts";
import { StackError } from "./errors.ts";

/** Every credential of one local stack. Made at its first start, kept with mode 0600. */
export interface StackKeys {
  /** `sb_publishable_…`: stands for role `anon`. */
  publishable: string;
  /** `sb_secret_…`: stands for role `service_role`. */
  secret: string;
  /** ES256 JWT of role `anon`, valid for ten years. */
  anon: string;
  /** ES256 JWT of role `service_role`, valid for ten years. */
  serviceRole: string;
  /** Private ES256 key with `kid` and `alg`. */
  signingKey: JWK;
  /** The public half, as `/auth/v1/.well-known/jwks.json` serves it. */
  jwks: { keys: JWK[] };
  databasePassword: string;
  /** `ptr_…`: access token of the local Portainer. */
  portainerApiKey: string;
}

export interface TokenClaims {
  sub?: string;
  role: string;
  exp?: number;
  session_id?: string;
  [claim: string]: unknown;
}

export type TokenVerifier = (token: string) => Promise<TokenClaims>;

const FILE = "keys.json";
const TEN_YEARS = 10 * 365 * 24 * 3600;
const ROLES = new Set(["anon", "authenticated", "service_role"]);
const VERIFIED_TOKENS_KEPT = 1000;

/** What the file holds: the keys, and the issuer that its two tokens were signed for. */
interface KeyFile extends StackKeys {
  issuer: string;
}

/**
 * The stack's keys from `<stateDir>/keys.json`; the first start makes them. When the API moved to
 * another port, `anon` and `serviceRole` are signed anew, because their issuer names the URL.
 *
 * @throws {StackError} when the file is damaged
 */
export async function loadKeys(config: StackConfig): Promise<StackKeys> {
  const issuer = `${config.urls.api}/auth/v1`;
  const stored = await readKeys(config);
  if (stored?.issuer === issuer) return stored;
  const keys: KeyFile = { ...(stored ?? await generateKeys()), issuer, anon: "", serviceRole: "" };
  keys.anon = await signRoleToken(keys.signingKey, issuer, "anon");
  keys.serviceRole = await signRoleToken(keys.signingKey, issuer, "service_role");
  await writePrivately(config.stateDir, FILE, JSON.stringify(keys, null, 2) + "\n");
  return keys;
}

/** The keys of a stack that has been started before, or null. */
export async function readKeys(config: StackConfig): Promise<KeyFile | null> {
  const file = join(config.stateDir, FILE);
  let text: string;
  try {
    text = await readFile(file, "utf8");
  } catch (error) {
    if ((error as { code?: string }).code === "ENOENT") return null;
    throw error;
  }
  try {
    const keys = JSON.parse(text) as KeyFile;
    if (!keys.publishable || !keys.secret || !keys.signingKey?.d) throw new Error("incomplete");
    return keys;
  } catch (error) {
    throw new StackError(
      `${file} is damaged.`,
      "Delete it: the next start makes new keys, and clients need the new ones.",
      { cause: error },
    );
  }
}

/**
 * A function that checks a JWT of this stack and gives its claims. It throws for any other
 * algorithm than ES256, any other key, an expired token and any role but anon, authenticated and
 * service_role: a token that asks for `postgres` must not get it.
 */
export function createTokenVerifier(keys: Pick<StackKeys, "jwks">): TokenVerifier {
  const publicKey = importJWK(keys.jwks.keys[0]!, "ES256");
  // A client sends the same token for an hour; checking its signature each time costs 0.1 ms.
  const verified = new Map<string, TokenClaims>();
  return async (token) => {
    const known = verified.get(token);
    if (known !== undefined) {
      if (known.exp === undefined || known.exp * 1000 > Date.now()) return known;
      verified.delete(token);
    }
    const { payload } = await jwtVerify(token, await publicKey, { algorithms: ["ES256"] });
    if (typeof payload.role !== "string" || !ROLES.has(payload.role)) {
      throw new Error("the token's role is none that a client may have");
    }
    const claims = payload as TokenClaims;
    if (verified.size >= VERIFIED_TOKENS_KEPT) verified.delete(verified.keys().next().value!);
    verified.set(token, claims);
    return claims;
  };
}

/** Writes `<directory>/<name>` with mode 0600, whole or not at all. */
export async function writePrivately(dir: string, name: string, text: string): Promise<void> {
  // Postgres runs as another user when we are root and must be able to pass through.
  await mkdir(dir, { recursive: true, mode: 0o755 });
  const draft = join(dir, `.${name}.${Deno.pid}`);
  const file = await open(draft, "w", 0o600);
  try {
    await file.chmod(0o600);
    await file.writeFile(text);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(draft, join(dir, name));
}

async function generateKeys(): Promise<Omit<StackKeys, "anon" | "serviceRole">> {
  const { privateKey, publicKey } = await generateKeyPair("ES256", { extractable: true });
  const kid = crypto.randomUUID();
  const marks = { kid, alg: "ES256", use: "sig" };
  return {
    publishable: opaqueKey("sb_publishable_"),
    secret: opaqueKey("sb_secret_"),
    signingKey: { ...await exportJWK(privateKey), ...marks, key_ops: ["sign"] },
    jwks: { keys: [{ ...await exportJWK(publicKey), ...marks, key_ops: ["verify"] }] },
    databasePassword: DATABASE_PASSWORD,
    portainerApiKey: `ptr_${randomBytes(32).toString("base64")}`,
  };
}

/** The platform's shape: prefix, 22 random characters, underscore, 8 characters of checksum. */
function opaqueKey(prefix: string): string {
  const random = randomBytes(16).toString("base64url");
  const checksum = createHash("sha256").update(prefix + random).digest().subarray(0, 6);
  return `${prefix}${random}_${Buffer.from(checksum).toString("base64url")}`;
}

async function signRoleToken(key: JWK, issuer: string, role: string): Promise<string> {
  const now = Math.floor(Date.now() / 1000);
  return await new SignJWT({ role, iss: issuer, iat: now, exp: now + TEN_YEARS })
    .setProtectedHeader({ alg: "ES256", kid: key.kid, typ: "JWT" })
    .sign(await importJWK(key, "ES256"));
}
