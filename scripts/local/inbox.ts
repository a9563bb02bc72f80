import type { Log } from "./log.ts";
import { renderInbox, renderMail } from "./inbox-page.ts";

/** A mail on its way to somebody. */
export interface Mail {
  from: { name: string; address: string };
  /** One address. */
  to: string;
  subject: string;
  text: string;
  html: string;
}

export type SendMail = (mail: Mail) => Promise<void>;

/** A mail as the inbox keeps it. */
export interface KeptMail extends Mail {
  id: string;
  /** When it arrived. */
  date: Date;
  read: boolean;
}

export interface Inbox {
  sendMail: SendMail;
  /** Answers the page and the API; for tests that need no port. */
  fetch(request: Request): Promise<Response>;
  close(): Promise<void>;
}

export interface InboxOptions {
  host: string;
  /** Null for an inbox that only `fetch` reaches. */
  port: number | null;
  log: Log;
  /** Older mails make way for new ones beyond this number. */
  keep?: number;
}

const DEFAULT_KEEP = 500;

/**
 * Where the stack's mails end up instead of leaving the machine. Speaks the part of Mailpit's API
 * that clients of `supabase start` use (`/api/v1/messages`, `/api/v1/search?query=to:…`,
 * `/api/v1/message/{ID|latest}`, `/view/{ID|latest}.html|.txt`) and shows a plain page.
 * Mails live in memory: they hold one-time codes, which are worthless after an hour anyway.
 *
 * @throws Deno.errors.AddrInUse when the port is taken
 */
export function startInbox(options: InboxOptions): Inbox {
  const keep = options.keep ?? DEFAULT_KEEP;
  /** Newest first. */
  let mails: KeptMail[] = [];

  const answer = (request: Request): Promise<Response> =>
    handle(request, {
      list: () => mails,
      remove: (ids) => mails = ids === null ? [] : mails.filter(({ id }) => !ids.has(id)),
    });
  const server = options.port === null ? null : Deno.serve(
    { hostname: options.host, port: options.port, onListen() {} },
    answer,
  );
  return {
    sendMail(mail) {
      const id = crypto.randomUUID().replaceAll("-", "").slice(0, 22);
      mails = [{ ...mail, id, date: new Date(), read: false }, ...mails].slice(0, keep);
      // Neither subject nor body: they carry codes.
      options.log.debug("mail delivered", { id });
      return Promise.resolve();
    },
    fetch: answer,
    close: async () => await server?.shutdown(),
  };
}

interface Mailbox {
  list(): KeptMail[];
  /** @param ids null for all */
  remove(ids: Set<string> | null): void;
}

async function handle(request: Request, mailbox: Mailbox): Promise<Response> {
  const url = new URL(request.url);
  const [first, second, third, id] = url.pathname.slice(1).split("/");
  if (first === "" && request.method === "GET") return html(renderInbox(mailbox.list()));
  if (first === "view" && second !== undefined) return view(mailbox, second);
  if (first !== "api" || second !== "v1") return notFound();

  if (third === "messages" || third === "search") {
    if (request.method === "DELETE") {
      mailbox.remove(await idsToDelete(request, url, mailbox, third));
      return new Response("ok");
    }
    if (request.method !== "GET") return new Response(null, { status: 405 });
    const query = third === "search" ? url.searchParams.get("query") ?? "" : "";
    return Response.json(presentList(mailbox.list(), query, url.searchParams));
  }
  if (third === "message" && id !== undefined && request.method === "GET") {
    const mail = find(mailbox, id);
    if (mail === undefined) return notFound();
    mail.read = true;
    return Response.json(presentMail(mail));
  }
  return notFound();
}

function view(mailbox: Mailbox, name: string): Response {
  const [, id, kind] = /^(.+?)(?:\.(html|txt))?$/.exec(name) ?? [];
  const mail = id === undefined ? undefined : find(mailbox, id);
  if (mail === undefined) return notFound();
  mail.read = true;
  return kind === "txt"
    ? new Response(mail.text, { headers: { "content-type": "text/plain; charset=utf-8" } })
    : html(renderMail(mail));
}

async function idsToDelete(
  request: Request,
  url: URL,
  mailbox: Mailbox,
  endpoint: string,
): Promise<Set<string> | null> {
  if (endpoint === "search") {
    const query = url.searchParams.get("query") ?? "";
    return new Set(mailbox.list().filter((mail) => matches(mail, query)).map(({ id }) => id));
  }
  const body = await request.json().catch(() => ({})) as { IDs?: string[] };
  return body.IDs?.length ? new Set(body.IDs) : null;
}

function find(mailbox: Mailbox, id: string): KeptMail | undefined {
  const mails = mailbox.list();
  return id === "latest" ? mails[0] : mails.find((mail) => mail.id === id);
}

/** Mailpit's search, as far as tests use it: `to:`, `from:`, `subject:` and bare words, all of them. */
function matches(mail: KeptMail, query: string): boolean {
  const terms = query.match(/(?:\w+:)?(?:"[^"]*"|\S+)/g) ?? [];
  return terms.every((term) => {
    const [, field, wanted] = /^(?:(to|from|subject):)?"?([^"]*)"?$/i.exec(term) ?? [];
    const sought = (wanted ?? term).toLowerCase();
    const texts = {
      to: [mail.to],
      from: [mail.from.address, mail.from.name],
      subject: [mail.subject],
    }[field?.toLowerCase() ?? ""] ?? [mail.to, mail.from.address, mail.subject, mail.text];
    return texts.some((text) => text.toLowerCase().includes(sought));
  });
}

function presentList(mails: KeptMail[], query: string, params: URLSearchParams) {
  const found = mails.filter((mail) => matches(mail, query));
  const start = count(params.get("start"), 0);
  const limit = count(params.get("limit"), 50);
  return {
    total: mails.length,
    unread: mails.filter(({ read }) => !read).length,
    messages_count: found.length,
    start,
    tags: [],
    messages: found.slice(start, start + limit).map((mail) => ({
      ...presentHead(mail),
      Read: mail.read,
      Created: mail.date.toISOString(),
      Attachments: 0,
      Snippet: mail.text.replace(/\s+/g, " ").slice(0, 250),
    })),
  };
}

function presentMail(mail: KeptMail) {
  return {
    ...presentHead(mail),
    ReturnPath: mail.from.address,
    Date: mail.date.toISOString(),
    Text: mail.text,
    HTML: mail.html,
    Inline: [],
    Attachments: [],
  };
}

function presentHead(mail: KeptMail) {
  return {
    ID: mail.id,
    MessageID: `${mail.id}@inbox`,
    From: { Name: mail.from.name, Address: mail.from.address },
    To: [{ Name: "", Address: mail.to }],
    Cc: [],
    Bcc: [],
    ReplyTo: [],
    Subject: mail.subject,
    Tags: [],
    Size: mail.text.length + mail.html.length,
  };
}

function count(text: string | null, fallback: number): number {
  return text !== null && /^\d+$/.test(text) ? Number(text) : fallback;
}

function html(body: string): Response {
  return new Response(body, { headers: { "content-type": "text/html; charset=utf-8" } });
}

function notFound(): Response {
  return Response.json({ Error: "Not found" }, { status: 404 });
}
