/**
 * The daemon's `--storage-opt NAME=VALUE`: each driver knows its own, and refuses any other.
 * @module
 */
import { parseBytes } from "#core/byte-size.ts";
import { EngineError } from "#core/errors.ts";
import { parseGoBool } from "#core/go-bool.ts";

/** What is told to a driver when it is opened: "overlay2.size=10G". */
export type StorageOptions = readonly string[];

/** Options by their names in lower case; the last one counts. @param known what the driver takes; a reason: Docker does, and this engine does not. @throws EngineError "invalid" */
export function readStorageOptions(
  driver: string,
  options: StorageOptions,
  known: Readonly<Record<string, true | { readonly reason: string }>>,
): ReadonlyMap<string, string> {
  const read = new Map<string, string>();
  for (const option of options) {
    const at = option.indexOf("=");
    if (at < 0) throw new EngineError("invalid", `unable to parse storage-opt key/value: ${option}`, { hint: "it takes the form NAME=VALUE" });
    const name = option.slice(0, at).trim().toLowerCase();
    const use = Object.hasOwn(known, name) ? known[name] : undefined;
    if (use === undefined)
      throw new EngineError("invalid", `${driver}: unknown option ${name}`, {
        hint: Object.keys(known).length === 0 ? `the driver ${driver} has none` : `it has ${Object.keys(known).join(", ")}`,
      });
    if (use !== true) throw new EngineError("unsupported", `${driver}: option ${name} is not supported: ${use.reason}`);
    read.set(name, option.slice(at + 1).trim());
  }
  return read;
}

/** Bytes ("10G", powers of 1024). @throws EngineError "invalid" */
export function sizeOption(options: ReadonlyMap<string, string>, name: string): number | undefined {
  const text = options.get(name);
  const bytes = text === undefined ? undefined : parseBytes(text);
  if (text !== undefined && (bytes === undefined || bytes === 0)) throw new EngineError("invalid", `storage option ${name}: invalid size: '${text}'`);
  return bytes;
}

/** @throws EngineError "invalid" */
export function booleanOption(options: ReadonlyMap<string, string>, name: string): boolean | undefined {
  const text = options.get(name);
  if (text === undefined) return undefined;
  const given = parseGoBool(text);
  if (given === undefined) throw new EngineError("invalid", `storage option ${name}: "${text}" is neither true nor false`);
  return given;
}
