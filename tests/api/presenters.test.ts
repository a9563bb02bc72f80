import { describe, expect, it } from "vitest";
import { presentAgent } from "../../functions/api/presenters/agent.ts";
import {
  presentDeleted,
  presentRestarted,
  presentScaled,
  presentStopped,
  presentUpdated,
} from "../../functions/api/presenters/commands.ts";
import { presentCreated } from "../../functions/api/presenters/created.ts";
import { presentList } from "../../functions/api/presenters/list.ts";
import { presentLogs } from "../../functions/api/presenters/logs.ts";
import { presentMetrics } from "../../functions/api/presenters/metrics.ts";
import type { CommandFacts } from "../../shared/contract/facts.ts";
import * as one from "../../shared/contract/responses/edition-1.ts";
import * as two from "../../shared/contract/responses/edition-2.ts";
import * as three from "../../shared/contract/responses/edition-3.ts";
import { agentRow, context, deploymentRow, metricsRow, queued, snapshot } from "./support/facts.ts";

const id = agentRow.id;
const user_id = agentRow.user_id;

describe("a creation", () => {
  it("is edition 1's", () => {
    const answer = presentCreated[1](queued, context);
    expect(one.created1.parse(answer)).toEqual({
      agentId: id,
      status: "QUEUED",
      createdAt: "2024-01-15T10:30:00.123Z",
      estimatedDeployTime: "5-10 minutes",
    });
  });

  it("is edition 2's, with what the catalog says", () => {
    const answer = presentCreated[2](queued, context);
    expect(two.created2.parse(answer)).toMatchObject({
      status: "QUEUED",
      user_id,
      supabase_integration: {
        tables_created: true,
        rls_policies_applied: true,
        real_time_enabled: true,
      },
    });
  });

  it("is edition 3's", () => {
    const answer = presentCreated[3](queued, context);
    expect(three.created3.parse(answer)).toEqual({
      success: true,
      agent: {
        id,
        name: "market-watcher",
        status: "deploying",
        created_at: "2024-01-15T10:30:00.123Z",
        supabase: {
          database_id: id,
          real_time_channel: "agent_status",
          real_time_topic: `agent:${id}:agent_status`,
        },
        portainer: {
          stack_id: null,
          stack_name: "market-watcher",
          endpoint_id: 1,
          deployment_url: null,
        },
      },
      deployment: {
        status: "initiating",
        progress: 25,
        estimated_completion: "2024-01-15T10:35:00.000Z",
        steps: [
          {
            name: "validate_configuration",
            status: "completed",
            completed_at: "2024-01-15T10:30:15.000Z",
          },
          { name: "create_container_template", status: "pending" },
        ],
      },
    });
  });

  it("makes nothing up when nothing is known", () => {
    const answer = presentCreated[2]({ ...queued, estimate: null }, { ...context, platform: null });
    expect(answer).toMatchObject({
      estimatedDeployTime: null,
      supabase_integration: {
        tables_created: null,
        rls_policies_applied: null,
        real_time_enabled: null,
      },
    });
  });
});

describe("one agent", () => {
  it("is edition 1's", () => {
    expect(one.status1.parse(presentAgent[1](snapshot, context))).toEqual({
      agentId: id,
      status: "DEPLOYED",
      url: "https://market-watcher.example.com",
      health: {
        overall: "HEALTHY",
        kubernetes: { status: "HEALTHY", replicas: 3, readyReplicas: 3 },
        application: { status: "HEALTHY", uptime: "5h 15m", responseTime: "45ms" },
      },
      deployedAt: "2024-01-15T10:35:00.000Z",
      lastUpdated: "2024-01-15T12:45:00.000Z",
      error: null,
    });
  });

  it("is starting, not unhealthy, while none of its replicas has come up", () => {
    const statusOf = (state: string, replicas_ready: number) =>
      presentAgent[1](
        { ...snapshot, deployment: { ...snapshot.deployment!, state, replicas_ready } },
        context,
      );
    const replicas = (status: string, readyReplicas: number) => ({
      health: { kubernetes: { status, replicas: 3, readyReplicas } },
    });
    expect(statusOf("deploying", 0)).toMatchObject(replicas("STARTING", 0));
    expect(statusOf("running", 0)).toMatchObject(replicas("UNHEALTHY", 0));
    expect(statusOf("running", 1)).toMatchObject(replicas("DEGRADED", 1));
  });

  it("was not updated before it was deployed", () => {
    const deployment = { ...snapshot.deployment!, updated_at: "2024-01-15T10:34:59.990Z" };
    expect(presentAgent[1]({ ...snapshot, deployment }, context)).toMatchObject({
      deployedAt: "2024-01-15T10:35:00.000Z",
      lastUpdated: "2024-01-15T10:35:00.000Z",
    });
  });

  it("is edition 2's", () => {
    expect(two.status2.parse(presentAgent[2](snapshot, context))).toMatchObject({
      name: "market-watcher",
      user_id,
      health: {
        supabase: { connection: "HEALTHY", real_time_active: true, rls_policies: "ACTIVE" },
      },
      supabase_config: {
        project_ref: "abcdefghijklmnop",
        tables: { conversations: null, metrics: "agent_metrics", logs: "agent_logs" },
      },
    });
  });

  it("is edition 3's: percent, MB and seconds", () => {
    expect(three.agent3.parse(presentAgent[3](snapshot, context)).agent).toEqual({
      id,
      name: "market-watcher",
      status: "running",
      created_at: "2024-01-15T10:30:00.123Z",
      deployed_at: "2024-01-15T10:35:00.000Z",
      revision: 2,
      last_activity: "2024-01-15T15:45:00.000Z",
      supabase: { database_record: { id, updated_at: "2024-01-15T15:45:00.000Z" } },
      portainer: {
        stack_id: "123",
        stack_status: "active",
        containers: [
          {
            id: "c1",
            name: "market-watcher_agent.1",
            status: "running",
            health: "healthy",
            uptime: "5h 15m",
            restart_count: 0,
          },
          {
            id: "c2",
            name: "market-watcher_agent.2",
            status: "exited",
            health: "unhealthy",
            uptime: null,
            restart_count: 2,
          },
        ],
        services: [{
          id: "s1",
          name: "market-watcher_agent",
          replicas: { running: 3, desired: 3 },
          ports: [{ published: 3000, target: 3000, protocol: "tcp" }],
        }],
      },
      metrics: {
        cpu_usage: 45.2,
        memory_usage: 768,
        memory_limit: 1024,
        network_rx: 12_345_678,
        network_tx: 9_876_543,
        requests_per_minute: 150,
        error_rate: 0.04,
        uptime: 18_900,
      },
      health: {
        status: "healthy",
        last_check: "2024-01-15T15:45:00.000Z",
        checks: [{ name: "http_health", status: "passing", response_time: "45ms" }],
      },
      operation: null,
      error: null,
    });
  });

  it("is whole before anything runs", () => {
    const nothing = {
      agent: agentRow,
      deployment: null,
      operation: null,
      metrics: null,
      reported: null,
    };
    const bare = { ...context, platform: null };
    expect(one.status1.safeParse(presentAgent[1](nothing, bare)).error).toBeUndefined();
    expect(three.agent3.safeParse(presentAgent[3](nothing, bare)).error).toBeUndefined();
  });

  it("says how many replicas are missing", () => {
    const degraded = { ...snapshot, deployment: { ...deploymentRow, replicas_ready: 1 } };
    expect(presentAgent[1](degraded, context)).toMatchObject({
      health: { kubernetes: { status: "DEGRADED", replicas: 3, readyReplicas: 1 } },
    });
  });
});

describe("a list", () => {
  const page = {
    agents: [{ agent: agentRow, deployment: deploymentRow, metrics: metricsRow }],
    total: 50,
    summary: { total_agents: 50, running: 45, stopped: 3, deploying: 2, failed: 0 },
    limit: 20,
    offset: 0,
  };

  it("is edition 1's", () => {
    expect(one.list1.parse(presentList[1](page, context)).agents[0]).toEqual({
      agentId: id,
      name: "market-watcher",
      status: "DEPLOYED",
      owner: user_id,
      createdAt: "2024-01-15T10:30:00.123Z",
      url: "https://market-watcher.example.com",
    });
  });

  it("is edition 2's", () => {
    const answer = two.list2.parse(presentList[2](page, context));
    expect(answer.user_id).toBe(user_id);
    expect(answer.agents[0]).toMatchObject({
      platforms: ["discord", "telegram"],
      supabase_integration: true,
    });
  });

  it("is edition 3's", () => {
    const answer = three.list3.parse(presentList[3](page, context));
    expect(answer.pagination).toEqual({ total: 50, limit: 20, offset: 0, has_more: true });
    expect(answer.agents[0]).toMatchObject({
      status: "running",
      platform: "discord",
      containers: { count: 2, healthy: 1, unhealthy: 1 },
      metrics: { cpu_usage: 45.2, memory_usage: 768, requests_per_minute: 150 },
    });
  });
});

describe("commands", () => {
  const scaled: CommandFacts = {
    ...queued,
    deployment: { ...deploymentRow, state: "scaling", replicas_desired: 5 },
    operation: {
      ...queued.operation!,
      kind: "scale",
      request: { from_replicas: 3, to_replicas: 5, strategy: "rolling" },
    },
  };
  const inState = (state: string): CommandFacts => ({
    ...queued,
    deployment: { ...deploymentRow, state },
  });

  it("tell of a scaling in edition 1 and 2", () => {
    expect(one.scaled1.parse(presentScaled[1](scaled, context))).toMatchObject({
      currentReplicas: 3,
      targetReplicas: 5,
      status: "SCALING",
    });
    expect(two.scaled2.parse(presentScaled[2](scaled, context))).toMatchObject({
      scaling_event_logged: true,
      supabase_event_id: queued.event_id,
    });
  });

  it("tell of a scaling in edition 3", () => {
    expect(three.scaled3.parse(presentScaled[3](scaled, context))).toEqual({
      success: true,
      operation_id: queued.operation!.id,
      scaling: {
        from_replicas: 3,
        to_replicas: 5,
        strategy: "rolling",
        estimated_completion: "2024-01-15T10:35:00.000Z",
        status: "in_progress",
      },
      agent: { id, name: "market-watcher", status: "scaling" },
    });
  });

  it("tell of a restart", () => {
    const facts = inState("restarting");
    one.restarted1.parse(presentRestarted[1](facts, context));
    two.restarted2.parse(presentRestarted[2](facts, context));
    three.command3.parse(presentRestarted[3](facts, context));
  });

  it("tell of a stop, which editions 1 and 2 do not document, like a restart", () => {
    expect(presentStopped[1](inState("stopping"), context)).toMatchObject({
      agentId: id,
      status: "STOPPING",
      message: "Agent stop initiated",
    });
  });

  it("tell of a deletion, with what becomes of the data", () => {
    const facts = { ...inState("deleting"), retention_days: 30 };
    one.deleted1.parse(presentDeleted[1](facts, context));
    expect(two.deleted2.parse(presentDeleted[2](facts, context)).supabase_cleanup).toEqual({
      data_retention_policy: "30_days",
      personal_data_removal: "immediate",
      audit_log_preserved: true,
    });
  });

  it("tell of an update, field by field", () => {
    const facts = { ...inState("updating"), changes: { resources: true, supabase_config: true } };
    expect(two.updated2.parse(presentUpdated[2](facts, context))).toMatchObject({
      status: "UPDATING",
      changes_applied: { resources: true, supabase_config: true },
    });
  });
});

describe("logs", () => {
  const facts = {
    agentId: id,
    lines: [{
      id: 7,
      timestamp: "2024-01-15T15:45:00+00:00",
      level: "INFO",
      message: "Agent started",
      source: "eliza-core",
      container_id: "c1",
      container_name: "market-watcher_agent.1",
      metadata: { room: "a" },
    }],
    total_lines: 1500,
    truncated: true,
    before: "1705333500000000_7",
    after: "1705333500000000_9",
    last_id: 7,
  };

  it("are edition 1's", () => {
    expect(one.logs1.parse(presentLogs[1](facts, context))).toEqual({
      agentId: id,
      logs: [{
        timestamp: "2024-01-15T15:45:00.000Z",
        level: "INFO",
        message: "Agent started",
        pod: "market-watcher_agent.1",
      }],
      totalLines: 1500,
      truncated: true,
      nextCursor: "1705333500000000_7",
      previousCursor: "1705333500000000_9",
    });
  });

  it("are edition 2's", () => {
    const answer = two.logs2.parse(presentLogs[2](facts, context));
    expect(answer.real_time_available).toBe(true);
    expect(answer.logs[0]).toMatchObject({
      id: "7",
      metadata: { pod: "market-watcher_agent.1", room: "a" },
    });
  });

  it("are edition 3's", () => {
    const answer = three.logs3.parse(presentLogs[3](facts, context));
    expect(answer.logs[0]?.level).toBe("info");
    expect(answer.pagination).toEqual({
      total_lines: 1500,
      returned_lines: 1,
      has_more: true,
      next_cursor: "1705333500000000_7",
      previous_cursor: "1705333500000000_9",
    });
  });
});

describe("metrics", () => {
  const mib = 1024 * 1024;
  const points = [{ timestamp: "2024-01-15T15:40:00+00:00", value: 756 * mib }];
  const nothingReported = { current: null, average: null, max: null, min: null, data_points: [] };
  const facts = {
    agentId: id,
    timeframe: "1h",
    interval: "5m",
    series: {
      cpu: { current: 45.24, average: 42.8, max: 67.3, min: 12.1, data_points: [] },
      memory: {
        current: 768 * mib,
        average: 745 * mib,
        max: 892 * mib,
        min: 512 * mib,
        limit: 1024 * mib,
        data_points: points,
      },
      network: { rx_bytes: 1, tx_bytes: 2, rx_rate: 1024, tx_rate: 512 },
      requests_per_minute: nothingReported,
      error_rate: { ...nothingReported, current: 0.04, average: 0.05 },
      response_time_ms: nothingReported,
      latest: metricsRow,
    },
  };

  it("are edition 1's: cores and bytes", () => {
    expect(one.metrics1.parse(presentMetrics[1](facts, context)).metrics).toEqual({
      cpu: { usage: 0.452, limit: 1, percentage: 45.2 },
      memory: { usage: 805_306_368, limit: 1_073_741_824, percentage: 75 },
      network: { bytesIn: 12_345_678, bytesOut: 9_876_543 },
      requests: {
        total: 1250,
        success: 1200,
        errors: 50,
        rate: 150,
        error_rate: 0.04,
        response_time_ms: 45.4,
      },
    });
  });

  it("are edition 2's, with what is counted of Supabase", () => {
    const supabase = {
      database_connections: 5,
      real_time_subscriptions: 3,
      rls_queries_per_minute: 120,
      auth_requests_per_hour: 45,
    };
    const counted = { ...facts, series: { ...facts.series, supabase } };
    const answer = two.metrics2.parse(presentMetrics[2](counted, context));
    expect(answer.metrics.supabase).toEqual(supabase);
  });

  it("are unknown to edition 2 as far as nobody counts", () => {
    const answer = two.metrics2.parse(presentMetrics[2](facts, context));
    expect(Object.values(answer.metrics.supabase)).toEqual([null, null, null, null]);
  });

  it("are edition 3's: percent and MB", () => {
    const { metrics } = three.metrics3.parse(presentMetrics[3](facts, context));
    expect(metrics.cpu.current).toBe(45.2);
    expect(metrics.error_rate).toMatchObject({ current: 0.04, average: 0.05, max: null });
    expect(metrics.memory).toMatchObject({
      current: 768,
      limit: 1024,
      data_points: [{ timestamp: "2024-01-15T15:40:00.000Z", value: 756 }],
    });
  });

  it("are null where nothing was measured", () => {
    const nothing = {
      ...facts,
      series: {
        cpu: nothingReported,
        memory: { ...nothingReported, limit: null },
        network: { rx_bytes: null, tx_bytes: null, rx_rate: null, tx_rate: null },
        requests_per_minute: nothingReported,
        error_rate: nothingReported,
        response_time_ms: nothingReported,
        latest: null,
      },
    };
    one.metrics1.parse(presentMetrics[1](nothing, context));
    expect(three.metrics3.parse(presentMetrics[3](nothing, context)).metrics.cpu.current)
      .toBeNull();
  });
});
