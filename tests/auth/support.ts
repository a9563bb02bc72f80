import { createClient, type SupabaseClient } from "@supabase/supabase-js";
import postgres from "postgres";
import { afterAll } from "vitest";
import { type StackAccess, useStack } from "../support/stack.ts";

export const PASSWORD = "correct horse battery";

/** An address nobody has used. */
export function freshEmail(): string {
  return `user-${crypto.randomUUID()}@example.com`;
}

/** A client of a project that keeps its session in memory and refreshes only when told to. */
export function clientOf(url: string, key: string): SupabaseClient {
  return createClient(url, key, {
    auth: { persistSession: false, autoRefreshToken: false, detectSessionInUrl: false },
    // Node 20 has no WebSocket of its own, and nothing here opens one.
    realtime: { transport: class {} as unknown as typeof WebSocket },
  });
}

export interface SignedIn {
  client: SupabaseClient;
  email: string;
  id: string;
  accessToken: string;
  refreshToken: string;
}

export interface AuthStack {
  access: StackAccess;
  /** As role `postgres`. */
  sql: postgres.Sql;
  anonymous(): SupabaseClient;
  admin(): SupabaseClient;
  signUp(data?: Record<string, unknown>): Promise<SignedIn>;
  signIn(email: string, password?: string): Promise<SignedIn>;
  /** A plain request to `/auth/v1`, without the client library. */
  request(path: string, options?: RequestOptions): Promise<Answer>;
  refresh(refreshToken: string): Promise<Answer>;
  deliveredTo(email: string): Promise<InboxMail[]>;
}

export interface RequestOptions {
  method?: string;
  body?: unknown;
  /** Bearer token; null for none. Default: the publishable key alone. */
  token?: string | null;
  apikey?: string | null;
  headers?: Record<string, string>;
}

/** What answers of Auth hold, as far as tests look into them; empty for none and for other text. */
export interface AnswerBody {
  code?: string | number;
  message?: string;
  refresh_token: string;
  keys: Record<string, unknown>[];
  users: { created_at: string }[];
  [field: string]: unknown;
}

export interface Answer {
  status: number;
  headers: Headers;
  body: AnswerBody;
}

export interface InboxMail {
  ID: string;
  Subject: string;
  Text: string;
  HTML: string;
}

/** The stack of this run with what auth tests do all the time. */
export async function useAuth(): Promise<AuthStack> {
  const access = await useStack();
  const sql = postgres(access.dbUrl, { max: 2, onnotice: () => {} });
  afterAll(() => sql.end({ timeout: 1 }));
  return authTools(access, sql);
}

export function authTools(access: StackAccess, sql: postgres.Sql): AuthStack {
  const anonymous = () => clientOf(access.apiUrl, access.publishableKey);
  const request = (path: string, options: RequestOptions = {}) =>
    call(`${access.apiUrl}/auth/v1${path}`, access.publishableKey, options);
  const tools: AuthStack = {
    access,
    sql,
    anonymous,
    admin: () => clientOf(access.apiUrl, access.secretKey),
    request,
    refresh: (refreshToken) =>
      request("/token?grant_type=refresh_token", { body: { refresh_token: refreshToken } }),
    async signUp(data) {
      const email = freshEmail();
      const client = anonymous();
      const { data: { session }, error } = await client.auth.signUp({
        email,
        password: PASSWORD,
        options: { ...(data && { data }) },
      });
      if (error) throw error;
      return signedIn(client, email, session!);
    },
    async signIn(email, password = PASSWORD) {
      const client = anonymous();
      const { data: { session }, error } = await client.auth.signInWithPassword({
        email,
        password,
      });
      if (error) throw error;
      return signedIn(client, email, session!);
    },
    async deliveredTo(email) {
      const list = await fetch(
        `${access.inboxUrl}/api/v1/search?query=${encodeURIComponent(`to:"${email}"`)}`,
      ).then((response) => response.json()) as { messages: { ID: string }[] };
      return await Promise.all(
        list.messages.map(({ ID }) =>
          fetch(`${access.inboxUrl}/api/v1/message/${ID}`).then((response) =>
            response.json() as Promise<InboxMail>
          )
        ),
      );
    },
  };
  return tools;
}

/** The six digits in a mail. */
export function codeIn(mail: InboxMail): string {
  return /Code: (\d{6})/.exec(mail.Text)![1]!;
}

/** The link in a mail. */
export function linkIn(mail: InboxMail): string {
  return /https?:\/\/\S+/.exec(mail.Text)![0];
}

/** What a token says, unchecked. */
export function claimsOf(token: string): Record<string, unknown> {
  return JSON.parse(Buffer.from(token.split(".")[1]!, "base64url").toString());
}

function signedIn(
  client: SupabaseClient,
  email: string,
  session: { access_token: string; refresh_token: string; user: { id: string } },
): SignedIn {
  return {
    client,
    email,
    id: session.user.id,
    accessToken: session.access_token,
    refreshToken: session.refresh_token,
  };
}

async function call(url: string, publishableKey: string, options: RequestOptions): Promise<Answer> {
  const { body, token, apikey = publishableKey } = options;
  const headers = new Headers({ "x-supabase-api-version": "2024-01-01", ...options.headers });
  if (apikey !== null) headers.set("apikey", apikey);
  if (token) headers.set("authorization", `Bearer ${token}`);
  if (body !== undefined) headers.set("content-type", "application/json");
  const response = await fetch(url, {
    method: options.method ?? (body === undefined ? "GET" : "POST"),
    headers,
    redirect: "manual",
    ...(body !== undefined && { body: typeof body === "string" ? body : JSON.stringify(body) }),
  });
  const text = await response.text();
  return { status: response.status, headers: response.headers, body: parse(text) };
}

function parse(text: string): AnswerBody {
  try {
    return JSON.parse(text);
  } catch {
    return {} as AnswerBody;
  }
}
