/** `wherry manifest inspect|create|annotate|push|rm`. @module */
import type { RemoteManifestJson } from "#api/types/wherry-json.ts";
import type { Descriptor, Platform } from "#core/image-spec.ts";
import { mediaTypes } from "#core/manifest.ts";
import { familiarString, formatReference, parseReference, repositoryOf, withDefaultTag } from "#core/reference.ts";
import { any, type Call, type Command, command } from "../command.ts";
import { hidden, many, one, onOff } from "../flags.ts";
import { print } from "../output.ts";
import { readList, removeList, writeList } from "./manifest-lists.ts";
import { authHeaders } from "./registry-auth.ts";

/** Registries without TLS are wherryd's business (--insecure-registry). */
const insecure = hidden(onOff("insecure", "Allow communication with an insecure registry"));

function route(name: string): string {
  return `/wherry/manifests/${name.split("/").map(encodeURIComponent).join("/")}`;
}

async function fetch({ client, io }: Call, name: string): Promise<RemoteManifestJson> {
  return client.json<RemoteManifestJson>("GET", route(name), { headers: await authHeaders(io, name), signal: io.gone });
}

function listName(text: string): string {
  return formatReference(withDefaultTag(parseReference(text)));
}

export const manifestInspectCommand: Command = command({
  usage: "[OPTIONS] [MANIFEST_LIST] MANIFEST",
  about: "Show a manifest or a manifest list, as the registry has it",
  flags: [onOff("verbose,v", "With digest and platform"), insecure],
  arity: [1, 2],
  run: async (call) => {
    const { args, flags, io } = call;
    const local = args.length === 1 ? await readList(io, listName(args[0]!)) : undefined;
    if (local !== undefined) {
      await print(io, JSON.stringify(indexOf(local.map(({ descriptor }) => descriptor)), undefined, "\t"));
      return 0;
    }
    const { digest, mediaType, size, content, platform } = await fetch(call, args.at(-1)!);
    const value: unknown = JSON.parse(content);
    const shown = flags.on("verbose")
      ? {
          Ref: formatReference(withDefaultTag(parseReference(args.at(-1)!))),
          Descriptor: { mediaType, digest, size, ...(platform === null ? {} : { platform }) },
          Manifest: value,
        }
      : value;
    await print(io, JSON.stringify(shown, undefined, "\t"));
    return 0;
  },
});

export const manifestCreateCommand: Command = command({
  usage: "[OPTIONS] MANIFEST_LIST MANIFEST [MANIFEST...]",
  about: "Make a manifest list of images in a registry, to be annotated and pushed",
  flags: [onOff("amend,a", "Add to a list that was made before"), insecure],
  arity: [2, any],
  run: async (call) => {
    const { args, flags, io } = call;
    const [list, ...names] = args as readonly [string, ...string[]];
    const before = await readList(io, listName(list));
    if (before !== undefined && !flags.on("amend")) throw new Error(`refusing to amend an existing manifest list with no --amend flag`);
    const entries = [...(before ?? [])];
    for (const reference of names) {
      const { digest, mediaType, size, platform } = await fetch(call, reference);
      if (mediaType === mediaTypes.dockerList || mediaType === mediaTypes.ociIndex) throw new Error(`${reference} is a manifest list`);
      const descriptor: Descriptor = { mediaType, digest, size, ...(platform === null ? {} : { platform }) };
      entries.push({ reference, descriptor });
    }
    await writeList(io, listName(list), entries);
    await print(io, `Created manifest list ${listName(list)}`);
    return 0;
  },
});

export const manifestAnnotateCommand: Command = command({
  usage: "[OPTIONS] MANIFEST_LIST MANIFEST",
  about: "Say for which platform an image of a manifest list is",
  flags: [
    one("arch", "Architecture"),
    one("os", "Operating system"),
    one("os-version", "Version of the operating system"),
    one("variant", "Variant of the architecture"),
    hidden(many("os-features", "Features of the operating system", { metavar: "strings" })),
  ],
  arity: [2, 2],
  run: async ({ args, flags, io }) => {
    const [list, name] = [args[0]!, args[1]!];
    const entries = await readList(io, listName(list));
    const wanted = formatReference(withDefaultTag(parseReference(name)));
    const at = entries?.findIndex(({ reference }) => formatReference(withDefaultTag(parseReference(reference))) === wanted) ?? -1;
    if (entries === undefined || at < 0) throw new Error(`manifest for image ${name} does not exist in ${list}`);
    const { reference, descriptor } = entries[at]!;
    const set = (flag: string, known: string | undefined) => (flags.changed(flag) ? flags.text(flag) : known);
    const { platform } = descriptor;
    const [variant, version] = [set("variant", platform?.variant), set("os-version", platform?.["os.version"])];
    const changed: Platform = {
      architecture: set("arch", platform?.architecture) ?? "",
      os: set("os", platform?.os) ?? "",
      ...(version === undefined ? {} : { "os.version": version }),
      ...(variant === undefined ? {} : { variant }),
    };
    entries[at] = { reference, descriptor: { ...descriptor, platform: changed } };
    await writeList(io, listName(list), entries);
    return 0;
  },
});

export const manifestPushCommand: Command = command({
  usage: "[OPTIONS] MANIFEST_LIST",
  about: "Push a manifest list to its registry",
  flags: [onOff("purge,p", "Forget the list afterwards"), insecure],
  arity: [1, 1],
  run: async (call) => {
    const { args, client, flags, io } = call;
    const list = withDefaultTag(parseReference(args[0]!));
    const entries = await readList(io, formatReference(list));
    if (entries === undefined) throw new Error(`No such manifest: ${formatReference(list)}`);
    const headers = await authHeaders(io, args[0]!);
    for (const { reference, descriptor } of entries) {
      const from = parseReference(reference);
      if (!descriptor.platform?.os || !descriptor.platform.architecture)
        throw new Error(`manifest ${reference} must have an OS and Architecture to be pushed to a registry`);
      if (repositoryOf(from) === repositoryOf(list)) continue;
      const { content, mediaType } = await fetch(call, `${familiarString({ ...from, tag: undefined, digest: undefined })}@${descriptor.digest}`);
      const target = `${familiarString({ ...list, tag: undefined })}@${descriptor.digest}`;
      await client.json("PUT", route(target), {
        query: { from: familiarString({ ...from, tag: undefined, digest: undefined }) },
        body: { content, mediaType },
        headers,
        signal: io.gone,
      });
    }
    const index = indexOf(entries.map(({ descriptor }) => descriptor));
    const body = { content: JSON.stringify(index, undefined, 3), mediaType: index.mediaType };
    const { digest } = await client.json<{ readonly digest: string }>("PUT", route(familiarString(list)), { body, headers, signal: io.gone });
    if (flags.on("purge")) await removeList(io, formatReference(list));
    await print(io, digest);
    return 0;
  },
});

export const manifestRmCommand: Command = command({
  usage: "MANIFEST_LIST [MANIFEST_LIST...]",
  about: "Forget manifest lists that were not pushed",
  flags: [],
  arity: [1, any],
  run: async ({ args, io }) => {
    for (const name of args) {
      if ((await readList(io, listName(name))) === undefined) throw new Error(`No such manifest: ${listName(name)}`);
      await removeList(io, listName(name));
    }
    return 0;
  },
});

/** A list of docker's kind, as docker makes; of OCI's when one of its images is. */
function indexOf(manifests: readonly Descriptor[]): { readonly schemaVersion: 2; readonly mediaType: string; readonly manifests: readonly object[] } {
  const oci = manifests.some(({ mediaType }) => mediaType === mediaTypes.ociManifest);
  const described = manifests.map(({ mediaType, size, digest, platform }) => ({ mediaType, size, digest, ...(platform === undefined ? {} : { platform }) }));
  return { schemaVersion: 2, mediaType: oci ? mediaTypes.ociIndex : mediaTypes.dockerList, manifests: described };
}
