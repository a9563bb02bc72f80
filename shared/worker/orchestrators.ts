import type { ClusterConnection, Orchestrator } from "../orchestrators/types.ts";

/** Connections to that many clusters are kept; a further one takes the place of the one least used. */
const MOST = 64;

/**
 * Keeps one orchestrator per connection, for what a driver learnt about its cluster is worth keeping. A changed
 * credential or address is another connection.
 */
export function keepOrchestrators(
  create: (cluster: ClusterConnection) => Orchestrator,
): (cluster: ClusterConnection) => Orchestrator {
  const kept = new Map<string, Orchestrator>();
  return (cluster) => {
    const { id, kind, url, endpointId, namespace, credential, options } = cluster;
    const key = JSON.stringify([id, kind, url, endpointId, namespace, credential, options]);
    const orchestrator = kept.get(key) ?? create(cluster);
    // Set anew, it is the last in the map's order.
    kept.delete(key);
    kept.set(key, orchestrator);
    if (kept.size > MOST) kept.delete(kept.keys().next().value!);
    return orchestrator;
  };
}
