import type { Engine } from "#engine/mod.ts";
import type { Log } from "../router.ts";
import type { Jobs } from "./jobs.ts";
import type { Sessions } from "./sessions.ts";

/** What BuildKit's services share. */
export interface BuildKitState {
  readonly engine: Engine;
  /** wherry's version. */
  readonly version: string;
  readonly log: Log;
  readonly jobs: Jobs;
  readonly sessions: Sessions;
}
