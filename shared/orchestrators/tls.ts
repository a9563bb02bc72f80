import { OrchestratorError } from "./errors.ts";

/** PEM texts. */
export interface TlsMaterial {
  ca?: string;
  clientCertificate?: string;
  clientKey?: string;
}

/**
 * A `fetch` that trusts a private certificate authority and shows a client certificate. `fetch` itself has no way to
 * say either: Deno has HTTP clients for it; Node's would need the undici package in the very version that Node
 * bundles, so `node:https` does it there, which is built in.
 */
export function createTlsFetch(material: TlsMaterial): typeof fetch {
  const { ca, clientCertificate, clientKey } = material;
  if (!ca && !clientCertificate) return (input, init) => fetch(input, init);
  if (typeof Deno !== "undefined" && "createHttpClient" in Deno) {
    let client: Deno.HttpClient;
    try {
      client = Deno.createHttpClient({
        ...(ca ? { caCerts: [ca] } : {}),
        ...(clientCertificate && clientKey ? { cert: clientCertificate, key: clientKey } : {}),
      });
    } catch {
      throw unusable();
    }
    return (input, init) => {
      const withClient: RequestInit & { client: Deno.HttpClient } = { ...init, client };
      return fetch(input, withClient);
    };
  }
  return async (input, init) => {
    const { request } = await import("node:https");
    const { Readable } = await import("node:stream");
    return await new Promise<Response>((resolve, reject) => {
      const outgoing = request(
        input instanceof Request ? input.url : input,
        {
          method: init?.method ?? "GET",
          headers: Object.fromEntries(new Headers(init?.headers).entries()),
          ...(ca ? { ca } : {}),
          ...(clientCertificate ? { cert: clientCertificate, key: clientKey } : {}),
          ...(init?.signal ? { signal: init.signal } : {}),
        },
        (incoming) => {
          const status = incoming.statusCode ?? 502;
          const headers = new Headers();
          for (const [name, value] of Object.entries(incoming.headers)) {
            if (value !== undefined) headers.set(name, String(value));
          }
          const bodiless = status === 204 || status === 205 || status === 304;
          if (bodiless) incoming.resume();
          const body = bodiless ? null : Readable.toWeb(incoming) as unknown as ReadableStream;
          resolve(new Response(body, { status, headers }));
        },
      );
      outgoing.on("error", reject);
      outgoing.end(init?.body as string | undefined);
    });
  };
}

/** The certificates' own words stay out of it. */
function unusable(): OrchestratorError {
  return new OrchestratorError(
    "DEPLOYMENT_FAILED",
    "The cluster's certificates cannot be used; check the cluster's credential.",
    { retryable: false, details: { reason: "invalid_certificates" } },
  );
}
