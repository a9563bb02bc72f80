import { createTransport } from "nodemailer";
import type { SmtpSettings } from "./auth/settings.ts";
import type { Mail, SendMail } from "./inbox.ts";

/** As much of nodemailer as is used here; it brings no types of its own. */
interface Transport {
  sendMail(mail: unknown): Promise<unknown>;
  close(): void;
}

/** What one mail may take in all, so that a request that sends one ends in time. */
const DEADLINE_MS = 10_000;

/**
 * Sends mails through a mail server, as `[auth.email.smtp]` of config.toml describes it: over TLS
 * from the start on port 465, else as soon as the server offers it.
 */
export function createSmtpSender(settings: SmtpSettings, deadlineMs = DEADLINE_MS): SendMail {
  const { host, port, user, pass } = settings;
  return async (mail) => {
    // One connection a mail: they are few, and a server may close an idle one at any time.
    const transport: Transport = createTransport({
      host,
      port,
      secure: port === 465,
      ...(user !== "" && { auth: { user, pass } }),
      connectionTimeout: deadlineMs,
      greetingTimeout: deadlineMs,
      socketTimeout: deadlineMs,
      dnsTimeout: deadlineMs,
      disableFileAccess: true,
      disableUrlAccess: true,
    });
    let timer: ReturnType<typeof setTimeout> | undefined;
    // Its own limits begin anew with every byte, so a server that answers slowly could hold us.
    const late = new Promise<never>((_, reject) => {
      const fault = new SmtpFault(`The mail server did not take it within ${deadlineMs / 1000} s`);
      timer = setTimeout(() => reject(fault), deadlineMs);
    });
    try {
      await Promise.race([transport.sendMail(messageOf(mail)).catch(explain), late]);
    } finally {
      clearTimeout(timer);
      transport.close();
    }
  };
}

/** Why a mail server did not take a mail. Its own words, which may hold addresses, stay out. */
class SmtpFault extends Error {
  override readonly name = "SmtpFault";
}

function messageOf({ from, to, subject, text, html }: Mail) {
  // As parts, so that nothing in an address is taken for another one.
  return { from, to: { name: "", address: to }, subject, text, html };
}

function explain(error: { code?: string; responseCode?: number; command?: string }): never {
  const parts = [error.code, error.command, error.responseCode].filter((part) => part);
  throw new SmtpFault(`The mail server did not take it: ${parts.join(" ")}`);
}
