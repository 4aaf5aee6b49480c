/** `wherry registry ls`, `wherry registry tags`: what a registry has. @module */
import { type Command, command } from "../command.ts";
import { write } from "../output.ts";
import { authHeaders, authHeadersFor, hostOf } from "./registry-auth.ts";

const lines = (names: readonly string[]) => names.map((name) => `${name}\n`).join("");

export const registryLsCommand: Command = command({
  usage: "REGISTRY",
  about: "List the repositories of a registry, one a line, as far as it tells",
  examples: [["registry ls localhost:5000", "as names to pull"]],
  arity: [1, 1],
  run: async ({ args, client, io }) => {
    const host = hostOf(args[0]!);
    const path = `/wherry/registries/${encodeURIComponent(host)}/catalog`;
    const names = await client.json<string[]>("GET", path, { headers: await authHeadersFor(io, host), signal: io.gone });
    await write(io.stdout, lines(names.map((name) => (host === "docker.io" ? name : `${host}/${name}`))));
    return 0;
  },
});

export const registryTagsCommand: Command = command({
  usage: "NAME",
  about: "List the tags of a repository in a registry, one a line",
  examples: [["registry tags localhost:5000/web", "all of them"]],
  arity: [1, 1],
  run: async ({ args, client, io }) => {
    const name = args[0]!;
    const tags = await client.json<string[]>("GET", `/wherry/tags/${name}`, { headers: await authHeaders(io, name), signal: io.gone });
    await write(io.stdout, lines(tags));
    return 0;
  },
});
