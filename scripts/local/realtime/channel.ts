import { Buffer } from "node:buffer";
import { askPermissions, type Permissions } from "./authorization.ts";
import type { Context } from "./context.ts";
import type { Listener } from "./hub.ts";
import { bindingOfTopic, type JoinConfig, readJoin } from "./join.ts";
import type { Broadcast, ClientMessage, Codec } from "./protocol.ts";
import { createRate, type Rate } from "./rate.ts";
import { loadReplay, type ReplayedMessage } from "./replay.ts";
import {
  type Binding,
  resolveBindings,
  type Subscriber,
  type Subscription,
  SubscriptionError,
} from "./subscriptions.ts";
import {
  type ChannelClaims,
  expired,
  secondsLate,
  TokenError,
  verifyChannelToken,
} from "./tokens.ts";

/** The connection a channel belongs to. */
export interface ChannelSocket {
  codec: Codec;
  /** The token of the connection, for channels that bring none. */
  token: string;
  headers: Record<string, string>;
  send(frame: string | Uint8Array<ArrayBuffer>): void;
  /** Whether the user may have this connection, too; it counts as theirs from now on. */
  admit(user: string | null): Promise<boolean>;
  /** Called once when the channel ended by itself. */
  removed(channel: Channel): void;
}

/** Why a join is refused; `reason` is what the client gets. */
class Refusal extends Error {
  constructor(code: string, message: string) {
    super(`${code}: ${message}`);
  }
}

const TOO_MANY_PRESENCES = "Too many presence messages per second";

/** setTimeout takes no more; a longer life is looked at again then. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

/**
 * One joined topic of one connection. Everything a client may do here was decided with its token at
 * the join and is decided anew with each new token.
 */
export class Channel implements Listener, Subscriber {
  /** `room` of `realtime:room`. */
  readonly name: string;
  role = "anon";
  claims = "{}";
  #socket: ChannelSocket;
  #context: Context;
  #joinRef: string | null;
  #config!: JoinConfig;
  #token = "";
  #permissions: Permissions | null = null;
  #bindings: Binding[] = [];
  #subscriptions: Subscription[] = [];
  #replayed = new Set<string>();
  #presenceRate: Rate | undefined;
  #expiry: ReturnType<typeof setTimeout> | undefined;
  #state: "joining" | "joined" | "closed" = "joining";

  constructor(
    socket: ChannelSocket,
    context: Context,
    readonly topic: string,
    joinRef: string | null,
  ) {
    this.#socket = socket;
    this.#context = context;
    this.#joinRef = joinRef;
    this.name = topic.slice("realtime:".length);
  }

  get codec(): Codec {
    return this.#socket.codec;
  }

  get joined(): boolean {
    return this.#state === "joined";
  }

  /** Answers `phx_join`; after a refusal the channel is closed. */
  async join(message: ClientMessage): Promise<void> {
    this.#config = readJoin(message.payload);
    let replay: ReplayedMessage[];
    let failed: SubscriptionError | null;
    try {
      await this.#authenticate(this.#ownToken(this.#config.accessToken) ?? this.#socket.token);
      replay = await this.#loadReplay();
      this.#bindings = this.#readBindings();
      failed = await this.#resolve();
    } catch (error) {
      this.#end();
      this.#socket.removed(this);
      return this.#reply(message, "error", { reason: this.#reason(error) });
    }
    if (this.#state === "closed") return;
    this.#state = "joined";
    this.#context.channels.add(this);
    this.#context.hub.join(this.name, this.#config.isPrivate, this);
    const changes = this.#bindings.map(({ id, params }) => ({ ...params, id }));
    this.#reply(message, "ok", { postgres_changes: changes });
    this.#announceChanges(failed);
    this.#syncPresence();
    for (const { payload } of replay) this.#push("broadcast", payload);
    if (this.#config.broadcast.replicationReady && this.#context.following()) {
      this.#system("system", "ok", "Replication connection established");
    }
  }

  /** Handles what a client sends to a joined channel. */
  async receive(message: ClientMessage): Promise<void> {
    if (this.#state !== "joined") return;
    switch (message.event) {
      case "phx_leave":
        this.#end();
        this.#reply(message, "ok", {});
        this.#push("phx_close", "{}", this.#joinRef);
        return this.#socket.removed(this);
      case "broadcast":
        return this.#broadcast(message);
      case "access_token":
        return await this.#renewToken(message.payload);
      case "presence":
        return await this.#handlePresence(message);
    }
  }

  /** The database is followed again after a pause: what was asked for is checked anew. */
  async resubscribe(): Promise<void> {
    if (this.#bindings.length > 0) this.#announceChanges(await this.#resolve());
    if (this.#config.broadcast.replicationReady) {
      this.#system("system", "ok", "Replication connection established");
    }
  }

  mayReceive(messageId: string | null): boolean {
    if (messageId !== null && this.#replayed.has(messageId)) return false;
    return this.#permissions?.broadcast.read ?? true;
  }

  mayReceivePresence(): boolean {
    if (this.#permissions === null) return true;
    return this.#permissions.presence?.read ?? false;
  }

  send(frame: string | Uint8Array<ArrayBuffer>): void {
    this.#socket.send(frame);
  }

  deliver(bindings: number[], data: string): void {
    if (this.#config.changes === null) {
      const { type } = JSON.parse(data) as { type: string };
      return this.#socket.send(this.codec.push(null, null, this.topic, type, data));
    }
    const payload = `{"data":${data},"ids":${JSON.stringify(bindings)}}`;
    this.#socket.send(this.codec.push(null, null, this.topic, "postgres_changes", payload));
  }

  /** Ends the channel and tells the client, who does not join again by itself. */
  close(): void {
    if (this.#state === "closed") return;
    this.#end();
    this.#push("phx_close", "{}", this.#joinRef);
    this.#socket.removed(this);
  }

  /** Ends the channel with an explanation, as Realtime does when a token expires. */
  shutDown(reason: string): void {
    if (this.#state === "closed") return;
    this.#system("system", "error", reason);
    this.close();
  }

  /** Ends the channel without a word: the connection is gone. */
  drop(): void {
    this.#end();
  }

  #end(): void {
    this.#state = "closed";
    clearTimeout(this.#expiry);
    this.#context.registry.remove(this.#subscriptions);
    this.#subscriptions = [];
    this.#context.ledger.erase(this.#bindings.map(({ subscriptionId }) => subscriptionId));
    this.#context.channels.delete(this);
    const isPrivate = this.#config?.isPrivate ?? false;
    this.#context.hub.leave(this.name, isPrivate, this);
    this.#context.hub.untrack(this.name, isPrivate, this);
  }

  /** Opaque keys and empty strings stand for the connection's own token. */
  #ownToken(token: string | null): string | null {
    return token === null || token.startsWith("sb_") ? null : token;
  }

  /** Takes a token over: claims, permissions on a private topic, the moment it ends. */
  async #authenticate(token: string): Promise<void> {
    const claims = await verifyChannelToken(this.#context.verifyToken, token);
    if (!await this.#socket.admit(claims.sub ?? null)) {
      throw new Refusal("ConnectionRateLimitReached", "Too many connected users");
    }
    let permissions: Permissions | null = null;
    if (this.#config.isPrivate) {
      permissions = await this.#askPermissions(claims);
      if (!permissions.broadcast.read && !permissions.presence?.read) {
        throw new Refusal(
          "Unauthorized",
          `You do not have permissions to read from this Channel topic: ${this.name}`,
        );
      }
    }
    this.#token = token;
    this.#permissions = permissions;
    this.role = claims.role;
    this.claims = JSON.stringify(claims);
    this.#watchExpiry(claims.exp);
  }

  async #askPermissions(claims: ChannelClaims): Promise<Permissions> {
    const caller = { topic: this.name, claims, headers: this.#socket.headers };
    const { permissions, failure } = await askPermissions(this.#context.sql, caller, {
      presence: this.#config.presence.enabled,
    });
    if (failure !== null) {
      this.#context.log.warn("A policy on realtime.messages failed", { failure });
    }
    return permissions;
  }

  #watchExpiry(exp: number): void {
    clearTimeout(this.#expiry);
    if (this.#state === "closed") return;
    const left = exp * 1000 - Date.now();
    this.#expiry = setTimeout(() => {
      if (left > LONGEST_TIMER_MS) return this.#watchExpiry(exp);
      this.shutDown(expired(Math.max(0, secondsLate(exp))).message);
    }, Math.min(left, LONGEST_TIMER_MS));
  }

  async #renewToken(payload: unknown): Promise<void> {
    const token = this.#ownToken(
      (payload as { access_token?: string } | null)?.access_token ?? null,
    );
    if (token === null || token === this.#token) return;
    const before = this.#permissions;
    try {
      await this.#authenticate(token);
    } catch (error) {
      // Without the code, unlike at a join.
      return this.shutDown(
        error instanceof Refusal ? error.message.replace(/^\w+: /, "") : (
          error instanceof TokenError ? error.message : this.#reason(error)
        ),
      );
    }
    const after = this.#permissions;
    const revoked = before !== null && after !== null &&
      ((before.broadcast.read && !after.broadcast.read) ||
        (before.presence?.read && !after.presence?.read));
    if (revoked) {
      return this.shutDown(
        `You no longer have permission to read from this Channel topic: ${this.name}`,
      );
    }
    if (this.#bindings.length > 0) this.#announceChanges(await this.#resolve());
  }

  #readBindings(): Binding[] {
    const params = this.#config.changes ?? [bindingOfTopic(this.name)];
    return params.map((params) => ({
      id: nextBindingId(),
      subscriptionId: crypto.randomUUID(),
      params,
    }));
  }

  /** Checks the bindings and follows their tables from now on. */
  async #resolve(): Promise<SubscriptionError | null> {
    const { sql, catalog, registry, ledger } = this.#context;
    if (this.#bindings.length === 0) return null;
    let subscriptions: Subscription[] = [];
    let failed: SubscriptionError | null = null;
    try {
      subscriptions = await resolveBindings(sql, catalog, this.#bindings, this);
    } catch (error) {
      if (!(error instanceof SubscriptionError)) throw error;
      failed = error;
    }
    if (this.#state === "closed") return null;
    registry.add(subscriptions);
    registry.remove(this.#subscriptions);
    this.#subscriptions = subscriptions;
    await ledger.write(this.#bindings.map(({ id, subscriptionId }) => ({
      id: subscriptionId,
      claims: this.claims,
      subscriptions: subscriptions.filter(({ binding }) => binding === id),
    })));
    return failed;
  }

  #announceChanges(failed: SubscriptionError | null): void {
    if (this.#state !== "joined" || this.#bindings.length === 0) return;
    if (failed !== null) return this.#system("postgres_changes", "error", failed.message);
    if (!this.#context.following()) return;
    this.#system("postgres_changes", "ok", "Subscribed to PostgreSQL");
  }

  async #loadReplay(): Promise<ReplayedMessage[]> {
    const { replay } = this.#config.broadcast;
    if (replay === null) return [];
    if (!this.#config.isPrivate) {
      throw new Refusal("UnableToReplayMessages", "Replay is not allowed for public channels");
    }
    if (!this.#permissions!.broadcast.read) {
      throw new Refusal(
        "Unauthorized",
        `You do not have permissions to read from this Channel topic: ${this.name}`,
      );
    }
    if (!Number.isFinite(replay.since)) {
      throw new Refusal("UnableToReplayMessages", "Replay params are not valid");
    }
    const messages = await loadReplay(this.#context.sql, this.name, replay);
    this.#replayed = new Set(messages.map(({ id }) => id));
    return messages;
  }

  #broadcast(message: ClientMessage): void {
    const { ack, self } = this.#config.broadcast;
    // Realtime answers nothing to who may not write.
    if (!(this.#permissions?.broadcast.write ?? true)) return;
    const broadcast = toBroadcast(message);
    const size = "raw" in broadcast ? broadcast.raw.length : broadcast.body.length;
    if (size > this.#context.limits.payloadBytes) {
      if (ack) this.#reply(message, "error", "payload_size_exceeded");
      return;
    }
    this.#context.hub.broadcast(this.name, this.#config.isPrivate, broadcast, {
      except: self ? null : this,
    });
    if (ack) this.#reply(message, "ok", {});
  }

  /** Tells who is there to a client that asked for presence. */
  #syncPresence(): void {
    if (!this.#config.presence.enabled || !this.mayReceivePresence()) return;
    if (!this.#context.presenceRate.take()) return this.shutDown(TOO_MANY_PRESENCES);
    this.#push("presence_state", this.#context.hub.presences(this.name, this.#config.isPrivate));
  }

  async #handlePresence(message: ClientMessage): Promise<void> {
    const { event, payload = {} } = (message.payload ?? {}) as Record<string, unknown>;
    if (typeof event !== "string") return this.#reply(message, "ok", {});
    this.#presenceRate ??= createRate(
      this.#context.limits.presencesPerWindow,
      this.#context.limits.presenceWindowMs,
    );
    if (!this.#presenceRate.take()) return this.shutDown("Client presence rate limit exceeded");
    switch (event.toLowerCase()) {
      case "untrack":
        this.#context.hub.untrack(this.name, this.#config.isPrivate, this);
        return this.#reply(message, "ok", {});
      case "track":
        return await this.#track(message, payload);
      default:
        return this.#reply(message, "error", {});
    }
  }

  async #track(message: ClientMessage, payload: unknown): Promise<void> {
    const { presence, isPrivate } = this.#config;
    if (this.#permissions !== null && this.#permissions.presence === null) {
      // Presence was not asked for at the join; to track oneself is to ask for it.
      this.#config = { ...this.#config, presence: { ...presence, enabled: true } };
      this.#permissions = await this.#askPermissions(JSON.parse(this.claims));
      if (this.#state !== "joined") return;
    }
    if (!(this.#permissions?.presence?.write ?? this.#permissions === null)) {
      return this.#reply(message, "error", {});
    }
    if (payload === null || typeof payload !== "object" || Array.isArray(payload)) {
      return this.#reply(message, "error", { reason: "Presence track payload must be a map" });
    }
    if (JSON.stringify(payload).length > this.#context.limits.payloadBytes) {
      return this.shutDown("Track message size exceeded");
    }
    if (!this.#context.presenceRate.take()) return this.shutDown(TOO_MANY_PRESENCES);
    this.#context.hub.track(this.name, isPrivate, this, {
      key: presence.key,
      payload: payload as Record<string, unknown>,
    });
    this.#reply(message, "ok", {});
  }

  #reason(error: unknown): string {
    if (error instanceof Refusal) return error.message;
    if (error instanceof TokenError) return `${error.code}: ${error.message}`;
    const { log } = this.#context;
    log.warn("A channel could not be joined", {
      failure: error instanceof Error ? error.message : String(error),
    });
    return "UnableToConnectToProject: Realtime was unable to connect to the project database";
  }

  #system(extension: string, status: "ok" | "error", message: string): void {
    this.#push("system", JSON.stringify({ extension, status, message, channel: this.name }));
  }

  #push(event: string, payload: string, ref: string | null = null): void {
    this.#socket.send(this.codec.push(this.#joinRef, ref, this.topic, event, payload));
  }

  #reply(message: ClientMessage, status: "ok" | "error", response: unknown): void {
    const asked = { ...message, joinRef: message.joinRef ?? this.#joinRef };
    this.#socket.send(this.codec.reply(asked, status, JSON.stringify(response)));
  }
}

function toBroadcast({ broadcast, payload }: ClientMessage): Broadcast {
  if (broadcast === undefined) return { kind: "raw", raw: JSON.stringify(payload ?? {}) };
  const { event, encoding, body } = broadcast;
  return encoding === "json"
    ? { kind: "json", event, body: Buffer.from(body).toString("utf8"), meta: null }
    : { kind: "binary", event, body, meta: null };
}

let bindingIds = Math.floor(Math.random() * 2 ** 26);

/** A number below 2^27, as clients know it from Realtime. */
function nextBindingId(): number {
  bindingIds = (bindingIds + 1) % 2 ** 27;
  return bindingIds;
}
