import { connect } from "node:net";
import postgres from "postgres";
import { surviveLostConnections } from "../database/lost-connections.ts";

/**
 * Opens the worker's pool. Behind Supabase's transaction pooler (port 6543) statements are not prepared, for each may
 * meet another connection.
 *
 * @param url `SUPABASE_DB_URL`
 */
export function connectWorkerDatabase(url: string, { max = 10 } = {}): postgres.Sql {
  const options = {
    max,
    prepare: new URL(url).port !== "6543",
    connect_timeout: 10,
    // The default grows to 20 s, and leases would end while the database is long back.
    backoff: () => 0.25,
    onnotice: () => {},
    connection: { application_name: "agent-launchpad-worker" },
    socket: openSocket,
  };
  return surviveLostConnections(postgres(url, options));
}

/**
 * A `copy` ends with a small packet that the kernel would keep back until the one before it is acknowledged: 40 ms
 * a transaction, measured. What is written before the connection stands is sent when it does.
 */
function openSocket(
  { host, port, path }: { host: string[]; port: number[]; path?: string | false },
) {
  const [server, number] = [host[0]!, port[0]!];
  const socket = path ? connect(path) : connect(number, server);
  socket.setNoDelay(true);
  // By these the driver names the server in errors and in TLS.
  return Object.assign(socket, { host: server, port: number });
}
