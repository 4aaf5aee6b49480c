/** `wherry version`. @module */
import { arch, platform } from "node:os";
import { apiVersion, type VersionJson } from "#api/types/mod.ts";
import { ConnectionError } from "#api/client/mod.ts";
import { type Command, command } from "./command.ts";
import { ExitError } from "./errors.ts";
import { one } from "./flags.ts";
import { printAnswer } from "./format/answer.ts";
import { typed } from "./format/null-text.ts";
import { write } from "./output.ts";
import { version } from "./version.ts";

/** What Go calls this machine. */
export const goArch: string = { x64: "amd64", arm64: "arm64", arm: "arm", ia32: "386" }[arch() as string] ?? arch();

function clientPart() {
  return {
    Version: version,
    ApiVersion: apiVersion,
    DefaultAPIVersion: apiVersion,
    GitCommit: "",
    GoVersion: `node ${process.versions.node}`,
    Os: platform(),
    Arch: goArch,
    BuildTime: "",
    Context: "default",
  };
}

/** Two columns after one space, as docker aligns them. */
function lines(pairs: readonly (readonly [string, string])[], indent: number, width: number): string {
  return pairs.map(([name, value]) => `${" ".repeat(indent)}${`${name}:`.padEnd(width - indent)}${value}\n`).join("");
}

function text(client: ReturnType<typeof clientPart>, server: VersionJson | undefined): string {
  const head = `Client:\n${lines(
    [
      ["Version", client.Version],
      ["API version", client.ApiVersion],
      ["Node version", process.versions.node],
      ["OS/Arch", `${client.Os}/${client.Arch}`],
      ["Context", client.Context],
    ],
    1,
    20,
  )}`;
  if (server === undefined) return head;
  const components = server.Components.length > 0 ? server.Components : [{ Name: "Engine", Version: server.Version }];
  const parts = components.map(({ Name: name, Version: v, Details: details }) => {
    if (name !== "Engine")
      return ` ${name}:\n${lines(
        [
          ["Version", v],
          ["GitCommit", details?.["GitCommit"] ?? ""],
        ],
        2,
        20,
      )}`;
    const more = [
      ["Version", v],
      ["API version", `${server.ApiVersion} (minimum version ${server.MinAPIVersion})`],
      ["Go version", server.GoVersion],
      ["Git commit", server.GitCommit],
      ["Built", server.BuildTime ?? ""],
      ["OS/Arch", `${server.Os}/${server.Arch}`],
      ["Experimental", details?.["Experimental"] ?? "false"],
    ] as const;
    return ` ${name}:\n${lines(more, 2, 20)}`;
  });
  const title = server.Platform.Name === "" ? "Server:" : `Server: ${server.Platform.Name}`;
  return `${head}\n${title}\n${parts.join("")}`;
}

export const versionCommand: Command = command({
  usage: "[OPTIONS]",
  about: "Show the versions of client and daemon",
  flags: [one("format,f", 'How to print: "json" or a Go template')],
  arity: [0, 0],
  run: async ({ client, flags, io }) => {
    const format = flags.text("format");
    const own = clientPart();
    let server: VersionJson | undefined;
    let failure: ConnectionError | undefined;
    try {
      server = await client.json<VersionJson>("GET", "/version", { signal: io.gone });
    } catch (error) {
      if (!(error instanceof ConnectionError)) throw error;
      failure = error;
    }
    const all = { Client: own, Server: server ?? null };
    if (format === "json") await write(io.stdout, `${JSON.stringify(all)}\n`);
    else if (format !== "") await printAnswer(io, format, { ...all, ServerOK: server !== undefined }, { strict: typed("system.versionInfo", ["BuildTime"]) });
    else await write(io.stdout, text(own, server));
    if (failure !== undefined) throw new ExitError(1, failure.message);
    return 0;
  },
});
