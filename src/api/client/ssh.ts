/** A connection over ssh: the program of that name, which runs `wherry system dial-stdio` on the other side. @module */
import { spawn } from "node:child_process";
import { Duplex } from "node:stream";
import { ConnectionError } from "./mod.ts";

/** `ssh://[user@]host[:port]`, and nothing that ssh could take for an option. Throws ConnectionError. */
export function sshArguments(host: string): string[] {
  const [, user, name, port] = /^ssh:\/\/(?:([A-Za-z0-9_.][\w.-]*)@)?([A-Za-z0-9_.][\w.-]*|\[[0-9a-fA-F:]+\])(?::([0-9]{1,5}))?\/?$/.exec(host) ?? [];
  if (name === undefined) throw new ConnectionError(`unable to parse docker host "${host}": expected ssh://[user@]host[:port]`);
  return [
    ...["-o", "ConnectTimeout=30", "-T"],
    ...(user === undefined ? [] : ["-l", user]),
    ...(port === undefined ? [] : ["-p", port]),
    "--",
    name.replace(/^\[(.*)\]$/, "$1"),
    ...["wherry", "system", "dial-stdio"],
  ];
}

/** What ssh says on its standard error is the reason of a connection that ends early. */
export function connectSsh(host: string): Duplex {
  const child = spawn("ssh", sshArguments(host), { stdio: ["pipe", "pipe", "pipe"] });
  let said = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => (said = (said + text).slice(-2000)));
  const { stdin, stdout } = child;
  const ended = new Promise<void>((resolve) => child.once("close", () => resolve()).once("error", () => resolve()));
  let why = "the connection was closed";
  const reason = () => new ConnectionError(`error during connect: ssh ${host.replace(/^ssh:\/\//, "")}: ${why}`);
  const stream = new SshStream({
    read: () => void stdout.resume(),
    write: (chunk: Uint8Array, _encoding, done) => {
      // A pipe that breaks means that ssh has ended, or is about to: then why is told by `exit`.
      stdin.write(chunk, (error) => (error === null || error === undefined ? done() : void ended.then(() => done(reason()))));
    },
    final: (done) => {
      stdin.end();
      done();
    },
    destroy: (error, done) => {
      stdin.destroy();
      stdout.destroy();
      child.kill();
      done(error);
    },
    allowHalfOpen: true,
  });
  stdout.on("data", (chunk: Buffer) => {
    if (!stream.push(chunk)) stdout.pause();
  });
  stdin.on("error", () => undefined); // told by the writes that wait for it
  // Not before it is known whether that is a good end.
  stdout.on("end", () => void ended.then(() => stream.push(null)));
  child.on("error", (error) => {
    why = error.message;
    stream.destroy(reason());
  });
  child.on("close", (code, signal) => {
    if (code === 0) return;
    why = said.trim() || (signal ?? `exit code ${code}`);
    if (!stream.destroyed) stream.destroy(reason());
  });
  return stream;
}

/** What http asks of a socket. */
class SshStream extends Duplex {
  setTimeout(): this {
    return this;
  }
  setNoDelay(): this {
    return this;
  }
  setKeepAlive(): this {
    return this;
  }
  ref(): this {
    return this;
  }
  unref(): this {
    return this;
  }
}
