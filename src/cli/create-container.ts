/** Creating a container for `create` and `run`: the image is fetched when it is missing, the id file is kept. @module */
import { unlink, writeFile, stat } from "node:fs/promises";
import { resolve } from "node:path";
import { parseAnyReference } from "#core/reference.ts";
import type { Call } from "./command.ts";
import type { CreateBody } from "./create-body.ts";
import { isStatus } from "./errors.ts";
import { explainFileError } from "./options/file-error.ts";
import { checkPlatform } from "./options/platform.ts";
import { warn } from "./output.ts";

interface Created {
  readonly Id: string;
  readonly Warnings: readonly string[] | null;
}

/** Throws Error for a value that docker does not know. */
export function checkPullPolicy(policy: string): void {
  if (!["", "always", "missing", "never"].includes(policy)) throw new Error(`invalid pull option: '${policy}': must be one of "always", "missing" or "never"`);
}

/** Resolves with the new container's id. */
export async function createContainer(call: Call, body: CreateBody): Promise<string> {
  const { flags, io } = call;
  if (body.HostConfig.WherryRootfs === undefined) parseAnyReference(body.Image ?? "");
  checkPlatform(flags.text("platform"), "error parsing specified platform: ");
  const idFile = flags.text("cidfile");
  if (idFile === "") return create(call, body);
  const path = resolve(io.cwd, idFile);
  if (await exists(path)) throw new Error(`container ID file found, make sure the other container isn't running or delete ${idFile}`);
  try {
    await writeFile(path, "", { flag: "wx", mode: 0o666 & ~io.umask });
  } catch (error) {
    throw new Error(`failed to create the container ID file: ${explainFileError(error, "open", idFile).message}`);
  }
  try {
    const id = await create(call, body);
    await writeFile(path, id);
    return id;
  } catch (error) {
    await unlink(path).catch(() => {}); // an empty file is only clutter; the error that made it so is told
    throw error;
  }
}

async function exists(path: string): Promise<boolean> {
  try {
    await stat(path);
    return true;
  } catch {
    return false;
  }
}

async function create(call: Call, body: CreateBody): Promise<string> {
  const { client, flags, io } = call;
  const image = body.Image ?? "";
  const policy = flags.text("pull");
  const platform = flags.text("platform");
  const query = { name: flags.text("name") || undefined, platform: platform || undefined };
  const fetch = async () => {
    const { pullImage } = await import("./pull-image.ts");
    await pullImage({ io, client, reference: image, platform, quiet: flags.on("quiet"), output: io.stderr });
  };
  const post = () => client.json<Created>("POST", "/containers/create", { query, body, signal: io.gone });
  if (policy === "always" && image !== "") await fetch();
  let created: Created;
  try {
    created = await post();
  } catch (error) {
    if (!(isStatus(error, 404) && /no such image/i.test(error.message) && (policy === "missing" || policy === ""))) throw error;
    if (!flags.on("quiet")) warn(io, `Unable to find image '${withTag(image)}' locally`);
    await fetch();
    created = await post();
  }
  for (const warning of created.Warnings ?? []) warn(io, `WARNING: ${warning}`);
  return created.Id;
}

/** `busybox` → `busybox:latest`. */
export function withTag(reference: string): string {
  const last = reference.slice(reference.lastIndexOf("/") + 1);
  return last.includes(":") || last.includes("@") ? reference : `${reference}:latest`;
}
