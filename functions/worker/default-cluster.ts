import type { Sql } from "postgres";

/**
 * Registers the clusters that the environment names. The first one there ever was is the default.
 *
 * Portainer: PORTAINER_URL, PORTAINER_API_KEY, PORTAINER_ENDPOINT_ID (1 when absent), PORTAINER_CONSOLE_URL,
 * PORTAINER_PUBLISH_MODE (`host` for a Swarm whose kernel lacks IPVS, `none`).
 * Kubernetes: KUBERNETES_URL, KUBERNETES_TOKEN, KUBERNETES_CA, KUBERNETES_NAMESPACE.
 * For both: AGENT_URL_TEMPLATE, the address under which agents are reached, with `{agent}` or `{name}` in it.
 */
export async function registerDefaultCluster(
  sql: Sql,
  environment: Record<string, string | undefined>,
): Promise<void> {
  const options = (fields: Record<string, string | undefined>) =>
    sql.json(
      JSON.parse(JSON.stringify({ ...fields, agent_url_template: environment.AGENT_URL_TEMPLATE })),
    );
  if (environment.PORTAINER_URL && environment.PORTAINER_API_KEY) {
    await sql`
      select private.register_default_cluster(
        'portainer', 'portainer', ${withoutSlash(environment.PORTAINER_URL)},
        ${Number(environment.PORTAINER_ENDPOINT_ID ?? "1")}, null,
        ${environment.PORTAINER_API_KEY}, ${
      options({
        console_url: environment.PORTAINER_CONSOLE_URL,
        publishMode: environment.PORTAINER_PUBLISH_MODE,
      })
    }
      )
    `;
  }
  if (environment.KUBERNETES_URL && environment.KUBERNETES_TOKEN) {
    await sql`
      select private.register_default_cluster(
        'kubernetes', 'kubernetes', ${withoutSlash(environment.KUBERNETES_URL)},
        null, ${environment.KUBERNETES_NAMESPACE ?? "default"},
        ${environment.KUBERNETES_TOKEN}, ${options({ ca: environment.KUBERNETES_CA })}
      )
    `;
  }
}

function withoutSlash(url: string): string {
  return url.replace(/\/+$/, "");
}
