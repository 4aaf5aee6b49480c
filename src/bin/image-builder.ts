/**
 * A build written in TypeScript: the same graph that a Dockerfile makes, typed, and without quoting.
 *
 *     const { id } = await image("debian:bookworm")
 *       .run("apt-get update && apt-get install -y nginx")
 *       .copy("dist", "/var/www")
 *       .cmd(["nginx", "-g", "daemon off;"])
 *       .build(engine, { context: "." , tags: ["web"] });
 *
 * @module
 */
import { resolve } from "node:path";
import { IgnoreRules } from "#build/frontend/ignore-file.ts";
import { readTree } from "#cli/cp-read.ts";
import type { BuildImageOptions, Engine } from "#library/mod.ts";

/** What a copy may change. */
export interface CopyWith {
  /** A stage, or an image. */
  readonly from?: string | ImageBuilder;
  readonly chown?: string;
  readonly chmod?: string;
}

export interface BuildWith extends Omit<BuildImageOptions, "context" | "dockerfile" | "dockerfileText"> {
  /** A directory; relative to the working directory. Default: no files. */
  readonly context?: string;
  /** What of it is left out, as lines of a .dockerignore. */
  readonly ignore?: readonly string[];
}

/** A tar without entries. */
const noFiles = new Uint8Array(1024);

/** Instructions of one stage; every call gives a new builder, so that two can continue one. */
export class ImageBuilder {
  readonly #from: string | ImageBuilder;
  readonly #lines: readonly string[];
  readonly #uses: readonly ImageBuilder[];

  /** Use {@link image}. */
  constructor(from: string | ImageBuilder, lines: readonly string[] = [], uses: readonly ImageBuilder[] = []) {
    this.#from = from;
    this.#lines = lines;
    this.#uses = uses;
  }

  /** A command for the shell, or a program with its arguments. */
  run(command: string | readonly string[]): ImageBuilder {
    return this.#with(`RUN ${commandText(command)}`);
  }

  /** From the context, or from another stage or image. A destination that ends with a slash is a directory. */
  copy(source: string | readonly string[], destination: string, { from, chown, chmod }: CopyWith = {}): ImageBuilder {
    const name = from instanceof ImageBuilder ? from.#name : from;
    const flags = Object.entries({ from: name, chown, chmod }).flatMap(([flag, value]) => (value === undefined ? [] : [`--${flag}=${oneLine(value)}`]));
    const line = ["COPY", ...flags, JSON.stringify([...[source].flat(), destination].map(literal))].join(" ");
    return this.#with(line, from instanceof ImageBuilder ? from : undefined);
  }

  env(variables: Readonly<Record<string, string>>): ImageBuilder {
    return this.#with(`ENV ${pairs(variables)}`);
  }

  label(labels: Readonly<Record<string, string>>): ImageBuilder {
    return this.#with(`LABEL ${pairs(labels)}`);
  }

  workdir(path: string): ImageBuilder {
    return this.#with(`WORKDIR ${literal(oneLine(path))}`);
  }

  user(user: string): ImageBuilder {
    return this.#with(`USER ${literal(oneLine(user))}`);
  }

  expose(...ports: readonly (number | `${number}/${"tcp" | "udp" | "sctp"}`)[]): ImageBuilder {
    return this.#with(`EXPOSE ${ports.join(" ")}`);
  }

  volume(...paths: readonly string[]): ImageBuilder {
    return this.#with(`VOLUME ${JSON.stringify(paths.map(literal))}`);
  }

  cmd(command: string | readonly string[]): ImageBuilder {
    return this.#with(`CMD ${commandText(command)}`);
  }

  entrypoint(command: string | readonly string[]): ImageBuilder {
    return this.#with(`ENTRYPOINT ${commandText(command)}`);
  }

  /** The Dockerfile that says the same. */
  dockerfile(): string {
    const stages: ImageBuilder[] = [];
    const visit = (stage: ImageBuilder): void => {
      if (stages.includes(stage)) return;
      for (const used of stage.#needs()) visit(used);
      stages.push(stage);
    };
    visit(this);
    const names = new Map(stages.map((stage, i) => [stage.#name, `stage-${i}`]));
    return stages.map((stage) => stage.#text(names)).join("\n");
  }

  /** @throws EngineError as a Dockerfile's build */
  async build(engine: Pick<Engine, "build">, { context, ignore = [], ...options }: BuildWith = {}): Promise<{ readonly id: string }> {
    const rules = IgnoreRules.of(ignore);
    const skip = (path: string, isDirectory: boolean) => rules.ignores(path) && !(isDirectory && rules.hasExceptions);
    const files = context === undefined ? noFiles : readTree(resolve(context), "", skip);
    return { id: await engine.build({ ...options, context: files, dockerfileText: this.dockerfile() }) };
  }

  /** Unlike any word that a user writes: it becomes a stage's name when the whole is put together. */
  readonly #name: string = `@${crypto.randomUUID()}`;

  #needs(): readonly ImageBuilder[] {
    return this.#from instanceof ImageBuilder ? [this.#from, ...this.#uses] : this.#uses;
  }

  #text(names: ReadonlyMap<string, string>): string {
    const from = this.#from instanceof ImageBuilder ? names.get(this.#from.#name)! : this.#from;
    const lines = this.#lines.map((line) => [...names].reduce((text, [mark, name]) => text.replaceAll(mark, name), line));
    return [`FROM ${oneLine(from)} AS ${names.get(this.#name)!}`, ...lines, ""].join("\n");
  }

  #with(line: string, uses?: ImageBuilder): ImageBuilder {
    return new ImageBuilder(this.#from, [...this.#lines, line], uses === undefined ? this.#uses : [...this.#uses, uses]);
  }
}

/** Begins a stage: an image's name, `scratch`, or a stage to go on from. */
export function image(from: string | ImageBuilder): ImageBuilder {
  return new ImageBuilder(from);
}

function commandText(command: string | readonly string[]): string {
  if (typeof command !== "string") return JSON.stringify(command);
  // Several lines are one script; a heredoc keeps them as they are.
  if (!/[\n\\]/.test(command)) return command;
  const end = `END_${crypto.randomUUID().slice(0, 8)}`;
  return `<<'${end}'\n${command}\n${end}`;
}

/** Nothing in it is a variable, a quote or an escape. */
function literal(text: string): string {
  return text.replace(/[\\$'"]/g, "\\$&");
}

function pairs(map: Readonly<Record<string, string>>): string {
  return Object.entries(map)
    .map(([name, value]) => `${oneLine(name)}='${oneLine(value).replaceAll("'", `'"'"'`)}'`)
    .join(" ");
}

function oneLine(text: string): string {
  if (/[\r\n]/.test(text)) throw new TypeError(`${JSON.stringify(text)} has a line break`);
  return text;
}
