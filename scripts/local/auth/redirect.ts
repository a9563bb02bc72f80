import type { AuthContext } from "./context.ts";
import type { AuthRequest } from "./request.ts";
import type { AuthSettings } from "./settings.ts";

/**
 * Where the link in a mail, or a provider, leads back to: what the request asks for if allowed, else
 * the site.
 *
 * @param asked where the request asks for it in its body
 */
export function redirectTarget(
  context: AuthContext,
  request: AuthRequest,
  asked: string | null = request.headers.get("redirect_to") ??
    request.url.searchParams.get("redirect_to"),
): string {
  for (const candidate of [asked, request.headers.get("referer")]) {
    if (candidate && isAllowedRedirect(context.settings, candidate)) return candidate;
  }
  return context.settings.siteUrl;
}

/** Leads to `target` with what it is to know, in the query and after the `#`. */
export function redirectTo(
  target: string,
  { status, query = {}, fragment = null }: {
    status: 302 | 303;
    query?: Record<string, string>;
    fragment?: Record<string, string> | null;
  },
): Response {
  const url = new URL(target);
  for (const [name, value] of Object.entries(query)) url.searchParams.set(name, value);
  // `sb` lets clients tell our redirects from those of other providers.
  url.hash = fragment === null ? "" : String(new URLSearchParams({ ...fragment, sb: "" }));
  return new Response(null, { status, headers: { location: url.href } });
}

/**
 * Whether a mail's link may lead to `target`: the site itself (any port on this machine), this
 * machine, or one of `additional_redirect_urls`, where `*` stands for anything up to the next dot
 * or slash, `**` for anything and `?` for one character.
 */
export function isAllowedRedirect(settings: AuthSettings, target: string): boolean {
  const url = parse(target);
  const site = parse(settings.siteUrl);
  if (url === null || site === null) return false;
  if (
    url.hostname === site.hostname && url.protocol === site.protocol &&
    (url.port === site.port || isLoopback(url.hostname))
  ) return true;
  if (/^[\d.]+$|^\[/.test(url.hostname)) return isLoopback(url.hostname);
  const address = target.split("#")[0]!;
  return settings.redirectUrls.some((pattern) => globToRegExp(pattern).test(address));
}

function isLoopback(hostname: string): boolean {
  return hostname === "localhost" || hostname === "[::1]" || /^127(\.\d+){3}$/.test(hostname);
}

function globToRegExp(glob: string): RegExp {
  const pattern = glob.replace(/\*\*|\*|\?|[^*?]+/g, (part) => {
    if (part === "**") return ".*";
    if (part === "*") return "[^./]*";
    if (part === "?") return "[^./]";
    return part.replace(/[.+^${}()|[\]\\]/g, "\\$&");
  });
  return new RegExp(`^${pattern}$`);
}

function parse(text: string): URL | null {
  return URL.canParse(text) ? new URL(text) : null;
}
