import { createHash, randomBytes } from "node:crypto";
import type { JsonMap, KubernetesObject } from "./objects.ts";

/** How long a simulated image takes to start and to become ready. */
const START_MS = 40;
const READY_MS = 90;

export interface Pod {
  name: string;
  uid: string;
  hash: string;
  image: string;
  labels: Record<string, string>;
  annotations: Record<string, string>;
  container: JsonMap;
  born: number;
  deletedAt: number | null;
}

/** What a Deployment controller, a scheduler and a kubelet do together, in steps of `tick`. */
export class Controller {
  readonly pods = new Map<string, Pod>();
  /** Pods that the namespace's quota admits. */
  podQuota = Infinity;
  /** Pods that fit on the nodes. */
  capacity = Infinity;

  tick(deployments: KubernetesObject[]): void {
    const now = Date.now();
    for (const pod of this.pods.values()) {
      if (pod.deletedAt !== null && now - pod.deletedAt > START_MS) this.pods.delete(pod.name);
    }
    const owners = new Set<string>();
    for (const deployment of deployments) {
      owners.add(deployment.metadata.uid);
      this.#reconcile(deployment, now);
    }
    for (const pod of this.pods.values()) {
      if (!owners.has(pod.uid) && pod.deletedAt === null) pod.deletedAt = now;
    }
  }

  isReady(pod: Pod): boolean {
    return pod.deletedAt === null && this.trouble(pod) === null && Date.now() - pod.born > READY_MS;
  }

  /** The waiting reason of a pod that cannot run. */
  trouble(pod: Pod): string | null {
    if (pod.image.includes(".invalid")) return "ImagePullBackOff";
    const args = pod.container["args"];
    return Array.isArray(args) && args.includes("crash") ? "CrashLoopBackOff" : null;
  }

  isPlaced(pod: Pod): boolean {
    return [...this.pods.keys()].indexOf(pod.name) < this.capacity;
  }

  view(pod: Pod, namespace: string): JsonMap {
    const started = Date.now() - pod.born > START_MS && this.isPlaced(pod);
    const reason = this.trouble(pod);
    const ready = this.isReady(pod) && started;
    const startedAt = new Date(pod.born + START_MS).toISOString();
    return {
      metadata: {
        name: pod.name,
        namespace,
        uid: pod.name,
        labels: pod.labels,
        annotations: pod.annotations,
        ...(pod.deletedAt === null
          ? {}
          : { deletionTimestamp: new Date(pod.deletedAt).toISOString() }),
      },
      spec: { containers: [pod.container] },
      status: {
        phase: started && reason === null ? "Running" : "Pending",
        conditions: [
          { type: "Ready", status: ready ? "True" : "False" },
          this.isPlaced(pod) ? { type: "PodScheduled", status: "True" } : {
            type: "PodScheduled",
            status: "False",
            reason: "Unschedulable",
            message: "0/1 nodes",
          },
        ],
        // As the API server has it for a pod that no kubelet took up yet.
        containerStatuses: started
          ? [{
            name: "agent",
            ready,
            started: ready,
            restartCount: reason === "CrashLoopBackOff" ? 4 : 0,
            state: reason === null ? { running: { startedAt } } : { waiting: { reason } },
            lastState: reason === "CrashLoopBackOff"
              ? { terminated: { exitCode: 3, startedAt, finishedAt: startedAt } }
              : {},
          }]
          : null,
      },
    };
  }

  #reconcile(deployment: KubernetesObject, now: number): void {
    const spec = deployment.spec as {
      replicas?: number;
      strategy?: { type?: string; rollingUpdate?: { maxUnavailable?: number; maxSurge?: number } };
      template: {
        metadata?: { labels?: Record<string, string>; annotations?: Record<string, string> };
        spec: { containers: JsonMap[] };
      };
    };
    const desired = spec.replicas ?? 1;
    const hash = createHash("sha256").update(JSON.stringify(spec.template)).digest("hex").slice(
      0,
      10,
    );
    const all = [...this.pods.values()].filter((pod) =>
      pod.uid === deployment.metadata.uid && pod.deletedAt === null
    );
    const old = all.filter((pod) => pod.hash !== hash);
    const fresh = all.filter((pod) => pod.hash === hash);
    const ready = (pods: Pod[]) =>
      pods.filter((pod) => this.isReady(pod) && this.isPlaced(pod)).length;
    const recreate = spec.strategy?.type === "Recreate";
    const unavailable = spec.strategy?.rollingUpdate?.maxUnavailable ?? 1;
    const surge = recreate ? 0 : spec.strategy?.rollingUpdate?.maxSurge ?? 1;

    for (const pod of fresh.slice(desired)) pod.deletedAt = now;
    const mayGo = recreate ? old.length : Math.max(0, ready(all) - (desired - unavailable));
    const unready = old.filter((pod) => !this.isReady(pod));
    for (const pod of [...unready, ...old.filter((one) => this.isReady(one)).slice(0, mayGo)]) {
      pod.deletedAt = now;
    }
    const left = all.filter((pod) => pod.deletedAt === null).length;
    // Whoever recreates waits until the old pods are gone, not only told to go.
    const ending = recreate &&
      [...this.pods.values()].some((pod) =>
        pod.uid === deployment.metadata.uid && pod.hash !== hash
      );
    const wanted = ending ? 0 : Math.min(desired - fresh.length, desired + surge - left);
    let refused = false;
    for (let made = 0; made < wanted; made++) {
      if (this.pods.size >= this.podQuota) {
        refused = true;
        break;
      }
      const name = `${deployment.metadata.name}-${hash}-${
        randomBytes(3).toString("hex").slice(0, 5)
      }`;
      // A copy: what is applied later changes the template in place, and never a pod.
      const { metadata, spec: { containers: [container] } } = structuredClone(spec.template);
      this.pods.set(name, {
        name,
        uid: deployment.metadata.uid,
        hash,
        image: String(container!["image"]),
        labels: metadata?.labels ?? {},
        annotations: metadata?.annotations ?? {},
        container: container!,
        born: now,
        deletedAt: null,
      });
    }
    const present = [...this.pods.values()].filter((pod) =>
      pod.uid === deployment.metadata.uid && pod.deletedAt === null
    );
    const readyNow = ready(present);
    deployment.status = {
      observedGeneration: deployment.metadata.generation,
      replicas: present.length,
      updatedReplicas: present.filter((pod) => pod.hash === hash).length,
      readyReplicas: readyNow,
      availableReplicas: readyNow,
      conditions: refused
        ? [{
          type: "ReplicaFailure",
          status: "True",
          reason: "FailedCreate",
          message:
            'pods "x" is forbidden: exceeded quota: pods, requested: pods=1, used: pods=1, limited: pods=1',
        }]
        : [{ type: "Progressing", status: "True", reason: "ReplicaSetUpdated" }],
    };
  }
}
