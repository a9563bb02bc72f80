import type { SupabaseClient } from "@supabase/supabase-js";
import type postgres from "postgres";
import { type AuthStack, type SignedIn, useAuth } from "../auth/support.ts";
import type { StackAccess } from "../support/stack.ts";

export type StorageClient = SupabaseClient["storage"];

export interface RequestOptions {
  method?: string;
  /** Bearer token or key; null for none. Default: the secret key. */
  token?: string | null;
  headers?: Record<string, string>;
  body?: BodyInit | object;
}

/** What error answers hold. */
export interface Refusal {
  statusCode: string;
  error: string;
  message: string;
  code: string;
}

export interface StorageStack {
  access: StackAccess;
  /** As role `postgres`. */
  sql: postgres.Sql;
  auth: AuthStack;
  /** With the secret key: no policy stands in its way. */
  admin: StorageClient;
  anonymous: StorageClient;
  signUp(): Promise<SignedIn>;
  /** A bucket of its own, and its name. */
  bucket(options?: Parameters<StorageClient["createBucket"]>[1]): Promise<string>;
  /** Runs SQL that makes policies for the bucket; `$bucket` stands for its name as a literal. */
  policies(bucket: string, ...texts: string[]): Promise<void>;
  /** A plain request to `/storage/v1`, without the client library. */
  request(path: string, options?: RequestOptions): Promise<Response>;
}

/** The stack of this run with what storage tests do all the time. */
export async function useStorage(): Promise<StorageStack> {
  const auth = await useAuth();
  const { access, sql } = auth;
  const admin = auth.admin().storage;
  return {
    access,
    sql,
    auth,
    admin,
    anonymous: auth.anonymous().storage,
    signUp: () => auth.signUp(),
    async bucket(options) {
      const name = `test-${crypto.randomUUID()}`;
      must(await admin.createBucket(name, options));
      return name;
    },
    async policies(bucket, ...texts) {
      for (const text of texts) {
        const at = text.indexOf(" ");
        const rule = text.slice(at).replaceAll("$bucket", `'${bucket}'`);
        const name = `${bucket} ${crypto.randomUUID().slice(0, 8)}`;
        await sql.unsafe(
          `create policy "${name}" on storage.objects for ${text.slice(0, at)} ${rule}`,
        );
      }
    },
    request: (path, options = {}) => plain(access, path, options),
  };
}

function plain(access: StackAccess, path: string, options: RequestOptions): Promise<Response> {
  const { method = "GET", token = access.secretKey, headers = {}, body } = options;
  const isData = body === undefined || typeof body === "string" || body instanceof Blob ||
    body instanceof FormData || body instanceof ReadableStream || ArrayBuffer.isView(body);
  return fetch(`${access.apiUrl}/storage/v1${path}`, {
    method,
    headers: {
      ...(token !== null && { authorization: `Bearer ${token}` }),
      ...(token?.startsWith("sb_") && { apikey: token }),
      ...(!isData && { "content-type": "application/json" }),
      ...headers,
    },
    ...(body !== undefined && { body: isData ? body as BodyInit : JSON.stringify(body) }),
    ...(body instanceof ReadableStream && { duplex: "half" }),
  } as RequestInit);
}

/** The data of an answer that must be none of an error. */
export function must<T>({ data, error }: { data: T; error: unknown }): NonNullable<T> {
  if (error) throw error;
  return data!;
}

/** Status and message of a refusal, as storage-js tells them. Fails when it was none. */
export function refused({ error }: { error: unknown }): { statusCode: string; message: string } {
  if (!error) throw new Error("It was not refused.");
  const { statusCode, message } = error as { statusCode: string; message: string };
  return { statusCode, message };
}

export const NOT_ALLOWED = {
  statusCode: "403",
  message: "new row violates row-level security policy",
};
export const NOT_FOUND = { statusCode: "404", message: "Object not found" };
