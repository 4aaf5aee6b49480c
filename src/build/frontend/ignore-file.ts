/** `.dockerignore`: what of a context a build does not see. Pure. @module @see https://docs.docker.com/build/concepts/context/#dockerignore-files */
import { posix } from "node:path";
import { compileGlob, type Glob } from "./glob.ts";

interface Rule {
  readonly glob: Glob;
  /** `!`: what it matches is seen after all. */
  readonly includes: boolean;
}

/** The rules of an ignore file. Later ones win; a rule for a directory holds for all in it. */
export class IgnoreRules {
  readonly #rules: readonly Rule[];
  /** The rules as text, cleaned, `!` in front of exceptions. */
  readonly patterns: readonly string[];
  /** For each directory that was asked about: which rules match it or one above. */
  readonly #above = new Map<string, readonly boolean[]>([["", []]]);

  private constructor(rules: readonly Rule[], patterns: readonly string[]) {
    this.#rules = rules;
    this.patterns = patterns;
  }

  /** @throws EngineError "invalid" for a malformed pattern */
  static parse(text: string): IgnoreRules {
    return IgnoreRules.of(text.replace(/^\uFEFF/, "").split("\n"));
  }

  /** Of patterns, a line each (COPY's `--exclude`). */
  static of(lines: readonly string[]): IgnoreRules {
    const rules: Rule[] = [];
    const patterns: string[] = [];
    for (const line of lines) {
      if (line.startsWith("#")) continue;
      let pattern = line.trim();
      if (pattern === "") continue;
      const includes = pattern.startsWith("!");
      if (includes) pattern = pattern.slice(1).trim();
      if (pattern === "") continue;
      pattern = posix.normalize(pattern).replace(/\/+$/, "");
      if (pattern.length > 1) pattern = pattern.replace(/^\/+/, "");
      if (pattern === "" || pattern === ".") continue;
      rules.push({ glob: compileGlob(pattern), includes });
      patterns.push(includes ? `!${pattern}` : pattern);
    }
    return new IgnoreRules(rules, patterns);
  }

  get empty(): boolean {
    return this.#rules.length === 0;
  }

  /** True when a directory that is ignored may hold what is not: then one has to look into it. */
  get hasExceptions(): boolean {
    return this.#rules.some(({ includes }) => includes);
  }

  /** `path` relative to the context, without leading or trailing slash. */
  ignores(path: string): boolean {
    if (this.#rules.length === 0) return false;
    let ignored = false;
    const matched = this.#matched(path);
    for (const [i, { includes }] of this.#rules.entries()) if (matched[i] === true) ignored = !includes;
    return ignored;
  }

  #matched(path: string): readonly boolean[] {
    const known = this.#above.get(path);
    if (known !== undefined) return known;
    const slash = path.lastIndexOf("/");
    const parent = slash < 0 ? "" : path.slice(0, slash);
    const above = this.#matched(parent);
    const own = this.#rules.map(({ glob }, i) => above[i] === true || glob.matches(path));
    // Only directories are asked about again: remembering every file would cost more than it saves.
    if (this.#above.size < 50_000) this.#above.set(path, own);
    return own;
  }
}
