import type { Mail as SentMail } from "../inbox.ts";
import type { AuthContext } from "./context.ts";
import { internal } from "./errors.ts";

/** A mail that waits for its transaction to commit. */
export interface Mail extends SentMail {
  kind: MailKind;
  /** Whose code it carries. */
  userId: string;
}

export type MailKind =
  | "signup"
  | "invite"
  | "recovery"
  | "magiclink"
  | "email_change"
  | "reauthentication";

/** What each kind is called when it cannot be sent. */
const NAMES: Record<MailKind, string> = {
  signup: "confirmation",
  invite: "invite",
  recovery: "recovery",
  magiclink: "magic link",
  email_change: "email change",
  reauthentication: "reauthentication",
};

const SENT_AT = {
  signup: "confirmation_sent_at",
  invite: "confirmation_sent_at",
  recovery: "recovery_sent_at",
  magiclink: "recovery_sent_at",
  email_change: "email_change_sent_at",
  reauthentication: "reauthentication_sent_at",
} as const satisfies Record<MailKind, string>;

/**
 * Hands a mail over. When that fails it counts as not sent, so that the person need not wait to ask
 * for another.
 *
 * @throws {AuthError} `unexpected_failure` (500)
 */
export async function deliver({ sendMail, sql }: AuthContext, mail: Mail): Promise<void> {
  const { kind, userId, ...sent } = mail;
  try {
    await sendMail(sent);
  } catch (cause) {
    await sql`update auth.users set ${sql(SENT_AT[kind])} = null where id = ${userId}`;
    throw internal(`Error sending ${NAMES[kind]} email`, cause);
  }
}

/** What a mail carries. */
export interface MailContent {
  otp: string;
  hash: string;
  redirectTo: string;
  /** The address to change to, in mails about that. */
  newEmail?: string;
}

interface Wording {
  subject: string;
  heading: string;
  text: (content: MailContent) => string;
  /** Text of the link; mails without a link carry the code only. */
  link: string | null;
}

const WORDINGS: Record<MailKind, Wording> = {
  signup: {
    subject: "Confirm your email address",
    heading: "Confirm your email address",
    text: () => "Follow the link to confirm this address and finish signing up.",
    link: "Confirm email address",
  },
  invite: {
    subject: "You have been invited",
    heading: "You have been invited",
    text: () => "Follow the link to accept the invitation and create your account.",
    link: "Accept the invitation",
  },
  recovery: {
    subject: "Reset your password",
    heading: "Reset your password",
    text: () => "Follow the link to choose a new password.",
    link: "Reset password",
  },
  magiclink: {
    subject: "Your sign-in link",
    heading: "Sign in",
    text: () => "Follow the link to sign in. It works once.",
    link: "Sign in",
  },
  email_change: {
    subject: "Confirm the change of your email address",
    heading: "Confirm the change of your email address",
    text: ({ newEmail }) => `Follow the link to make ${newEmail} the address of your account.`,
    link: "Confirm the change",
  },
  reauthentication: {
    subject: "Confirm that it is you",
    heading: "Confirm that it is you",
    text: () => "Enter the code to go on.",
    link: null,
  },
};

/** The mail that carries a code, as text and HTML. */
export function writeMail(
  context: AuthContext,
  kind: MailKind,
  userId: string,
  to: string,
  content: MailContent,
): Mail {
  const { subject, heading, text, link } = WORDINGS[kind];
  const url = link === null ? null : actionLink(context, kind, content);
  const ignore = "If you did not ask for this, ignore this mail.";
  return {
    kind,
    userId,
    from: senderOf(context),
    to,
    subject,
    text: [
      heading,
      text(content),
      ...(url === null ? [] : [url]),
      `Code: ${content.otp}`,
      ignore,
    ].join("\n\n"),
    html: [
      `<h2>${escapeHtml(heading)}</h2>`,
      `<p>${escapeHtml(text(content))}</p>`,
      ...(url === null ? [] : [`<p><a href="${escapeHtml(url)}">${escapeHtml(link!)}</a></p>`]),
      `<p>Code: <strong>${content.otp}</strong></p>`,
      `<p>${ignore}</p>`,
    ].join("\n"),
  };
}

function senderOf({ settings: { smtp } }: AuthContext): Mail["from"] {
  return smtp === null
    ? { name: "Agent Launchpad", address: "noreply@agent-launchpad.local" }
    : { name: smtp.senderName, address: smtp.adminEmail };
}

/** The address of `GET /verify` that does what the mail is about. */
export function actionLink(
  context: AuthContext,
  kind: MailKind,
  { hash, redirectTo }: Pick<MailContent, "hash" | "redirectTo">,
): string {
  const query = new URLSearchParams({ token: hash, type: kind, redirect_to: redirectTo });
  return `${context.baseUrl}/verify?${query}`;
}

function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}
