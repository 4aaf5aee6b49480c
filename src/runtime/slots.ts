/**
 * Who may use which descriptor slot and which hand-shake number in a container's plan.
 * @module
 */

/** Slot numbers (0–63). The planner takes what it needs from `free` on. */
export const slots = {
  /** The new root, as `stdio` expects. */
  root: 0,
  /** For `CgroupManager.plan(…, slot)`. */
  cgroup: 1,
  /** First of four for `NetworkManager.join(…, slot)`: 4–7. */
  network: 4,
  free: 8,
} as const;

/** `signal`/`await` numbers. Network steps may use 16 and up. */
export const points = {
  /** Host → child: uid and gid maps are written. */
  mapped: 1,
  /** Host → child: cgroups are joined, the network namespace is wired. */
  ready: 2,
  /** Child → host: it has made its namespaces itself, and is their first process. */
  born: 3,
} as const;
