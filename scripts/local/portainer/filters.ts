import { DockerError } from "./errors.ts";

/** Docker's `filters` parameter: per name the values, one of which has to fit. */
export type Filters = Record<string, string[]>;

/**
 * Reads Docker's `filters` parameter in both of its forms, `{"label":["a=b"]}` and `{"label":{"a=b":true}}`.
 * @throws DockerError 400 when it is neither
 */
export function parseFilters(text: string | null): Filters {
  if (!text) return {};
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new DockerError(400, "invalid filter");
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new DockerError(400, "invalid filter");
  }
  const filters: Filters = {};
  for (const [name, wanted] of Object.entries(value)) {
    if (Array.isArray(wanted)) filters[name] = wanted.map(String);
    else if (typeof wanted === "object" && wanted !== null) filters[name] = Object.keys(wanted);
    else throw new DockerError(400, "invalid filter");
  }
  return filters;
}

/** All wanted labels (`key` or `key=value`) must be there: labels are the one filter that is not "any of". */
export function matchesLabels(labels: Record<string, string>, wanted: string[] = []): boolean {
  return wanted.every((entry) => {
    const at = entry.indexOf("=");
    if (at < 0) return entry in labels;
    return labels[entry.slice(0, at)] === entry.slice(at + 1);
  });
}

/**
 * Refuses names that a list does not know, as Docker does.
 * @throws DockerError 400
 */
export function allowFilters(filters: Filters, allowed: string[]): void {
  for (const name of Object.keys(filters)) {
    if (!allowed.includes(name)) throw new DockerError(400, `invalid filter '${name}'`);
  }
}
