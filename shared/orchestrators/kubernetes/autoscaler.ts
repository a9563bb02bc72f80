import { z } from "zod";
import type { AutoscalerState, ContainerState } from "../types.ts";
import { anyObject } from "./state.ts";

/** A HorizontalPodAutoscaler, as far as it tells what it decided. */
export const horizontalPodAutoscaler = anyObject.extend({
  spec: z.object({
    metrics: z.array(z.object({
      resource: z.object({
        name: z.string(),
        target: z.object({ averageUtilization: z.number().nullish() }).nullish(),
      }).nullish(),
    })).nullish(),
  }),
  status: z.object({
    desiredReplicas: z.number().int().nonnegative().nullish(),
    currentMetrics: z.array(z.object({
      resource: z.object({
        name: z.string(),
        current: z.object({ averageUtilization: z.number().nullish() }).nullish(),
      }).nullish(),
    })).nullish(),
    conditions: z.array(z.object({
      type: z.string(),
      status: z.string(),
      reason: z.string().nullish(),
      lastTransitionTime: z.string().nullish(),
    })).nullish(),
  }).nullish(),
});

type Condition = NonNullable<
  NonNullable<z.output<typeof horizontalPodAutoscaler>["status"]>["conditions"]
>[number];

/**
 * A metrics-server knows a container after it has looked at it twice, and looks once in a quarter of a minute to once
 * in a minute. Until then that it knows nothing is how every deployment begins.
 */
const FIRST_MEASUREMENT_MS = 150_000;

/**
 * What the autoscaler decided last, and what kept it from more.
 *
 * @param containers those that it measures
 */
export function autoscalerState(
  found: z.output<typeof horizontalPodAutoscaler>,
  containers: ContainerState[],
  now: number,
): AutoscalerState {
  const measured = new Map(
    found.status?.currentMetrics?.map(({ resource }) => [
      resource?.name,
      resource?.current?.averageUtilization ?? null,
    ]),
  );
  return {
    // It never wants none; 0 stands there until it could first decide.
    replicas: found.status?.desiredReplicas || null,
    metrics: (found.spec.metrics ?? []).flatMap(({ resource }) => {
      const target = resource?.target?.averageUtilization;
      if (!resource || typeof target !== "number") return [];
      if (resource.name !== "cpu" && resource.name !== "memory") return [];
      const { name } = resource;
      return [{ metric: name, valuePercent: measured.get(name) ?? null, targetPercent: target }];
    }),
    limitedBy: limitedBy(
      found.status?.conditions ?? [],
      ({ lastTransitionTime }) =>
        isLongAgo(lastTransitionTime, now) &&
        containers.some(({ startedAt }) => isLongAgo(startedAt, now)),
    ),
  };
}

function isLongAgo(time: string | null | undefined, now: number): boolean {
  return now - Date.parse(time ?? "") > FIRST_MEASUREMENT_MS;
}

/** Its words are prose of another's; the reasons are an enumeration. */
function limitedBy(
  conditions: Condition[],
  hadItsTime: (condition: Condition) => boolean,
): AutoscalerState["limitedBy"] {
  const find = (type: string, status: string, reasons: RegExp) =>
    conditions.find((one) =>
      one.type === type && one.status === status && reasons.test(one.reason ?? "")
    );
  if (find("AbleToScale", "False", /^Failed/)) return "scaling_failed";
  // Scaled to zero is stopped on purpose.
  const unmeasured = find("ScalingActive", "False", /^(?!ScalingDisabled$)/);
  if (unmeasured && hadItsTime(unmeasured)) return "unmeasured";
  return find("ScalingLimited", "True", /^TooManyReplicas$/) ? "max_replicas" : null;
}
