import { afterAll, afterEach, describe, expect, test } from "vitest";
import { createSmtpSender } from "../../scripts/local/smtp.ts";
import { createTestDatabase } from "../support/database.ts";
import { startSmtpServer } from "../support/smtp-server.ts";
import { startAuthServer } from "./own-server.ts";
import { freshEmail, PASSWORD } from "./support.ts";

const smtp = await startSmtpServer();
const auth = await startAuthServer(
  `
[auth.email]
enable_confirmations = true
max_frequency = "1h"
[auth.email.smtp]
host = "127.0.0.1"
port = ${smtp.port}
user = "launchpad"
pass = "mail secret"
admin_email = "admin@example.com"
sender_name = "Launchpad, Inc."
`,
  await createTestDatabase(),
);
afterAll(async () => {
  await auth.stop();
  await smtp.close();
});
afterEach(() => {
  smtp.mood = "well";
});

const askForLink = (email: string) => auth.anonymous().auth.signInWithOtp({ email });

function mailsTo(email: string) {
  return smtp.mails.filter(({ to }) => to.includes(email));
}

describe("with a mail server in config.toml", () => {
  test("mails go there, from the address named there, and not to the inbox", async () => {
    const email = freshEmail();
    expect((await askForLink(email)).error).toBeNull();
    const [mail] = mailsTo(email);
    expect(mail).toMatchObject({
      from: "admin@example.com",
      to: [email],
      credentials: "launchpad mail secret",
    });
    expect(mail!.headers).toContain('From: "Launchpad, Inc." <admin@example.com>');
    expect(mail!.headers).toContain("Subject: Confirm your email address");
    expect(await auth.deliveredTo(email)).toEqual([]);
  });

  test("the link in the mail signs in", async () => {
    const email = freshEmail();
    await askForLink(email);
    const [link] = /http:\/\/127\S+verify\S+/.exec(mailsTo(email)[0]!.text)!;
    const { headers } = await fetch(link, { redirect: "manual" });
    expect(headers.get("location")).toContain("access_token=");
  });

  test.each(["refuse", "reset"] as const)(
    "that does not take the mail (%s), the request fails and can be made again at once",
    async (mood) => {
      const email = freshEmail();
      smtp.mood = mood;
      expect(await auth.request("/otp", { body: { email } })).toMatchObject({
        status: 500,
        body: { code: "unexpected_failure", message: "Error sending confirmation email" },
      });
      smtp.mood = "well";
      expect((await askForLink(email)).error).toBeNull();
      expect(mailsTo(email)).toHaveLength(1);
    },
  );

  test("that fails, a new account is not lost", async () => {
    const email = freshEmail();
    smtp.mood = "refuse";
    const failed = await auth.anonymous().auth.signUp({ email, password: PASSWORD });
    expect(failed.error).toMatchObject({ status: 500 });
    smtp.mood = "well";
    expect((await auth.anonymous().auth.signUp({ email, password: PASSWORD })).error).toBeNull();
    expect(mailsTo(email)).toHaveLength(1);
  });

  test("neither its words nor its password nor an address is in any log line", async () => {
    const email = freshEmail();
    smtp.mood = "refuse";
    await askForLink(email);
    const log = auth.output();
    expect(log).toContain("EENVELOPE");
    for (const secret of ["no such mailbox", "mail secret", email]) {
      expect(log).not.toContain(secret);
    }
  });
});

describe("a mail server", () => {
  const mail = {
    from: { name: "", address: "admin@example.com" },
    to: "ada@example.com",
    subject: "Hello",
    text: "Hello",
    html: "<p>Hello</p>",
  };
  const sender = (port: number) =>
    createSmtpSender({
      host: "127.0.0.1",
      port,
      user: "",
      pass: "",
      adminEmail: "admin@example.com",
      senderName: "",
    }, 300);

  test.each(["silent", "slow"] as const)("that is %s is given up in time", async (mood) => {
    smtp.mood = mood;
    await expect(sender(smtp.port)(mail)).rejects.toThrow("The mail server did not take it");
  });

  test("that is not there is said to be so at once", async () => {
    await expect(sender(9)(mail)).rejects.toThrow("ESOCKET");
  });

  test("gets nothing but the one receiver, whatever the address holds", async () => {
    const to = "ada@example.com, eve@example.com";
    await sender(smtp.port)({ ...mail, to }).catch(() => {});
    expect(mailsTo("eve@example.com")).toEqual([]);
  });
});
