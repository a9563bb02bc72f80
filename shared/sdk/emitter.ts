type Listener<Value> = (value: Value) => void;

/**
 * Events by name, in browsers too. Who begins to listen late is told the last value of each event at
 * once, so that nothing is missed between an `await` and an `on`.
 */
export class Emitter<Events extends object> {
  readonly #listeners = new Map<keyof Events, Set<Listener<never>>>();
  readonly #last = new Map<keyof Events, unknown>();

  on<Name extends keyof Events>(name: Name, listener: Listener<Events[Name]>): this {
    const listeners = this.#listeners.get(name) ?? new Set();
    this.#listeners.set(name, listeners.add(listener));
    if (this.#last.has(name)) {
      const value = this.#last.get(name) as Events[Name];
      queueMicrotask(() => listeners.has(listener) && listener(value));
    }
    return this;
  }

  off<Name extends keyof Events>(name: Name, listener: Listener<Events[Name]>): this {
    this.#listeners.get(name)?.delete(listener);
    return this;
  }

  protected emit<Name extends keyof Events>(name: Name, value: Events[Name]): void {
    this.#last.set(name, value);
    for (const listener of this.#listeners.get(name) ?? []) {
      (listener as Listener<Events[Name]>)(value);
    }
  }
}
