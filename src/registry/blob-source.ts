import type { Clock } from "#core/clock.ts";
import type { Digest } from "#core/digest.ts";
import type { HttpAnswer } from "./network.ts";
import type { SlowestPace } from "./pace.ts";
import type { RetryOptions } from "./retry.ts";

/** Who can be asked for a blob. */
export interface BlobSource {
  /** From `offset` (206), or the whole (200) where ranges are not known; 416: there is nothing behind the offset. */
  fetch(digest: Digest, offset: number, signal: AbortSignal): Promise<HttpAnswer>;
  readonly clock: Clock;
  readonly slowest: SlowestPace;
  readonly onWait?: RetryOptions["onWait"];
}
