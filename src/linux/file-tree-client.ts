import type { FileTree } from "./file-tree.ts";
export async function connectTree(_socketPath: string, _root: string): Promise<FileTree> { throw new Error("soon"); }
