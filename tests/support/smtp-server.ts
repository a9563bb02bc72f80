import { createServer, type Socket } from "node:net";
import type { AddressInfo } from "node:net";

export interface ReceivedMail {
  from: string;
  to: string[];
  /** Header lines, unfolded. */
  headers: string;
  /** The body as it came. */
  raw: string;
  /** The body with quoted-printable undone. */
  text: string;
  /** `user pass` of the sign-in; null without one. */
  credentials: string | null;
}

export interface SmtpServer {
  port: number;
  mails: ReceivedMail[];
  /**
   * `refuse` answers every receiver with 550, `silent` never greets, `slow` greets byte by byte
   * and never ends, `reset` hangs up within the mail.
   */
  mood: "well" | "refuse" | "silent" | "slow" | "reset";
  close(): Promise<void>;
}

/** A small mail server without TLS, which takes every sign-in. */
export async function startSmtpServer(): Promise<SmtpServer> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
    socket.on("error", () => {});
    converse(socket, smtp);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const smtp: SmtpServer = {
    port: (server.address() as AddressInfo).port,
    mails: [],
    mood: "well",
    close() {
      for (const socket of sockets) socket.destroy();
      return new Promise((resolve) => server.close(() => resolve()));
    },
  };
  return smtp;
}

function converse(socket: Socket, smtp: SmtpServer): void {
  if (smtp.mood === "silent") return;
  if (smtp.mood === "slow") {
    const timer = setInterval(() => socket.write("220-wait\r\n"), 20);
    socket.once("close", () => clearInterval(timer));
    return;
  }
  let mail = newMail();
  let inData = false;
  let buffer = "";
  socket.write("220 test\r\n");
  socket.on("data", (chunk) => {
    buffer += chunk.toString();
    for (;;) {
      const end = inData ? buffer.indexOf("\r\n.\r\n") : buffer.indexOf("\r\n");
      if (end < 0) return;
      const line = buffer.slice(0, end);
      buffer = buffer.slice(end + (inData ? 5 : 2));
      if (inData) {
        inData = false;
        smtp.mails.push(readBody(mail, line));
        mail = newMail();
        socket.write("250 kept\r\n");
      } else command(line);
    }
  });

  function command(line: string): void {
    const [, verb, rest] = /^(\S+) ?(.*)$/.exec(line) ?? ["", "", ""];
    switch (verb!.toUpperCase()) {
      case "EHLO":
        return void socket.write("250-test\r\n250 AUTH PLAIN\r\n");
      case "AUTH":
        mail.credentials = Buffer.from(rest!.replace("PLAIN ", ""), "base64").toString()
          .split("\0").slice(1).join(" ");
        return void socket.write("235 welcome\r\n");
      case "MAIL":
        mail.from = addressIn(rest!);
        return void socket.write("250 ok\r\n");
      case "RCPT":
        if (smtp.mood === "refuse") {
          return void socket.write(`550 no such mailbox ${addressIn(rest!)}\r\n`);
        }
        mail.to.push(addressIn(rest!));
        return void socket.write("250 ok\r\n");
      case "DATA":
        if (smtp.mood === "reset") return void socket.destroy();
        inData = true;
        return void socket.write("354 go on\r\n");
      case "QUIT":
        return void socket.end("221 bye\r\n");
      default:
        return void socket.write("250 ok\r\n");
    }
  }
}

function newMail(): ReceivedMail {
  return { from: "", to: [], headers: "", raw: "", text: "", credentials: null };
}

function readBody(mail: ReceivedMail, data: string): ReceivedMail {
  const [headers, ...rest] = data.split("\r\n\r\n");
  const raw = rest.join("\r\n\r\n");
  const text = raw.replace(/=\r\n/g, "").replace(
    /=([0-9A-F]{2})/g,
    (_, hex: string) => String.fromCharCode(parseInt(hex, 16)),
  );
  return { ...mail, headers: headers!.replace(/\r\n\s+/g, " "), raw, text };
}

function addressIn(rest: string): string {
  return /<([^>]*)>/.exec(rest)?.[1] ?? "";
}
