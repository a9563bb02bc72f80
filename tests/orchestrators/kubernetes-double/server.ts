import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { Controller, type Pod } from "./controller.ts";
import {
  applyTo,
  type Json,
  type JsonMap,
  type KubernetesObject,
  newObject,
  patch,
} from "./objects.ts";

const TICK_MS = 15;

export interface KubernetesDouble {
  url: string;
  token: string;
  controller: Controller;
  objects: Map<string, KubernetesObject>;
  /** Whether there is a metrics-server, and whether it is up. */
  metricsServer: "up" | "down" | "absent";
  /** Kinds whose creation the namespace's quota refuses. */
  refusedByQuota: Set<string>;
  close(): Promise<void>;
}

/**
 * As much of a Kubernetes API server as the driver uses, for machines without a cluster: server-side apply with
 * ownership by manager, generations, Status objects, pods that start and roll, logs, metrics. The suite that it serves
 * runs against a real one as well (KUBECONFIG).
 */
export async function startKubernetesDouble(): Promise<KubernetesDouble> {
  const controller = new Controller();
  const objects = new Map<string, KubernetesObject>();
  const double: KubernetesDouble = {
    url: "",
    token: "double-token",
    controller,
    objects,
    metricsServer: "up",
    refusedByQuota: new Set(),
    close: async () => {
      clearInterval(timer);
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
  const server: Server = createServer((request, response) => {
    answer(double, request, response).catch((error) => {
      response.destroy(error);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  double.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const timer = setInterval(() => {
    controller.tick([...objects.values()].filter(({ kind }) => kind === "Deployment"));
  }, TICK_MS);
  return double;
}

function status(response: ServerResponse, code: number, reason: string, message: string): void {
  send(response, code, {
    kind: "Status",
    apiVersion: "v1",
    status: "Failure",
    reason,
    message,
    code,
  });
}

function send(response: ServerResponse, code: number, body: Json | object): void {
  response.writeHead(code, { "content-type": "application/json" }).end(JSON.stringify(body));
}

async function readBody(request: IncomingMessage): Promise<JsonMap> {
  let text = "";
  for await (const chunk of request) text += chunk;
  return text === "" ? {} : JSON.parse(text) as JsonMap;
}

async function answer(
  double: KubernetesDouble,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const url = new URL(request.url ?? "/", "http://double");
  const body = await readBody(request);
  if (request.headers.authorization !== `Bearer ${double.token}`) {
    return status(response, 401, "Unauthorized", "Unauthorized");
  }
  if (url.pathname === "/version") return send(response, 200, { gitVersion: "v1.36.3" });
  if (url.pathname === "/api/v1/nodes") {
    return send(response, 200, {
      items: [{ status: { conditions: [{ type: "Ready", status: "True" }] } }],
    });
  }
  const match =
    /^\/(?:api\/v1|apis\/([a-z0-9.]+)\/v\w+)\/namespaces\/([^/]+)\/([a-z]+)(?:\/([^/]+))?(?:\/(\w+))?$/
      .exec(url.pathname);
  if (!match) {
    return status(response, 404, "NotFound", "the server could not find the requested resource");
  }
  const [, group = "", namespace = "", resource = "", name, subresource] = match;
  if (group === "metrics.k8s.io") return metrics(double, url, response);
  if (resource === "pods") return pods(double, url, response, namespace, name, subresource);
  return resources(double, request, response, url, body, {
    namespace,
    resource,
    name,
    isScale: subresource === "scale",
  });
}

function selected(labels: Record<string, string>, url: URL): boolean {
  const [key, value] = (url.searchParams.get("labelSelector") ?? "").split("=");
  return !key || labels[key] === value;
}

function resources(
  double: KubernetesDouble,
  request: IncomingMessage,
  response: ServerResponse,
  url: URL,
  body: JsonMap,
  target: { namespace: string; resource: string; name: string | undefined; isScale: boolean },
): void {
  const { namespace, resource, name } = target;
  const prefix = `${namespace}/${resource}/`;
  if (name === undefined && request.method === "GET") {
    const items = [...double.objects]
      .filter(([key, { metadata }]) => key.startsWith(prefix) && selected(metadata.labels, url))
      .map(([, object]) => object);
    return send(response, 200, { items });
  }
  const bodyName = (body["metadata"] as JsonMap | undefined)?.["name"];
  const key = prefix + (name ?? String(bodyName));
  const found = double.objects.get(key);
  const kind = String(body["kind"]);
  const isApply = request.headers["content-type"] === "application/apply-patch+yaml";

  if (!found && ((request.method === "PATCH" && isApply) || request.method === "POST")) {
    if (namespace === "missing") {
      return status(response, 404, "NotFound", `namespaces "${namespace}" not found`);
    }
    if (double.refusedByQuota.has(kind)) {
      return status(
        response,
        403,
        "Forbidden",
        `${resource} "${name}" is forbidden: exceeded quota: objects, requested: count/${resource}=1`,
      );
    }
    const made = newObject(namespace, body);
    if (isApply) applyTo(made, body, url.searchParams.get("fieldManager") ?? "");
    double.objects.set(key, made);
    return send(response, 201, made);
  }
  if (!found) return status(response, 404, "NotFound", `${resource} "${name}" not found`);
  switch (request.method) {
    case "GET":
      return send(response, 200, found);
    case "POST":
      return status(response, 409, "AlreadyExists", `${resource} "${name}" already exists`);
    case "PATCH":
      if (isApply) {
        const manager = url.searchParams.get("fieldManager");
        if (!manager) {
          return status(response, 400, "BadRequest", "fieldManager is required for apply patch");
        }
        applyTo(found, body, manager);
      } else patch(found, body);
      return send(response, 200, found);
    case "DELETE": {
      const uid = (body["preconditions"] as JsonMap | undefined)?.["uid"];
      if (uid !== undefined && uid !== found.metadata.uid) {
        return status(response, 409, "Conflict", "Precondition failed: UID in precondition");
      }
      double.objects.delete(key);
      return send(response, 200, { kind: "Status", status: "Success" });
    }
  }
}

function pods(
  double: KubernetesDouble,
  url: URL,
  response: ServerResponse,
  namespace: string,
  name: string | undefined,
  subresource: string | undefined,
): void {
  const { controller } = double;
  if (name === undefined) {
    const items = [...controller.pods.values()]
      .filter(({ labels }) => selected(labels, url))
      .map((pod) => controller.view(pod, namespace));
    return send(response, 200, { items });
  }
  const pod = controller.pods.get(name);
  if (!pod) return status(response, 404, "NotFound", `pods "${name}" not found`);
  if (subresource !== "log") return send(response, 200, controller.view(pod, namespace));
  response.writeHead(200, { "content-type": "text/plain" }).end(logText(pod, url));
}

/** A line every 20 ms since the pod was born, cut as the API server cuts. */
function logText(pod: Pod, url: URL): string {
  const since = url.searchParams.get("sinceTime");
  const tail = Number(url.searchParams.get("tailLines") ?? Infinity);
  const count = Math.floor((Date.now() - pod.born) / 20);
  const lines = Array.from({ length: count }, (_, index) => {
    const time = new Date(pod.born + index * 20);
    const nanoseconds = String(index % 1000).padStart(6, "0");
    return { time, text: `${time.toISOString().slice(0, -1)}${nanoseconds}Z line ${index}\n` };
  }).filter(({ time }) => since === null || time >= new Date(since));
  const text = lines.slice(-Math.min(tail, lines.length)).map(({ text }) => text).join("");
  const limit = Number(url.searchParams.get("limitBytes") ?? Infinity);
  return lines.length === 0 ? "" : text.slice(0, limit);
}

function metrics(double: KubernetesDouble, url: URL, response: ServerResponse): void {
  // Without a metrics-server the group is unknown, and neither answer is a Status.
  if (double.metricsServer === "absent") {
    response.writeHead(404, { "content-type": "text/plain" }).end("404 page not found\n");
    return;
  }
  if (double.metricsServer === "down") {
    response.writeHead(503, { "content-type": "text/plain" }).end("service unavailable\n");
    return;
  }
  const items = [...double.controller.pods.values()]
    .filter((pod) => selected(pod.labels, url) && double.controller.isReady(pod))
    .map(({ name }) => ({
      metadata: { name },
      timestamp: new Date().toISOString(),
      window: "15s",
      containers: [{ name: "agent", usage: { cpu: "12345678n", memory: "20480Ki" } }],
    }));
  send(response, 200, { items });
}
