/**
 * A container start is data before it is action: an ordered list of steps. The helper performs them and decides nothing.
 *
 * Steps run in order. `host` steps run in the monitor process (forked from the helper, host namespaces, root). The `clone` step makes the
 * child; from there `child` steps run in the child and `host` steps go on in the monitor, each side in order; `signal`/`await` order them
 * against each other. The last child step is `exec`. A plan without `clone` runs its host steps and ends (a "call").
 * Descriptors live in numbered slots (slot k = descriptor {@link SLOT_BASE}+k in both processes, close-on-exec).
 * @module
 */
import type { Op } from "./ops.gen.ts";

/** Descriptor number of slot 0, so that a plan can name a descriptor in netlink attributes or /proc/self/fd paths. */
export const SLOT_BASE = 100;
/** "No slot": the path is absolute. */
export const NO_SLOT = 0xffffffff;
export const MAX_SLOTS = 256;

/** Where a step runs, why (one phrase for people), where to read on, and the only errnos that do not fail it. */
export interface StepInfo {
  readonly where: "host" | "child";
  /** One phrase: "so that the container cannot see the host's processes". */
  readonly why: string;
  /** Man page or spec section; default: the operation's man page. */
  readonly see?: string;
  /** Errno names that may be ignored, e.g. ["EEXIST"]. At most 4. */
  readonly ignore?: readonly string[];
  /** A heading for `--explain`; a step with a new section starts a new paragraph. */
  readonly section?: string;
}

export type Step = Op & StepInfo;

/** What the helper is asked to perform. */
export interface Plan {
  readonly steps: readonly Step[];
  /** Where the last `count` steps are bytes already (plan-pattern.ts): those, and the steps before them. To ask for `steps` then costs something. */
  readonly known?: { readonly first: readonly Step[]; readonly count: number; readonly bytes: Uint8Array };
}

/** Failure of one step, as the helper answers it; {@link renderStepError} (runtime/explain) turns it into an EngineError. */
export interface StepFailure {
  readonly step: number;
  readonly errno: number;
}
