import type { KeptMail } from "./inbox.ts";

/** The list of mails as a page, newest first. */
export function renderInbox(mails: KeptMail[]): string {
  const rows = mails.map((mail) => `
    <tr${mail.read ? "" : ' class="unread"'}>
      <td><time datetime="${mail.date.toISOString()}">${clock(mail.date)}</time></td>
      <td>${escapeHtml(mail.to)}</td>
      <td><a href="/view/${mail.id}.html">${escapeHtml(mail.subject)}</a></td>
    </tr>`);
  const body = mails.length === 0
    ? "<p>No mail yet. What the local stack sends, to whatever address, arrives here.</p>"
    : `<table><thead><tr><th>Arrived (UTC)</th><th>To</th><th>Subject</th></tr></thead>
    <tbody>${rows.join("")}</tbody></table>`;
  return page("Inbox", body);
}

/** One mail as a page. */
export function renderMail(mail: KeptMail): string {
  // A sandboxed frame: the mail's own markup may not run scripts or touch this page. What its links
  // open is a page like any other, or a site would have no scripts when a sign-in link leads there.
  const content = `<base target="_blank">${mail.html}`;
  return page(
    mail.subject,
    `<p><a href="/">Inbox</a></p>
    <dl>
      <dt>From</dt><dd>${escapeHtml(`${mail.from.name} <${mail.from.address}>`)}</dd>
      <dt>To</dt><dd>${escapeHtml(mail.to)}</dd>
      <dt>Arrived</dt><dd>${mail.date.toISOString()}</dd>
    </dl>
    <iframe title="Mail" sandbox="allow-popups allow-popups-to-escape-sandbox" srcdoc="${
      escapeHtml(content)
    }"></iframe>`,
  );
}

function page(title: string, body: string): string {
  return `<!doctype html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <meta http-equiv="content-security-policy" content="script-src 'none'; connect-src 'none'; object-src 'none'">
  <title>${escapeHtml(title)}</title>
  <style>
    body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem }
    table { border-collapse: collapse; width: 100% }
    th, td { border-bottom: 1px solid #ccc; padding: .4rem; text-align: left; overflow-wrap: anywhere }
    .unread { font-weight: bold }
    dl { display: grid; grid-template-columns: max-content 1fr; gap: 0 1rem }
    dd { margin: 0 }
    iframe { border: 1px solid #ccc; height: 30rem; width: 100% }
  </style>
</head>
<body>
  <h1>${escapeHtml(title)}</h1>
  ${body}
</body>
</html>
`;
}

function clock(date: Date): string {
  return date.toISOString().slice(0, 19).replace("T", " ");
}

function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}
