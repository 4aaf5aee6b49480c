/** `wherry cache serve`. @module */
import { homedir } from "node:os";
import { join, resolve } from "node:path";
import { type Command, command } from "../command.ts";
import { ExitError } from "../errors.ts";
import { many, one, onOff } from "../flags.ts";
import { parseBytes } from "../options/bytes.ts";
import { parseDuration } from "../options/duration.ts";
import { print, warn } from "../output.ts";
import { serverOf, storedCredentials } from "./registry-auth.ts";

export const cacheServeCommand: Command = command({
  usage: "[OPTIONS]",
  about: "Serve images of registries from a directory, which fetches each of them once",
  examples: [
    ["cache serve", "a mirror of Docker Hub: wherryd (or dockerd) --registry-mirror http://127.0.0.1:5000"],
    ["cache serve --upstream docker.io --upstream ghcr.io", "podman pull 127.0.0.1:5000/ghcr.io/owner/image"],
    ["cache serve --directory ci-cache --max-size 5g", "a directory that a CI keeps between its jobs"],
  ],
  flags: [
    one("listen", "Address and port (port 0: any that is free)", { metavar: "address", initial: "127.0.0.1:5000" }),
    one("directory", "Where the images are kept (default ~/.cache/wherry/registry)", { metavar: "dir" }),
    one("max-size", "What fetched layers may take (default 20g); the least recently used go", { metavar: "bytes", parse: parseBytes }),
    many("upstream", "A registry that may be asked (default docker.io); the first is meant by names without one", { metavar: "registry" }),
    one("tag-ttl", "For so long a tag is believed before its registry is asked again (default 1m)", { metavar: "duration", parse: parseDuration }),
    onOff("push", "Clients may push; what they push is kept whatever its size"),
    onOff("credentials", "Ask registries with your stored credentials: whoever may read this cache reads what you may"),
    many("insecure-registry", "A registry without TLS, or with a certificate that nobody knows", { metavar: "host" }),
    one("tlscert", "Serve over TLS with this certificate", { metavar: "file" }),
    one("tlskey", "The certificate's key", { metavar: "file" }),
  ],
  arity: [0, 0],
  run: async ({ flags, io }) => {
    if (io.serveCache === undefined) throw new ExitError(125, "wherry cache serve runs in a process of its own: name it without global flags");
    const [, host = "", port = ""] = /^(.*):(\d{1,5})$/.exec(flags.text("listen")) ?? [];
    if (port === "" || Number(port) > 65535) throw new ExitError(125, `invalid address "${flags.text("listen")}": use address:port`);
    if ((flags.text("tlscert") === "") !== (flags.text("tlskey") === "")) throw new ExitError(125, "--tlscert and --tlskey go together");
    const path = (name: string) => (flags.text(name) === "" ? undefined : resolve(io.cwd, flags.text(name)));
    const [cert, key] = [path("tlscert"), path("tlskey")];
    const upstreams = flags.list("upstream").length === 0 ? ["docker.io"] : flags.list("upstream");
    return await io.serveCache({
      host: host.replace(/^\[|\]$/g, ""),
      port: Number(port),
      directory: path("directory") ?? join(io.env["XDG_CACHE_HOME"] || join(io.env["HOME"] || homedir(), ".cache"), "wherry", "registry"),
      maxBytes: flags.changed("max-size") ? flags.number("max-size") : 20 * 2 ** 30,
      upstreams,
      insecure: flags.list("insecure-registry"),
      tagMs: flags.changed("tag-ttl") ? flags.number("tag-ttl") / 1e6 : 60_000,
      push: flags.on("push"),
      tls: cert === undefined || key === undefined ? undefined : { cert, key },
      credentials: async (domain) => {
        const stored = flags.on("credentials") ? await storedCredentials(io, serverOf(domain)) : undefined;
        if (stored === undefined) return undefined;
        return stored.identitytoken === undefined
          ? { username: stored.username ?? "", password: stored.password ?? "" }
          : { identityToken: stored.identitytoken };
      },
      onListening: (url, directory) => print(io, `${upstreams.join(", ")} from ${directory} on ${url}`),
      warn: (line) => warn(io, line),
    });
  },
});
