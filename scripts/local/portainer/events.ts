import { type Filters, matchesLabels } from "./filters.ts";

/** An event as the Docker engine writes it. */
export interface EngineEvent {
  status?: string;
  id?: string;
  from?: string;
  Type: string;
  Action: string;
  Actor: { ID: string; Attributes: Record<string, string> };
  scope: "local" | "swarm";
  time: number;
  timeNano: number;
}

/** Docker keeps as many for `since`. */
const KEPT = 256;

/** The engine's event stream: the last events, and whoever listens. */
export class EventBus {
  #recent: EngineEvent[] = [];
  #listeners = new Set<(event: EngineEvent) => void>();

  publish(
    type: string,
    action: string,
    id: string,
    attributes: Record<string, string>,
    scope: "local" | "swarm" = "local",
  ): void {
    const now = Date.now();
    const event: EngineEvent = {
      ...(type === "container" ? { status: action, id, from: attributes["image"] ?? "" } : {}),
      Type: type,
      Action: action,
      Actor: { ID: id, Attributes: attributes },
      scope,
      time: Math.floor(now / 1000),
      timeNano: now * 1e6,
    };
    this.#recent.push(event);
    if (this.#recent.length > KEPT) this.#recent.shift();
    for (const listener of this.#listeners) listener(event);
  }

  /** Events that were kept, oldest first. */
  recent(): readonly EngineEvent[] {
    return this.#recent;
  }

  /** Returns the function that ends the subscription. */
  subscribe(listener: (event: EngineEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
}

/** Whether an event passes the filters of `GET /events` (type, event, container, image, label, service, scope). */
export function eventMatches(event: EngineEvent, filters: Filters): boolean {
  const attributes = event.Actor.Attributes;
  const one = (key: string, test: (value: string) => boolean) =>
    !filters[key]?.length || filters[key].some(test);
  return one("type", (value) => value === event.Type) &&
    one("scope", (value) => value === event.scope) &&
    one("event", (value) => event.Action === value || event.Action.startsWith(`${value}:`)) &&
    one(
      "container",
      (value) =>
        event.Type === "container" &&
        (event.Actor.ID.startsWith(value) || attributes["name"] === value),
    ) &&
    one(
      "service",
      (value) =>
        event.Type === "service" && (event.Actor.ID === value || attributes["name"] === value),
    ) &&
    one("image", (value) => attributes["image"] === value || event.Actor.ID === value) &&
    matchesLabels(attributes, filters["label"]);
}
