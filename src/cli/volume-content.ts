/** `wherry volume clone`, `export`, `import`, `rename`. @module */
import type { VolumeJson } from "#api/types/mod.ts";
import { type Command, command } from "./command.ts";
import { archiveOut, openInput } from "./files.ts";
import { one } from "./flags.ts";
import { print } from "./output.ts";

const route = (name: string | undefined, what: string) => `/wherry/volumes/${encodeURIComponent(name ?? "")}/${what}`;

export const volumeCloneCommand: Command = command({
  usage: "VOLUME NEW",
  about: "Make a copy of a volume",
  examples: [["volume clone data data-before-upgrade", "blocks are shared where the filesystem can"]],
  flags: [],
  arity: [2, 2],
  run: async ({ args: [name, to], client, io }) => {
    const volume = await client.json<VolumeJson>("POST", route(name, "clone"), { query: { to: to! }, signal: io.gone });
    await print(io, volume.Name);
    return 0;
  },
});

export const volumeExportCommand: Command = command({
  usage: "[OPTIONS] VOLUME",
  about: "Write a volume's files to a tar archive",
  examples: [["volume export -o data.tar data", "into a file"]],
  flags: [one("output,o", "File to write, instead of STDOUT")],
  arity: [1, 1],
  run: async ({ args, client, flags, io }) => {
    await archiveOut(io, { path: flags.text("output"), what: "failed to export volume" }, () =>
      client.stream("GET", route(args[0], "export"), { signal: io.gone }),
    );
    return 0;
  },
});

export const volumeImportCommand: Command = command({
  usage: "VOLUME [FILE|-]",
  about: "Read a volume's files from a tar archive; the volume is made when it is not there",
  examples: [["volume import data data.tar.gz", "compressed archives too"]],
  flags: [],
  arity: [1, 2],
  run: async ({ args: [name, file = "-"], client, io }) => {
    const body = file === "-" ? io.stdin : await openInput(io, file);
    const { body: reply } = await client.stream("POST", route(name, "import"), { body, signal: io.gone });
    const chunks: Uint8Array[] = [];
    for await (const chunk of reply) chunks.push(chunk);
    await print(io, (JSON.parse(Buffer.concat(chunks).toString()) as VolumeJson).Name); // the reply of this route
    return 0;
  },
});

export const volumeRenameCommand: Command = command({
  usage: "VOLUME NEW",
  about: "Rename a volume that no container uses",
  flags: [],
  arity: [2, 2],
  run: async ({ args: [name, to], client, io }) => {
    await client.json("POST", route(name, "rename"), { query: { to: to! }, signal: io.gone });
    return 0;
  },
});
