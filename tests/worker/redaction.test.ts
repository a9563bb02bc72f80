import { describe, expect, it } from "vitest";
import { createRedactor, REDACTED } from "../../shared/worker/redaction.ts";

const secret = 'sk-live/9f2+c1=dd"7';

describe("redaction of known secrets", () => {
  it.each([
    ["as it is", `token ${secret} end`],
    ["escaped in JSON", JSON.stringify({ token: secret })],
    ["percent-encoded", `https://x.test/?key=${encodeURIComponent(secret)}`],
    ["in base64", `Authorization: Basic ${btoa(secret)}`],
  ])("%s", (_, text) => {
    const clean = createRedactor([secret]).text(text);
    expect(clean).toContain(REDACTED);
    expect(clean).not.toContain("9f2");
    expect(clean).not.toContain(btoa(secret).slice(0, 12));
  });

  it("takes out each line of a key that has many", () => {
    const key =
      "-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG9w0\nBAQEFAASCBKcwggSjAgEAAo\n-----END KEY-----";
    expect(createRedactor([key]).text("read BAQEFAASCBKcwggSjAgEAAo from disk")).toBe(
      `read ${REDACTED} from disk`,
    );
  });

  it("leaves short values alone, for they would blank everything", () => {
    expect(createRedactor(["true", "1"]).text("true: 1 agent")).toBe("true: 1 agent");
  });

  it("takes a secret that contains another out whole", () => {
    expect(createRedactor(["secret", "secret-and-more"]).text("x secret-and-more y")).toBe(
      `x ${REDACTED} y`,
    );
  });

  it("reaches every string of nested data", () => {
    expect(createRedactor([secret]).data({ a: [{ b: `<${secret}>` }], n: 1, z: null }))
      .toEqual({ a: [{ b: `<${REDACTED}>` }], n: 1, z: null });
  });

  it("finds it in every line of a batch", () => {
    const texts = ["clean", `one ${secret}`, `two ${secret}`];
    expect(createRedactor([secret]).texts(texts)).toEqual([
      "clean",
      `one ${REDACTED}`,
      `two ${REDACTED}`,
    ]);
  });
});
