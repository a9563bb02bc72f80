import { randomUUID } from "node:crypto";

export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };
export type JsonMap = { [key: string]: Json };

export interface KubernetesObject {
  apiVersion: string;
  kind: string;
  metadata: {
    name: string;
    namespace: string;
    uid: string;
    generation: number;
    creationTimestamp: string;
    labels: Record<string, string>;
    annotations: Record<string, string>;
  };
  spec?: JsonMap;
  data?: JsonMap;
  status?: JsonMap;
  [field: string]: unknown;
}

/** What each manager applied last, so that what it leaves out the next time is taken away. */
const applied = new WeakMap<KubernetesObject, Map<string, JsonMap>>();

export function newObject(namespace: string, body: JsonMap): KubernetesObject {
  const metadata = body["metadata"] as JsonMap;
  return {
    apiVersion: String(body["apiVersion"]),
    kind: String(body["kind"]),
    metadata: {
      labels: {},
      annotations: {},
      ...structuredClone(metadata),
      name: String(metadata["name"]),
      namespace,
      uid: randomUUID(),
      generation: 1,
      creationTimestamp: new Date().toISOString(),
    },
    ...withoutHead(structuredClone(body)),
  } as KubernetesObject;
}

/** Server-side apply by one manager with `force`; lists are replaced whole, which our manifests' lists allow. */
export function applyTo(object: KubernetesObject, body: JsonMap, manager: string): void {
  const known = applied.get(object) ?? new Map<string, JsonMap>();
  const before = JSON.stringify(object.spec);
  prune(object as unknown as JsonMap, known.get(manager) ?? {}, body);
  merge(object as unknown as JsonMap, withoutHead(body));
  merge(object.metadata as unknown as JsonMap, labelsOf(body));
  known.set(manager, structuredClone(body));
  applied.set(object, known);
  if (JSON.stringify(object.spec) !== before) object.metadata.generation++;
}

/** JSON merge patch: null removes. */
export function patch(object: KubernetesObject, body: JsonMap): void {
  const before = JSON.stringify(object.spec);
  mergePatch(object as unknown as JsonMap, body);
  if (JSON.stringify(object.spec) !== before) object.metadata.generation++;
}

function withoutHead(body: JsonMap): JsonMap {
  const { apiVersion: _a, kind: _k, metadata: _m, ...rest } = body;
  return rest;
}

function labelsOf(body: JsonMap): JsonMap {
  const { labels, annotations } = body["metadata"] as JsonMap;
  return { ...(labels ? { labels } : {}), ...(annotations ? { annotations } : {}) };
}

function isMap(value: Json | undefined): value is JsonMap {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function merge(target: JsonMap, source: JsonMap): void {
  for (const [key, value] of Object.entries(source)) {
    const present = target[key];
    if (isMap(value) && isMap(present)) merge(present, value);
    else target[key] = structuredClone(value);
  }
}

function mergePatch(target: JsonMap, source: JsonMap): void {
  for (const [key, value] of Object.entries(source)) {
    const present = target[key];
    if (value === null) delete target[key];
    else if (isMap(value)) {
      const into = isMap(present) ? present : {};
      target[key] = into;
      mergePatch(into, value);
    } else target[key] = structuredClone(value);
  }
}

function prune(target: JsonMap, before: JsonMap, now: JsonMap): void {
  for (const [key, value] of Object.entries(before)) {
    const present = target[key];
    if (!(key in now)) delete target[key];
    else if (isMap(value) && isMap(present) && isMap(now[key])) prune(present, value, now[key]);
  }
}
