import { posix } from "node:path";
import { EngineError } from "#core/errors.ts";
import { heredocText } from "../frontend/heredoc.ts";
import type { InstructionOf } from "../frontend/instruction.ts";
import type { CopyOperation, CopySource } from "./operation.ts";
import type { Scope } from "./scope.ts";

/** COPY or ADD with its values. @throws EngineError "invalid" */
export function copyOperation(instruction: InstructionOf<"copy"> | InstructionOf<"add">, scope: Scope, workdir: string): CopyOperation {
  const add = instruction.kind === "add";
  const sources = [
    ...instruction.sources.map((text) => sourceOf(scope.expand(text), add)),
    ...instruction.heredocs.map((heredoc): CopySource => {
      const content = heredocText(heredoc);
      return { kind: "inline", name: heredoc.name, content: heredoc.expand ? scope.expandContent(content) : content };
    }),
  ];
  const written = scope.expand(instruction.destination);
  const intoDirectory = written.endsWith("/") || written === "." || written.endsWith("/.") || written === "";
  const name = add ? "ADD" : "COPY";
  if (sources.length > 1 && !intoDirectory)
    throw new EngineError("invalid", `When using ${name} with more than one source file, the destination must be a directory and end with a /`);
  const checksum = add ? optional(instruction.checksum, scope) : undefined;
  if (checksum !== undefined && (sources.length !== 1 || (sources[0]!.kind !== "url" && sources[0]!.kind !== "git")))
    throw new EngineError("invalid", "checksum can't be specified for multiple or local sources");
  return {
    kind: "copy",
    add,
    from: add ? undefined : optional(instruction.from, scope),
    sources,
    destination: posix.resolve(workdir === "" ? "/" : workdir, written === "" ? "." : written),
    intoDirectory,
    chown: optional(instruction.chown, scope),
    chmod: optional(instruction.chmod, scope),
    link: instruction.link,
    parents: instruction.parents,
    exclude: instruction.exclude.map((pattern) => scope.expand(pattern)),
    unpack: add ? instruction.unpack : false,
    checksum,
    keepGitDir: add ? instruction.keepGitDir : false,
  };
}

function optional(text: string | undefined, scope: Scope): string | undefined {
  return text === undefined ? undefined : scope.expand(text);
}

function sourceOf(text: string, add: boolean): CopySource {
  if (add && isGitUrl(text)) return { kind: "git", url: text };
  if (/^https?:\/\//i.test(text)) {
    if (!add) throw new EngineError("invalid", "source can't be a URL for COPY");
    return { kind: "url", url: text };
  }
  return { kind: "path", pattern: text };
}

/** True for what is a repository by its look: `git@host:path`, `git://…`, `ssh://…`, and `https://….git` with or without a fragment. */
export function isGitUrl(text: string): boolean {
  return /^(git:\/\/|ssh:\/\/|[a-zA-Z0-9_.-]+@[a-zA-Z0-9_.-]+:)/.test(text) || /^https?:\/\/[^#?]+\.git(#.*)?$/i.test(text);
}
