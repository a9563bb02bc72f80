/** What a child prints, followed by its address, once it answers. */
export const READY_MARK = "launchpad:ready ";
/** What the supervisor writes to a child's standard input to have it end in order. */
export const STOP_COMMAND = "stop\n";
