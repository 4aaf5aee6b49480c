/** `wherry socket create`, `ls`, `rm`: ways to the engine with limited rights. @module */
import { isAbsolute, resolve } from "node:path";
import { rights, type ScopedSocketJson } from "#api/types/socket-json.ts";
import { any, type Command, command } from "./command.ts";
import { forEach } from "./each.ts";
import { ExitError } from "./errors.ts";
import { many, one, onOff } from "./flags.ts";
import { labelText } from "./format/labels.ts";
import { type Columns, formatList } from "./format/list.ts";
import { formatFlag } from "./list-flags.ts";
import { label, toMap } from "./options/validate.ts";
import { print, write } from "./output.ts";

/** `1000`, `1000:1000`. */
function ownerOf(text: string): { readonly Uid: number; readonly Gid: number } {
  const [, uid, gid] = /^(\d{1,10})(?::(\d{1,10}))?$/.exec(text) ?? [];
  if (uid === undefined) throw new ExitError(125, `invalid --owner "${text}": use UID or UID:GID, in numbers`);
  return { Uid: Number(uid), Gid: Number(gid ?? uid) };
}

export const socketCreateCommand: Command = command({
  usage: "[OPTIONS] NAME",
  about: "Open a socket with limited rights",
  flags: [
    many(
      "allow",
      `What its clients may do: ${rights.join(", ")}; or a word without what follows the colon, for all of its kind. With commas, or more than once`,
    ),
    many("label", "Only what carries this label is there for them, and what they make gets it", { parse: label }),
    one("path", "Where: an absolute path (default: NAME.sock beside the engine's socket)"),
    one("mode", "Permissions of the socket file", { initial: "660" }),
    one("owner", "Owner of the socket file: UID[:GID]. For use in containers with a user namespace: the host's number of their user", { initial: "0:0" }),
  ],
  arity: [1, 1],
  run: async ({ args: [name = ""], client, flags, io }) => {
    const given = flags.text("path");
    const beside = /^unix:\/\/(\/.*)\/[^/]*$/.exec(client.host)?.[1];
    if (given === "" && beside === undefined) throw new ExitError(125, "say where the socket is to be: --path");
    const path = given === "" ? `${beside}/${name}.sock` : isAbsolute(given) ? resolve(given) : resolve(io.cwd, given);
    const body = {
      Name: name,
      Path: path,
      Allow: flags.list("allow").flatMap((words) => words.split(",")),
      Labels: toMap(flags.list("label")),
      Mode: flags.text("mode"),
      ...ownerOf(flags.text("owner")),
    };
    const socket = await client.json<ScopedSocketJson>("POST", "/wherry/sockets", { body, signal: io.gone });
    await print(io, socket.Path);
    return 0;
  },
});

const columns: Columns<ScopedSocketJson> = {
  Name: { header: "NAME", value: (s) => s.Name },
  Path: { header: "PATH", value: (s) => s.Path },
  Allow: { header: "ALLOW", value: (s) => s.Allow.join(",") },
  Labels: { header: "LABELS", value: (s) => labelText(s.Labels) },
  Mode: { header: "MODE", value: (s) => s.Mode },
  Owner: { header: "OWNER", value: (s) => `${s.Uid}:${s.Gid}` },
};

export const socketLsCommand: Command = command({
  usage: "[OPTIONS]",
  about: "List sockets with limited rights",
  flags: [formatFlag, onOff("quiet,q", "Only names")],
  arity: [0, 0],
  run: async ({ client, flags, io }) => {
    const sockets = await client.json<ScopedSocketJson[]>("GET", "/wherry/sockets", { signal: io.gone });
    const text = formatList(sockets, {
      columns,
      format: flags.text("format"),
      table: "{{.Name}}\t{{.Path}}\t{{.Allow}}\t{{.Labels}}",
      quiet: flags.on("quiet") ? "{{.Name}}" : undefined,
      label: (s, name) => s.Labels[name] ?? "",
    });
    await write(io.stdout, text);
    return 0;
  },
});

export const socketRmCommand: Command = command({
  usage: "NAME [NAME...]",
  about: "Close sockets with limited rights",
  flags: [],
  arity: [1, any],
  run: async (call) => {
    await forEach(call, call.args, async (name) => {
      await call.client.json("DELETE", `/wherry/sockets/${encodeURIComponent(name)}`, { signal: call.io.gone });
    });
    return 0;
  },
});
