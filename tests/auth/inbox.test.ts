import { beforeEach, describe, expect, test } from "vitest";
import { type Inbox, type Mail, startInbox } from "../../scripts/local/inbox.ts";
import { createLog } from "../../scripts/local/log.ts";
import { useAuth } from "./support.ts";

let inbox: Inbox;

beforeEach(() => {
  inbox = startInbox({
    host: "127.0.0.1",
    port: null,
    keep: 3,
    log: createLog("silent", () => {}),
  });
});

function mail(changes: Partial<Mail> = {}): Mail {
  return {
    from: { name: "Sender", address: "sender@example.com" },
    to: "ada@example.com",
    subject: "Hello",
    text: "Text of the mail",
    html: "<p>Text of the mail</p>",
    ...changes,
  };
}

async function get(path: string, method = "GET", body?: unknown) {
  const response = await inbox.fetch(
    new Request(`http://inbox${path}`, {
      method,
      ...(body !== undefined && { body: JSON.stringify(body) }),
    }),
  );
  const text = await response.text();
  const isJson = response.headers.get("content-type")?.includes("json");
  return { status: response.status, text, json: isJson ? JSON.parse(text) : null };
}

test("lists mails newest first, as Mailpit does", async () => {
  await inbox.sendMail(mail({ subject: "First" }));
  await inbox.sendMail(mail({ subject: "Second" }));
  const { json } = await get("/api/v1/messages");
  expect(json).toMatchObject({ total: 2, unread: 2, messages_count: 2, start: 0 });
  expect(json.messages.map(({ Subject }: { Subject: string }) => Subject)).toEqual([
    "Second",
    "First",
  ]);
  expect(json.messages[0]).toMatchObject({
    From: { Name: "Sender", Address: "sender@example.com" },
    To: [{ Address: "ada@example.com" }],
    Snippet: "Text of the mail",
    Read: false,
  });
});

test("pages", async () => {
  for (const subject of ["1", "2", "3"]) await inbox.sendMail(mail({ subject }));
  const { json } = await get("/api/v1/messages?start=1&limit=1");
  expect(json.messages).toMatchObject([{ Subject: "2" }]);
});

test("shows one mail whole, and then it is read", async () => {
  await inbox.sendMail(mail());
  const { json } = await get("/api/v1/message/latest");
  expect(json).toMatchObject({ Text: "Text of the mail", HTML: "<p>Text of the mail</p>" });
  expect((await get("/api/v1/messages")).json.unread).toBe(0);
  expect((await get(`/api/v1/message/${json.ID}`)).json.Subject).toBe("Hello");
});

test("keeps the newest mails up to its bound", async () => {
  for (const subject of ["1", "2", "3", "4"]) await inbox.sendMail(mail({ subject }));
  const { json } = await get("/api/v1/messages");
  expect(json.messages.map(({ Subject }: { Subject: string }) => Subject)).toEqual(["4", "3", "2"]);
});

describe("search", () => {
  test.each([
    ["to:ada@example.com", ["Hello"]],
    ['to:"ADA@example.com"', ["Hello"]],
    ["subject:other", ["Other"]],
    ["to:ada@example.com subject:other", []],
    ["grace", ["Other"]],
  ])("%s", async (query, subjects) => {
    await inbox.sendMail(mail());
    await inbox.sendMail(mail({ to: "grace@example.com", subject: "Other" }));
    const { json } = await get(`/api/v1/search?query=${encodeURIComponent(query)}`);
    expect(json.messages.map(({ Subject }: { Subject: string }) => Subject)).toEqual(subjects);
  });
});

test("deletes the mails named, or all", async () => {
  await inbox.sendMail(mail({ subject: "1" }));
  await inbox.sendMail(mail({ subject: "2" }));
  const { json } = await get("/api/v1/message/latest");
  await get("/api/v1/messages", "DELETE", { IDs: [json.ID] });
  expect((await get("/api/v1/messages")).json.messages).toMatchObject([{ Subject: "1" }]);
  await get("/api/v1/messages", "DELETE");
  expect((await get("/api/v1/messages")).json.total).toBe(0);
});

test("a mail's markup does not become the page's", async () => {
  await inbox.sendMail(mail({ subject: "<script>1</script>", html: '"><script>2</script>' }));
  for (const path of ["/", "/view/latest.html"]) {
    expect((await get(path)).text).not.toContain("<script>");
  }
});

test("shows the text of a mail by itself", async () => {
  await inbox.sendMail(mail());
  expect((await get("/view/latest.txt")).text).toBe("Text of the mail");
});

test("an unknown mail is 404", async () => {
  expect((await get("/api/v1/message/none")).status).toBe(404);
  expect((await get("/view/none.html")).status).toBe(404);
});

test("the stack's inbox has a page", async () => {
  const { access } = await useAuth();
  const response = await fetch(access.inboxUrl);
  expect(response.status).toBe(200);
  expect(await response.text()).toContain("<h1>Inbox</h1>");
});
