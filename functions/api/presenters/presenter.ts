import type { Edition, JsonObject } from "../../../shared/contract/editions.ts";
import type { AnswerContext } from "../../../shared/contract/facts.ts";

/** Makes one edition's answer out of the facts of a route. */
export type Presenter<Facts> = (facts: Facts, context: AnswerContext) => JsonObject;

export type Presenters<Facts> = Record<Edition, Presenter<Facts>>;

/** For what one seed alone knows, or none: who asks in another edition gets the same answer. */
export function inAllEditions<Facts>(present: Presenter<Facts>): Presenters<Facts> {
  return { 1: present, 2: present, 3: present };
}
