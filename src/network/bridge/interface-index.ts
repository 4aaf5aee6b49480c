/**
 * The kernel's numbers of interfaces, of the namespace that /sys was mounted in: the host's.
 * @module
 */
import { readFile } from "node:fs/promises";
import { errnoOf } from "#core/errors.ts";

/** Index of an interface; undefined when there is none of that name. */
export async function indexOf(name: string): Promise<number | undefined> {
  try {
    return Number(await readFile(`/sys/class/net/${name}/ifindex`, "utf8"));
  } catch (error) {
    // ENODEV, EINVAL: it went away between open and read
    if (["ENOENT", "ENODEV", "EINVAL"].includes(errnoOf(error) ?? "")) return undefined;
    throw error;
  }
}
