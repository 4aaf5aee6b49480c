/** What a registry refused, in docker's words. @module @see https://github.com/opencontainers/distribution-spec/blob/main/spec.md#error-codes */
import { STATUS_CODES } from "node:http";
import { EngineError, type ErrorCode } from "#core/errors.ts";
import { isObject } from "#core/json.ts";
import { type HttpAnswer, readSmall } from "./network.ts";
import { retryAfterMs } from "./retry.ts";

const maxErrorBytes = 64 * 1024;

/** `what` names the operation for people: "manifest for busybox:latest". Consumes the body. */
export async function refusal(answer: HttpAnswer, what: string, now: number): Promise<EngineError> {
  const told = await errorsIn(answer);
  const { status } = answer;
  const message = told.map(({ text }) => text).join("\n") || fallbackText(answer, what);
  const details = { status, registryCodes: told.map(({ code }) => code) };
  if (status === 429) return tooMany(answer, message, now, details);
  if (status >= 500) return new EngineError("unavailable", message, { details: { ...details, transient: true } });
  return new EngineError(codeOf(status), message, { details });
}

function codeOf(status: number): ErrorCode {
  if (status === 401) return "unauthorized";
  if (status === 403) return "denied";
  if (status === 404) return "not-found";
  return "internal";
}

function tooMany(answer: HttpAnswer, message: string, now: number, details: object): EngineError {
  const wait = retryAfterMs(answer.header("retry-after"), now);
  return new EngineError("unavailable", message.startsWith("toomanyrequests") ? message : `toomanyrequests: ${message}`, {
    hint: `the registry limits how often it is asked${wait === undefined ? "" : `, and wants to be left alone for ${Math.ceil(wait / 1000)} s`}: log in, or ask a mirror (--registry-mirror)`,
    details: { ...details, transient: true, ...(wait === undefined ? {} : { retryAfterMs: wait }) },
  });
}

function fallbackText({ status }: HttpAnswer, what: string): string {
  if (status === 401) return "unauthorized: authentication required";
  if (status === 403) return "denied: requested access to the resource is denied";
  return `${what}: received unexpected HTTP status: ${status} ${STATUS_CODES[status] ?? ""}`.trimEnd();
}

/** `{"errors":[{"code","message"}]}`; [] for anything else. */
async function errorsIn(answer: HttpAnswer): Promise<{ readonly code: string; readonly text: string }[]> {
  let value: unknown;
  try {
    value = JSON.parse((await readSmall(answer, maxErrorBytes)).toString("utf8"));
  } catch {
    // A proxy's page, say: the status is what is known then.
    return [];
  }
  const list = isObject(value) && Array.isArray(value["errors"]) ? (value["errors"] as unknown[]) : [];
  return list.slice(0, 10).flatMap((item) => {
    if (!isObject(item)) return [];
    const code = typeof item["code"] === "string" ? item["code"].slice(0, 100) : "UNKNOWN";
    const message = typeof item["message"] === "string" ? printable(item["message"]) : "unknown error";
    return [{ code, text: `${code.toLowerCase().replaceAll("_", " ")}: ${message}` }];
  });
}

/** What came from outside goes to terminals. */
function printable(text: string): string {
  return text.replace(/[\u0000-\u001f\u007f-\u009f]+/g, " ").slice(0, 1000);
}
