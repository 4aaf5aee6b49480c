import { nowNs, rfc3339Nano } from "#core/clock.ts";
import { EngineError } from "#core/errors.ts";

/** `SOURCE_DATE_EPOCH` in seconds; undefined when it is not set. @throws EngineError "invalid" @see https://reproducible-builds.org/specs/source-date-epoch/ */
export function parseSourceDate(text: string | undefined): number | undefined {
  if (text === undefined || text === "") return undefined;
  if (!/^[0-9]{1,12}$/.test(text)) throw new EngineError("invalid", `invalid SOURCE_DATE_EPOCH: ${JSON.stringify(text.slice(0, 40))} is no number of seconds`);
  return Number(text);
}

/** The time of a step that is performed now, RFC 3339. */
export function createdNow(sourceDateEpoch: number | undefined): string {
  return rfc3339Nano(sourceDateEpoch === undefined ? nowNs() : BigInt(sourceDateEpoch) * 1_000_000_000n);
}
