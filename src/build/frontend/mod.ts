/**
 * The Dockerfile language: text → {@link parseTree} (instructions as words) → {@link parseDockerfile} (typed instructions in stages), with positions for every error. `.dockerignore` too.
 * Pure: nothing here reads a file, asks for an image or knows what a layer is.
 * @module
 */
export { compileGlob, type Glob, isPattern } from "./glob.ts";
export { type Heredoc, heredocText } from "./heredoc.ts";
export { IgnoreRules } from "./ignore-file.ts";
export type { Command, Instruction, InstructionOf, MountFlag, Pair } from "./instruction.ts";
export { parseError, type Position } from "./parse-error.ts";
export { parseInstruction } from "./parse-instruction.ts";
export { parseNode, parseTree, type ParseNode, type ParseTree } from "./parse-tree.ts";
export { type Dockerfile, findStage, globalArgValues, parseDockerfile, type Stage, targetStage } from "./stages.ts";
export { expandWord, expandWords, type Lookup } from "./words.ts";
