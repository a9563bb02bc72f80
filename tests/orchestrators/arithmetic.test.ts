import { describe, expect, it } from "vitest";
import {
  cpuCores,
  memoryBytes,
  toContainerMetrics,
} from "../../shared/orchestrators/docker-stats.ts";
import { cpuForDocker, memoryForDocker } from "../../shared/orchestrators/quantities.ts";
import { parseQuantity } from "../../shared/contract/quantities.ts";
import { toNanoseconds, toUnixSeconds } from "../../shared/orchestrators/timestamps.ts";
import { splitImage } from "../../shared/orchestrators/portainer/images.ts";

describe("quantities", () => {
  it.each([
    ["500m", 0.5],
    ["1Gi", 2 ** 30],
    ["1.5Gi", 1.5 * 2 ** 30],
    ["100n", 1e-7],
    ["12345678n", 0.012345678],
    ["2", 2],
    ["1e3", 1000],
    ["128M", 128e6],
    ["1E", 1e18],
    [".5", 0.5],
    ["1.", 1],
  ])("reads %s", (text, value) => {
    expect(parseQuantity(text)).toBeCloseTo(value, 12);
  });

  it.each(["", "banana", "-1", "1 Gi", "1gi", "1GB", "Gi", "NaN", "1e999"])(
    "refuses %j",
    (text) => {
      expect(parseQuantity(text)).toBeNull();
    },
  );

  it("turns CPU into Docker's cores", () => {
    expect([cpuForDocker("500m"), cpuForDocker("2"), cpuForDocker("100n"), cpuForDocker("0")])
      .toEqual(["0.5", "2", "0.001", null]);
  });

  it("turns memory into whole bytes", () => {
    expect([memoryForDocker("1Gi"), memoryForDocker("100M"), memoryForDocker("0")])
      .toEqual(["1073741824b", "100000000b", null]);
  });
});

describe("Docker's statistics", () => {
  const cpu = (total: number, system: number, extra: object = {}) => ({
    cpu_usage: { total_usage: total },
    system_cpu_usage: system,
    online_cpus: 4,
    ...extra,
  });

  it("give cores between two samples", () => {
    expect(cpuCores({ precpu_stats: cpu(100, 1000), cpu_stats: cpu(200, 2000) })).toBe(0.4);
  });

  it("give nothing without a first sample", () => {
    expect(cpuCores({ precpu_stats: {}, cpu_stats: cpu(200, 2000) })).toBeNull();
    expect(cpuCores({ precpu_stats: cpu(0, 0), cpu_stats: cpu(200, 2000) })).toBeNull();
  });

  it("give nothing when the container was restarted in between", () => {
    expect(cpuCores({ precpu_stats: cpu(500, 1000), cpu_stats: cpu(200, 2000) })).toBeNull();
  });

  it("count processors where the engine does not say how many are on", () => {
    const usage = (total: number) => ({ total_usage: total, percpu_usage: [1, 2] });
    expect(cpuCores({
      precpu_stats: { cpu_usage: usage(100), system_cpu_usage: 1000 },
      cpu_stats: { cpu_usage: usage(200), system_cpu_usage: 2000 },
    })).toBe(0.2);
  });

  it("leave the page cache out of the memory, on both kinds of cgroup", () => {
    const stats = (details: Record<string, number>) => ({
      memory_stats: { usage: 1000, limit: 2000, stats: details },
    });
    expect(memoryBytes(stats({ cache: 300, inactive_file: 100 }))).toBe(700);
    expect(memoryBytes(stats({ inactive_file: 100 }))).toBe(900);
    expect(memoryBytes({ memory_stats: {} })).toBeNull();
  });

  it("add the networks up, and say null for a container without any", () => {
    const limits = { cpu: null, memory: null };
    const networks = {
      eth0: { rx_bytes: 1, tx_bytes: 2 },
      eth1: { rx_bytes: 10, tx_bytes: 20 },
    };
    const about = { id: "1", name: "a" };
    expect(toContainerMetrics({ networks }, about, limits, 0)).toMatchObject({
      networkRx: 11,
      networkTx: 22,
      timestamp: "1970-01-01T00:00:00.000Z",
    });
    expect(toContainerMetrics({}, about, limits, 0)).toMatchObject({
      networkRx: null,
      networkTx: null,
    });
  });
});

describe("timestamps", () => {
  it("keep nanoseconds through to Docker's form", () => {
    const time = toNanoseconds("2024-01-15T15:45:00.123456789Z")!;
    expect(toUnixSeconds(time)).toBe("1705333500.123456789");
  });

  it("mean the same in every zone and with trimmed zeros", () => {
    expect(toNanoseconds("2024-01-15T16:45:00.5+01:00")).toBe(
      toNanoseconds("2024-01-15T15:45:00.500000000Z"),
    );
    expect(toNanoseconds("yesterday")).toBeNull();
  });
});

describe("image references", () => {
  it.each([
    ["nginx", { name: "nginx", tag: "latest" }],
    ["nginx:1.27", { name: "nginx", tag: "1.27" }],
    ["registry:5000/team/agent", { name: "registry:5000/team/agent", tag: "latest" }],
    ["registry:5000/team/agent:v2", { name: "registry:5000/team/agent", tag: "v2" }],
    ["agent@sha256:abc", { name: "agent", tag: "sha256:abc" }],
  ])("%s", (image, parts) => expect(splitImage(image)).toEqual(parts));
});
