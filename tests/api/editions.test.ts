import { describe, expect, it } from "vitest";
import { editionsOfAnswer, mergeAnswers, parseEdition } from "../../shared/contract/editions.ts";
import { operationWord, statesOfWord, stateWord } from "../../shared/contract/states.ts";
import { deployTimeText, isoTime, uptimeText } from "../../shared/contract/times.ts";

describe("editions", () => {
  it("reads the header", () => {
    expect([parseEdition(null), parseEdition("1"), parseEdition(" 3 ")]).toEqual([null, 1, 3]);
  });

  it.each([["0"], ["4"], ["1.0"], [""], ["latest"]])("refuses API-Version %s", (value) => {
    expect(() => parseEdition(value)).toThrow("Invalid request: API-Version");
  });

  it("gives exactly the edition asked for", () => {
    expect(editionsOfAnswer(2, "api_key", [1, 3])).toEqual([2]);
  });

  it("puts a key's own edition first", () => {
    expect(editionsOfAnswer(null, "api_key", [1, 2, 3])).toEqual([1, 2, 3]);
  });

  it("puts a token's own edition first", () => {
    expect(editionsOfAnswer(null, "jwt", [1, 2, 3])).toEqual([3, 2, 1]);
  });

  it("leaves out editions that do not know the route", () => {
    expect(editionsOfAnswer(null, "jwt", [1, 2])).toEqual([2, 1]);
  });
});

describe("merging", () => {
  it("keeps the fields of both", () => {
    expect(mergeAnswers({ a: 1 }, { b: 2 })).toEqual({ a: 1, b: 2 });
  });

  it("lets the first win where they clash", () => {
    expect(mergeAnswers({ status: "running" }, { status: "DEPLOYED" })).toEqual({
      status: "running",
    });
  });

  it("goes into objects", () => {
    const merged = mergeAnswers({ metrics: { cpu: { current: 1 } } }, {
      metrics: { cpu: { usage: 0.4 } },
    });
    expect(merged).toEqual({ metrics: { cpu: { current: 1, usage: 0.4 } } });
  });

  it("merges lists of the same things element by element", () => {
    expect(mergeAnswers([{ id: "a" }, { id: "b" }], [{ n: 1 }, { n: 2 }])).toEqual([
      { id: "a", n: 1 },
      { id: "b", n: 2 },
    ]);
  });

  it("lets what is known stand for what is unknown", () => {
    expect(mergeAnswers({ url: null }, { url: "http://x" })).toEqual({ url: "http://x" });
  });
});

describe("states", () => {
  it.each([
    ["queued", "QUEUED", "deploying"],
    ["running", "DEPLOYED", "running"],
    ["scaling", "SCALING", "scaling"],
    ["deleting", "DELETING", "deleting"],
    ["stopped", "STOPPED", "stopped"],
  ])("writes %s as %s and %s", (state, first, third) => {
    expect([stateWord(1, state), stateWord(2, state), stateWord(3, state)]).toEqual([
      first,
      first,
      third,
    ]);
  });

  it("finds by a word exactly what it is written as", () => {
    const states = ["queued", "deploying", "running", "scaling", "stopped", "failed"];
    for (const edition of [1, 2, 3] as const) {
      for (const state of states) {
        const word = stateWord(edition, state);
        const shown = states.filter((each) => stateWord(edition, each) === word);
        expect(statesOfWord(edition, word)).toEqual(expect.arrayContaining(shown));
      }
    }
  });

  it("calls a queued operation initiating", () => {
    expect(operationWord("queued")).toBe("initiating");
  });
});

describe("times", () => {
  it("writes times in UTC", () => {
    expect(isoTime("2024-01-15T12:30:00.123456+02:00")).toBe("2024-01-15T10:30:00.123Z");
  });

  it("writes uptimes as the documents do", () => {
    expect([uptimeText(8100), uptimeText(59), uptimeText(null)]).toEqual(["2h 15m", "0h 0m", null]);
  });

  it("writes a range of minutes", () => {
    expect([deployTimeText(300, 600), deployTimeText(2, 5)]).toEqual([
      "5-10 minutes",
      "0-1 minutes",
    ]);
  });
});
