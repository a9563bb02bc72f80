/**
 * Faults that tests can order (only with PORTAINER_FAULTS=1; the calls need the API key, too):
 *
 *     POST   /__faults       {"method": "POST", "path": "^/api/stacks/create/", "times": 1, "fault": {...}}  → {"id": 1}
 *     GET    /__faults       the rules with the number of requests each one took
 *     DELETE /__faults       clears all rules, `gone` included
 *     DELETE /__faults/{id}  clears one
 *
 * `method` is one or absent for any; `path` is a regular expression over path and query; `times` is how many requests
 * the rule takes (1; 0 for all). The first rule that fits is used. The faults:
 *
 *     {"kind": "delay", "ms": 500}                     waits, then does the work, though the client may be gone
 *     {"kind": "status", "status": 409, "body": {...}} answers that without doing anything
 *     {"kind": "html", "status": 502}                  answers an HTML page, as a proxy in front would
 *     {"kind": "huge", "bytes": 104857600}             answers 200 with a JSON body of that size that means nothing
 *     {"kind": "hang", "seconds": 60}                  does nothing for so long, then drops the connection
 *     {"kind": "mute"}                                 does the work and never answers: a time-out after having worked
 *     {"kind": "mute", "seconds": 5}                   the same, but the connection is dropped after so long
 *     {"kind": "drop"}                                 drops the connection without doing anything
 *     {"kind": "drop", "after": true}                  does the work and drops the connection
 *     {"kind": "gone"}                                 drops every connection until it is cleared; `times` is ignored
 */
import { delay } from "./time.ts";
import { PortainerError } from "./errors.ts";
import { type ApiRequest, empty, json, jsonBody, streamed } from "./http.ts";

type Fault =
  | { kind: "delay"; ms: number }
  | { kind: "status"; status: number; body: unknown }
  | { kind: "html"; status: number }
  | { kind: "huge"; bytes: number }
  | { kind: "hang"; seconds: number }
  | { kind: "mute"; seconds: number | null }
  | { kind: "drop"; after: boolean }
  | { kind: "gone" };

interface Rule {
  id: number;
  method: string | null;
  path: string;
  times: number;
  hits: number;
  fault: Fault;
}

const invalid = (details: string) => new PortainerError(400, "Invalid fault", details);

function numberIn(value: unknown, name: string, fallback: number | null): number {
  if (value === undefined && fallback !== null) return fallback;
  if (typeof value !== "number" || !(value >= 0)) throw invalid(`${name} must be a number`);
  return value;
}

function readFault(value: unknown): Fault {
  if (typeof value !== "object" || value === null) throw invalid("fault must be an object");
  const fault = value as Record<string, unknown>;
  switch (fault["kind"]) {
    case "delay":
      return { kind: "delay", ms: numberIn(fault["ms"], "ms", null) };
    case "status":
      return {
        kind: "status",
        status: numberIn(fault["status"], "status", null),
        body: fault["body"] ?? { message: "fault", details: "fault" },
      };
    case "html":
      return { kind: "html", status: numberIn(fault["status"], "status", 502) };
    case "huge":
      return { kind: "huge", bytes: numberIn(fault["bytes"], "bytes", 100 * 1024 * 1024) };
    case "hang":
      return { kind: "hang", seconds: numberIn(fault["seconds"], "seconds", 60) };
    case "mute":
      return {
        kind: "mute",
        seconds: fault["seconds"] === undefined
          ? null
          : numberIn(fault["seconds"], "seconds", null),
      };
    case "drop":
      return { kind: "drop", after: fault["after"] === true };
    case "gone":
      return { kind: "gone" };
    default:
      throw invalid("unknown kind");
  }
}

/** A JSON text of about so many bytes, made while it is read. */
async function* hugeBody(bytes: number): AsyncGenerator<Uint8Array> {
  const encoder = new TextEncoder();
  const filler = encoder.encode('"' + "x".repeat(64 * 1024 - 3) + '",');
  yield encoder.encode("[");
  for (let sent = 0; sent < bytes; sent += filler.length) yield filler;
  yield encoder.encode("0]");
}

/** The faults that are on order. */
export class Faults {
  #rules: Rule[] = [];
  #nextId = 1;

  /** Answers the calls under `/__faults`. */
  manage(request: ApiRequest): Response {
    const id = /^\/__faults\/(\d+)$/.exec(request.path)?.[1];
    if (request.method === "GET" && request.path === "/__faults") return json(this.#rules);
    if (request.method === "DELETE") {
      this.#rules = id ? this.#rules.filter((rule) => rule.id !== Number(id)) : [];
      return empty();
    }
    if (request.method !== "POST" || request.path !== "/__faults") {
      return new Response("404 page not found\n", { status: 404 });
    }
    const body = jsonBody(request);
    const path = String(body["path"] ?? "");
    try {
      new RegExp(path);
    } catch (error) {
      throw invalid((error as Error).message);
    }
    const rule: Rule = {
      id: this.#nextId++,
      method: typeof body["method"] === "string" ? body["method"].toUpperCase() : null,
      path,
      times: numberIn(body["times"], "times", 1),
      hits: 0,
      fault: readFault(body["fault"]),
    };
    this.#rules.push(rule);
    return json({ id: rule.id }, 201);
  }

  #take(request: ApiRequest): Fault | null {
    const query = request.query.toString();
    const target = query ? `${request.path}?${query}` : request.path;
    const rule = this.#rules.find(({ fault, method, path, times, hits }) =>
      fault.kind === "gone" ||
      ((method === null || method === request.method) && new RegExp(path).test(target) &&
        (times === 0 || hits < times))
    );
    if (!rule) return null;
    rule.hits++;
    return rule.fault;
  }

  /** Answers a request, with the fault that fits it; null when the connection was dropped. */
  async apply(
    request: ApiRequest,
    drop: () => void,
    answer: () => Promise<Response>,
  ): Promise<Response | null> {
    const fault = this.#take(request);
    switch (fault?.kind) {
      case undefined:
        return await answer();
      case "delay":
        // Portainer does not notice that a client went away, and neither must this.
        await delay(fault.ms);
        return await answer();
      case "status":
        return json(fault.body, fault.status);
      case "html":
        return new Response(
          "<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>",
          { status: fault.status, headers: { "content-type": "text/html" } },
        );
      case "huge":
        return streamed(hugeBody(fault.bytes), "application/json");
      case "hang":
        await delay(fault.seconds * 1000, request.signal);
        break;
      case "mute":
        await answer();
        await delay(fault.seconds === null ? 2 ** 31 - 1 : fault.seconds * 1000, request.signal);
        break;
      case "drop":
        if (fault.after) await answer();
        break;
      case "gone":
        break;
    }
    drop();
    return null;
  }
}
