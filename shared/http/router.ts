/** Path patterns of a function: `/api/agents/{id}/logs`, matched segment by segment. */

export interface RoutePattern {
  method: string;
  path: string;
}

export interface Match<Route> {
  route: Route;
  params: Record<string, string>;
}

export type RouteLookup<Route> =
  | { found: Match<Route> }
  | { found: null; allowed: string[] };

interface Compiled<Route> {
  route: Route;
  segments: string[];
}

function matchSegments(pattern: string[], path: string[]): Record<string, string> | null {
  const params: Record<string, string> = {};
  for (let index = 0; index < pattern.length; index++) {
    const expected = pattern[index]!;
    const actual = path[index]!;
    if (expected.startsWith("{")) {
      if (actual === "") return null;
      try {
        params[expected.slice(1, -1)] = decodeURIComponent(actual);
      } catch {
        return null;
      }
    } else if (expected !== actual) {
      return null;
    }
  }
  return params;
}

/**
 * Makes a lookup over routes. The first path that matches wins, whatever its methods, so literal paths stand before
 * patterns: what a literal one does not know is not asked of a pattern. A trailing slash is ignored; `HEAD` is answered as `GET`.
 * @returns the route, or the methods that the path does know: none of them means that the path is
 * unknown
 */
export function createRouter<Route extends RoutePattern>(routes: readonly Route[]) {
  const byLength = new Map<number, Compiled<Route>[]>();
  for (const route of routes) {
    const segments = route.path.split("/");
    const list = byLength.get(segments.length) ?? [];
    list.push({ route, segments });
    byLength.set(segments.length, list);
  }

  return (method: string, pathname: string): RouteLookup<Route> => {
    const trimmed = pathname.length > 1 && pathname.endsWith("/")
      ? pathname.slice(0, -1)
      : pathname;
    const segments = trimmed.split("/");
    const wanted = method === "HEAD" ? "GET" : method;
    const allowed = new Set<string>();
    let path: string | null = null;
    for (const { route, segments: pattern } of byLength.get(segments.length) ?? []) {
      const params = matchSegments(pattern, segments);
      if (params === null || path !== null && route.path !== path) continue;
      path = route.path;
      if (route.method === wanted) return { found: { route, params } };
      allowed.add(route.method);
      if (route.method === "GET") allowed.add("HEAD");
    }
    return { found: null, allowed: [...allowed] };
  };
}
