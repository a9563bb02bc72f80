import type { TokenVerifier } from "../../shared/http/tokens.ts";
import type { OpenFeed } from "./feed.ts";
import type { Slots } from "./slots.ts";
import { createSession, type SessionLimits } from "./session.ts";

export interface HandlerOptions {
  verifyToken: TokenVerifier;
  openFeed: OpenFeed;
  slots: Pick<Slots, "take">;
  limits?: Partial<SessionLimits>;
  /** Bytes that may wait for a client that reads too slowly. */
  mostBufferedBytes?: number;
  log(entry: Record<string, unknown>): void;
}

const MOST_BUFFERED_BYTES = 1024 * 1024;

/** Turns requests into sessions; whatever is no WebSocket gets an explanation. */
export function createHandler(options: HandlerOptions): (request: Request) => Response {
  const mostBuffered = options.mostBufferedBytes ?? MOST_BUFFERED_BYTES;
  return (request) => {
    if (request.headers.get("upgrade")?.toLowerCase() !== "websocket") {
      const error = { code: "VALIDATION_ERROR", message: "This address speaks WebSocket only" };
      return Response.json({ success: false, error }, {
        status: 426,
        headers: { upgrade: "websocket", connection: "Upgrade" },
      });
    }
    const token = new URL(request.url).searchParams.get("token");
    const { socket, response } = Deno.upgradeWebSocket(request);
    // Before the handshake is through nothing can be said, not even that the token is bad.
    socket.onopen = () => {
      const session = createSession({
        send(message) {
          if (socket.readyState !== WebSocket.OPEN) return;
          if (socket.bufferedAmount > mostBuffered) {
            options.log({ level: "warn", message: "A client reads too slowly" });
            session.end();
            return socket.close(1013, "reads too slowly");
          }
          socket.send(JSON.stringify(message));
        },
        close: (code, reason) => socket.close(code, reason),
      }, { ...options, token });
      socket.onmessage = ({ data }) => session.receive(data);
      socket.onclose = () => session.end();
      socket.onerror = () => session.end();
    };
    return response;
  };
}
