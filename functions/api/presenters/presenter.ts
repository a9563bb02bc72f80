import type { Edition, JsonObject } from "../../../shared/contract/editions.ts";
import type { AnswerContext } from "../../../shared/contract/facts.ts";

/** Makes one edition's answer out of the facts of a route. */
export type Presenter<Facts> = (facts: Facts, context: AnswerContext) => JsonObject;

export type Presenters<Facts> = Record<Edition, Presenter<Facts>>;
