import { readFile } from "node:fs/promises";

/** Names this boot of the machine: what is not on disk yet is safe within one. @see random(4) */
export async function bootId(): Promise<string> {
  return (await readFile("/proc/sys/kernel/random/boot_id", "utf8")).trim();
}
