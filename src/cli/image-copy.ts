/** `wherry image copy`. @module */
import { type Command, command } from "./command.ts";
import { onOff } from "./flags.ts";
import { print } from "./output.ts";
import { renderProgress } from "./progress.ts";
import { authHeaders } from "./registry/registry-auth.ts";

export const imageCopyCommand: Command = command({
  usage: "[OPTIONS] SOURCE[:TAG|@DIGEST] TARGET[:TAG]",
  about: "Copy an image from one registry to another, with all its platforms, attestations and signatures, without unpacking it",
  examples: [["image copy busybox:1 registry.example.com/mirror/busybox:1", "nothing of it is stored here"]],
  flags: [onOff("quiet,q", "Only the digest")],
  arity: [2, 2],
  run: async ({ args, client, flags, io }) => {
    const [from, to] = [args[0]!, args[1]!];
    const headers = { ...(await authHeaders(io, to)), "X-Registry-Auth-From": (await authHeaders(io, from))["X-Registry-Auth"]! };
    const { body } = await client.stream("POST", "/wherry/images/copy", { query: { from, to }, headers, signal: io.gone });
    let digest = "";
    const onAux = (aux: unknown) => {
      digest = String((aux as { Digest?: unknown }).Digest ?? "");
    };
    await renderProgress(body, { io, quiet: flags.on("quiet"), onAux });
    if (flags.on("quiet")) await print(io, digest);
    return 0;
  },
});
