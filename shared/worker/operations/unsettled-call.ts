import type { Work } from "./step.ts";

/**
 * True while a call that an earlier pass began may still be at work upstream: the worker died in it, or it
 * timed out. Portainer's create goes on after its client has gone and shows its stack only when it is
 * through, so acting again at once would make a second one.
 */
export function mayStillBeWorking(work: Work, call: string): boolean {
  const { detail } = work.step;
  if (detail?.call !== call || typeof detail.called_at !== "string" || detail.returned) {
    return false;
  }
  return work.clock.now() < Date.parse(detail.called_at) + work.settings.settleSeconds * 1000;
}
