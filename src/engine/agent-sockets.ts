/** SSH agents of a build's client, as sockets of this host that RUN steps can mount. @module */
import { chmod, mkdtemp, rm } from "node:fs/promises";
import { once } from "node:events";
import { createServer, type Server, type Socket } from "node:net";
import { join } from "node:path";
import { pipeline } from "node:stream";
import type { BuildOptions } from "./mod.ts";

/** One socket for each agent that is asked for. Disposing ends all connections and removes them. */
export class AgentSockets implements AsyncDisposable {
  readonly #directory: string;
  readonly #agent: BuildOptions["sshAgent"];
  readonly #sockets = new Map<string, Promise<string | undefined>>();
  readonly #undo: (() => Promise<unknown>)[] = [];

  constructor(directory: string, agent: BuildOptions["sshAgent"]) {
    this.#directory = directory;
    this.#agent = agent;
  }

  /** undefined: the client has none of that id. */
  socketOf(id: string): Promise<string | undefined> {
    const known = this.#sockets.get(id);
    if (known !== undefined) return known;
    const made = this.#listen(id);
    this.#sockets.set(id, made);
    return made;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const step of this.#undo.reverse()) await step();
  }

  async #listen(id: string): Promise<string | undefined> {
    const connect = await this.#agent(id);
    if (connect === undefined) return undefined;
    const directory = await mkdtemp(join(this.#directory, "agent-"));
    this.#undo.push(() => rm(directory, { recursive: true, force: true }));
    const path = join(directory, "socket");
    const open = new Set<Socket>();
    const server: Server = createServer((socket) => {
      open.add(socket);
      socket.once("close", () => open.delete(socket));
      const agent = connect();
      const ended = () => undefined; // either side may break off: the command inside sees it
      pipeline(socket, agent, ended);
      pipeline(agent, socket, ended);
    });
    server.listen(path);
    await once(server, "listening");
    this.#undo.push(async () => {
      for (const socket of open) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    });
    // The directory is the daemon's alone; in the container it is the mount that says who may connect.
    await chmod(path, 0o666);
    return path;
  }
}
