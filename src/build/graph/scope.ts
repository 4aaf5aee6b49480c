import type { InstructionOf } from "../frontend/instruction.ts";
import { expandWord, expandWords, type Lookup } from "../frontend/words.ts";

/** Variables that every build has without ARG: their values never change what a step does, so they are in no key, history or log. */
export const proxyVariables: readonly string[] = ["HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY"].flatMap((name) => [
  name,
  name.toLowerCase(),
]);

/** Where a stage's values come from. */
export interface Values {
  /** `--build-arg`; undefined = named without a value. */
  readonly buildArgs: Readonly<Record<string, string | undefined>>;
  /** `TARGETARCH`, `BUILDPLATFORM` … */
  readonly predefined: Readonly<Record<string, string>>;
  /** ARGs before the first FROM. */
  readonly global: Lookup;
  readonly escape: string;
}

/** The variables in scope at one point of a stage: ENV over ARG. Immutable. */
export class Scope {
  readonly #values: Values;
  readonly #args: ReadonlyMap<string, string>;
  readonly #env: readonly string[];

  constructor(values: Values, env: readonly string[], args: ReadonlyMap<string, string> = new Map()) {
    this.#values = values;
    this.#env = env;
    this.#args = args;
  }

  get args(): ReadonlyMap<string, string> {
    return this.#args;
  }

  get env(): readonly string[] {
    return this.#env;
  }

  /** ENV in front, then the ARGs that no ENV hides. */
  runEnv(): { readonly env: string[]; readonly argNames: string[] } {
    const set = new Set(this.#env.map(nameOf));
    const args = [...this.#args].filter(([name]) => !set.has(name));
    return { env: [...this.#env, ...args.map(([name, value]) => `${name}=${value}`)], argNames: args.map(([name]) => name) };
  }

  readonly lookup: Lookup = (name) => {
    const entry = this.#env.find((pair) => nameOf(pair) === name);
    return entry === undefined ? this.#args.get(name) : entry.slice(name.length + 1);
  };

  expand(text: string): string {
    return expandWord(text, this.lookup, { escape: this.#values.escape });
  }

  expandAll(texts: readonly string[]): string[] {
    return texts.flatMap((text) => expandWords(text, this.lookup, { escape: this.#values.escape }));
  }

  /** A heredoc's content: quotes are text. */
  expandContent(content: string): string {
    const quoted = content.replace(/['"]/g, `${this.#values.escape}$&`);
    return expandWord(quoted, this.lookup, { escape: this.#values.escape });
  }

  withEnv(pairs: readonly (readonly [string, string])[]): Scope {
    return new Scope(this.#values, mergeEnv(this.#env, pairs), this.#args);
  }

  withArgs(args: InstructionOf<"arg">["args"]): Scope {
    let scope: Scope = this;
    for (const { name, value } of args) {
      const { buildArgs, global, predefined } = this.#values;
      const given = Object.hasOwn(buildArgs, name) ? buildArgs[name] : undefined;
      const fallback = value === undefined ? (global(name) ?? (Object.hasOwn(predefined, name) ? predefined[name] : undefined)) : scope.expand(value);
      const result = given ?? fallback;
      if (result !== undefined) scope = new Scope(this.#values, scope.#env, new Map([...scope.#args, [name, result]]));
    }
    return scope;
  }
}

function nameOf(pair: string): string {
  return pair.split("=", 1)[0]!;
}

/** Later values take the place of earlier ones. */
export function mergeEnv(env: readonly string[], pairs: readonly (readonly [string, string])[]): string[] {
  const result = [...env];
  for (const [name, value] of pairs) {
    const at = result.findIndex((pair) => nameOf(pair) === name);
    if (at < 0) result.push(`${name}=${value}`);
    else result[at] = `${name}=${value}`;
  }
  return result;
}
