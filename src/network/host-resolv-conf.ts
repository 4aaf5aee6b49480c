/**
 * The host's resolv.conf, read again when it has changed: a look at the file's inode instead of its content for each container.
 * @module
 */
import { readFile, stat } from "node:fs/promises";
import { errnoOf } from "#core/errors.ts";
import { parseResolvConf } from "./resolv-conf.ts";

const stubResolver = /^\s*nameserver\s+127\.0\.0\.53\s*$/m;

/** A file that may be missing. */
class WatchedFile {
  readonly #path: string;
  #version = "";
  #text: string | undefined;

  constructor(path: string) {
    this.#path = path;
  }

  /** undefined: there is none. Rejects for any other reason why it cannot be read. */
  async read(): Promise<string | undefined> {
    try {
      const { ino, size, mtimeNs } = await stat(this.#path, { bigint: true });
      const version = `${ino} ${size} ${mtimeNs}`;
      if (version !== this.#version) {
        this.#text = await readFile(this.#path, "utf8");
        this.#version = version;
      }
      return this.#text;
    } catch (error) {
      if (errnoOf(error) === "ENOENT") return undefined;
      throw error;
    }
  }
}

export class HostResolvConf {
  readonly #main: WatchedFile;
  readonly #behindStub: WatchedFile;

  constructor(main = "/etc/resolv.conf", behindStub = "/run/systemd/resolve/resolv.conf") {
    this.#main = new WatchedFile(main);
    this.#behindStub = new WatchedFile(behindStub);
  }

  /** Its resolvers now, as the host itself would ask them. */
  async resolvers(): Promise<readonly string[]> {
    return parseResolvConf(await this.read()).nameservers;
  }

  /** Its text now; "" when there is none; with systemd-resolved's stub in it, the file with the real resolvers. */
  async read(): Promise<string> {
    const text = (await this.#main.read()) ?? "";
    return stubResolver.test(text) ? ((await this.#behindStub.read()) ?? text) : text;
  }
}
