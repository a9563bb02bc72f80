import type { Engine } from "./engine.ts";
import type { Swarm } from "./swarm.ts";

const arch = Deno.build.arch === "aarch64" ? "arm64" : "amd64";

/** `GET /version`: the API that this engine speaks, and the machine it runs on. */
export function versionInfo() {
  return {
    Platform: { Name: "Agent Launchpad local engine" },
    Version: "27.3.1",
    ApiVersion: "1.47",
    MinAPIVersion: "1.24",
    Os: "linux",
    Arch: arch,
    KernelVersion: Deno.osRelease(),
    Experimental: false,
  };
}

/** `GET /info`. */
export function systemInfo(engine: Engine, swarm: Swarm | null) {
  const containers = engine.containers();
  const paused = containers.filter(({ state }) => state.status === "paused").length;
  const running = containers.filter(({ isRunning }) => isRunning).length - paused;
  return {
    ID: swarm?.record.nodeId ?? "",
    Name: Deno.hostname(),
    Containers: containers.length,
    ContainersRunning: running,
    ContainersPaused: paused,
    ContainersStopped: containers.length - running - paused,
    Images: engine.images.list().length,
    Driver: "overlay2",
    MemoryLimit: true,
    CpuCfsQuota: false,
    OomKillDisable: false,
    NCPU: navigator.hardwareConcurrency,
    MemTotal: Deno.systemMemoryInfo().total,
    LoggingDriver: "json-file",
    CgroupVersion: "2",
    KernelVersion: Deno.osRelease(),
    OperatingSystem: Deno.build.os,
    OSType: "linux",
    Architecture: Deno.build.arch,
    ServerVersion: versionInfo().Version,
    SystemTime: new Date().toISOString(),
    Labels: [],
    Warnings: ["processor limits are not enforced by this engine"],
    Swarm: swarm
      ? {
        NodeID: swarm.record.nodeId,
        NodeAddr: "127.0.0.1",
        LocalNodeState: "active",
        ControlAvailable: true,
        Error: "",
        RemoteManagers: [{ NodeID: swarm.record.nodeId, Addr: "127.0.0.1:2377" }],
        Nodes: 1,
        Managers: 1,
        Cluster: { ID: swarm.record.id },
      }
      : {
        NodeID: "",
        NodeAddr: "",
        LocalNodeState: "inactive",
        ControlAvailable: false,
        Error: "",
        RemoteManagers: null,
      },
  };
}
