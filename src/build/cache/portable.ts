/**
 * A cache that leaves this data root: for each step a key and what came of it. The key is made of the same inputs as the key of a record here, but of nothing that belongs to one
 * data root. Whoever has it can tell whether a step was this one, not what was hidden in it: values of variables, arguments and secrets are behind a function that is slow on purpose.
 * @module
 */
import { createHash, scrypt } from "node:crypto";
import { promisify } from "node:util";
import { type DiffID, isDigest } from "#core/digest.ts";
import { EngineError } from "#core/errors.ts";
import { JsonFields } from "#core/json.ts";
import { Hidden, type StepInputs } from "./record.ts";

/** What a cache's manifest has as its config. */
export const cacheConfigType = "application/vnd.wherry.buildcache.v1+json";
/** Where an image's config has a cache of its own steps. */
export const inlineCacheField = "wherry.buildcache.v1";
/** A cache's description is small. Bytes. */
export const maxDescriptionBytes: number = 16 * 1024 * 1024;
const maxSteps = 50_000;

export interface PortableStep {
  /** {@link portableKey} */
  readonly key: string;
  /** RFC 3339: what the image's history says. */
  readonly created: string;
  /** undefined: the step has left the root as it was. */
  readonly diffId: DiffID | undefined;
}

/** Another number when inputs or their hash change their meaning: keys of two versions never meet. */
const keyVersion = "wherry build step 1";
/** 16 MiB and some 50 ms for each guess. */
const slow = { N: 2 ** 14, r: 8, p: 1 } as const;

export async function portableKey(inputs: StepInputs): Promise<string> {
  const hash = createHash("sha256").update(`${keyVersion}\n`);
  let hides = false;
  for (const name of Object.keys(inputs).sort()) {
    const value = inputs[name]!; // one of its keys
    hides ||= value instanceof Hidden;
    const told = value instanceof Hidden ? { hidden: createHash("sha256").update(value.value).digest("hex") } : value;
    hash.update(`${JSON.stringify(name)}:${JSON.stringify(told)}\n`);
  }
  const digest = hash.digest();
  // The rest of the inputs is in the digest: it is the salt of what is hidden.
  return (hides ? ((await promisify<Buffer, string, number, object, Buffer>(scrypt)(digest, keyVersion, digest.length, slow)) as Buffer) : digest).toString(
    "hex",
  );
}

/** Steps as JSON; their layers are numbers in `layers`. */
export function describeCache(steps: readonly PortableStep[], layers: readonly DiffID[]): object {
  return {
    version: 1,
    layers,
    steps: steps.map(({ key, created, diffId }) => ({ key, created, ...(diffId === undefined ? {} : { layer: layers.indexOf(diffId) }) })),
  };
}

/** @throws EngineError "corrupt" */
export function parseCache(value: unknown, what: string): { readonly layers: readonly DiffID[]; readonly steps: ReadonlyMap<string, PortableStep> } {
  const fields = new JsonFields(value, what);
  if (fields.number("version") !== 1) throw new EngineError("corrupt", `${what} is of another version`);
  const layers = (fields.texts("layers") ?? []).map((diffId) => {
    if (!isDigest(diffId)) throw new EngineError("corrupt", `${what} has the invalid layer "${diffId.slice(0, 100)}"`);
    return diffId;
  });
  const list = fields.list("steps") ?? [];
  if (list.length > maxSteps) throw new EngineError("corrupt", `${what} has ${list.length} steps; at most ${maxSteps} are accepted`);
  const steps = list.map((item): [string, PortableStep] => {
    const step = new JsonFields(item, `a step of ${what}`);
    const [key, created, layer] = [step.text("key") ?? "", step.text("created") ?? "", step.number("layer")];
    const diffId = layer === undefined ? undefined : layers[layer];
    if (!/^[0-9a-f]{64}$/.test(key) || Number.isNaN(Date.parse(created)) || created.length > 40 || (layer !== undefined && diffId === undefined))
      throw new EngineError("corrupt", `${what} has a malformed step`);
    return [key, { key, created, diffId }];
  });
  return { layers, steps: new Map(steps) };
}
