/** Reading where a missing file says as much as an empty one. @module */
import { readFile } from "node:fs/promises";
import { errnoOf } from "#core/errors.ts";

/** A file as text (UTF-8); missing is "". Rejects with Node's system error otherwise. */
export async function textIfThere(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return "";
    throw error;
  }
}
