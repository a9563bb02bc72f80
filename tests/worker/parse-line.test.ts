import { describe, expect, it } from "vitest";
import { parseLine } from "../../shared/worker/collector/parse-line.ts";

describe("a line of an agent's log", () => {
  it.each([
    [
      "[2024-01-15T15:45:00.000Z] INFO (eliza-core): Agent started",
      "INFO",
      "eliza-core",
      "Agent started",
    ],
    ["[2024-01-15 15:45:00] ERROR (discord-client): gone", "ERROR", "discord-client", "gone"],
    ["2024-01-15T15:45:00Z WARN discord-client: slow", "WARN", "discord-client", "slow"],
    ["[15:45:00.123] DEBUG (memory/4321): tick", "DEBUG", "memory", "tick"],
    ["2024-01-15 15:45:00,123 - my.module - WARNING - careful", "WARN", "my.module", "careful"],
    ["ERROR: no such file", "ERROR", null, "no such file"],
    ["[warn] watch out", "WARN", null, "watch out"],
    ["FATAL: cannot go on", "ERROR", null, "cannot go on"],
    ['time=1 level=warn source=http msg="took long"', "WARN", "http", "took long"],
  ])("%s", (line, level, source, message) => {
    expect(parseLine(line, "stdout")).toMatchObject({ level, source, message });
  });

  it("reads JSON, and keeps what else it carries", () => {
    const line = JSON.stringify({
      timestamp: "x",
      level: "warn",
      source: "eliza",
      message: "hm",
      guild: "g1",
    });
    expect(parseLine(line, "stdout")).toEqual({
      level: "WARN",
      source: "eliza",
      message: "hm",
      metadata: { guild: "g1" },
    });
  });

  it("knows pino's numbers", () => {
    expect(parseLine('{"level":50,"msg":"broken","name":"api"}', "stdout"))
      .toMatchObject({ level: "ERROR", message: "broken", source: "api" });
  });

  it("goes by the stream when the line says no level", () => {
    expect(parseLine("hello", "stdout")).toMatchObject({ level: "INFO", message: "hello" });
    expect(parseLine("Traceback (most recent call last):", "stderr")).toMatchObject({
      level: "ERROR",
    });
  });

  it("does not take a word in running text for a level", () => {
    expect(parseLine("information about errors", "stdout"))
      .toMatchObject({ level: "INFO", source: null, message: "information about errors" });
    expect(parseLine("error-prone code was loaded", "stdout")).toMatchObject({ level: "INFO" });
  });

  it("leaves out what Postgres cannot store and terminals colour", () => {
    expect(parseLine("\u001b[31mred\u001b[0m and\u0000 nul\r", "stdout").message).toBe(
      "red and nul",
    );
  });

  it("cuts an endless line and says so", () => {
    const { message } = parseLine("x".repeat(20_000), "stdout");
    expect(message.length).toBeLessThan(16_500);
    expect(message).toContain("3616 more characters");
  });

  it("takes broken JSON as text", () => {
    expect(parseLine('{"level":"info", }', "stdout")).toMatchObject({
      message: '{"level":"info", }',
    });
  });
});
