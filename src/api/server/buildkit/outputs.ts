/** Where a build's result goes: the image store, a registry, or a file or directory of the client's. @module */
import { EngineError } from "#core/errors.ts";
import { parseReference } from "#core/reference.ts";
import type { Engine, SolvedBuild } from "#engine/mod.ts";
import { atClient } from "./caches.ts";
import { credentialsOf } from "./client-services.ts";
import type { SolveRequest } from "./gen/control_pb.ts";
import type { Job } from "./jobs.ts";
import { sendDirectory, sendFile, type Target } from "./send-result.ts";
import type { Session } from "./sessions.ts";

export interface Output {
  readonly kind: "image" | "archive" | "tar" | "local";
  /** Which of the client's outputs it is. */
  readonly number: number;
  readonly names: readonly string[];
  readonly push: boolean;
}

/** @throws EngineError "unsupported" for what is not done */
export function outputsOf({ Exporters, ExporterDeprecated, ExporterAttrsDeprecated }: SolveRequest): Output[] {
  const given = Exporters.length > 0 || ExporterDeprecated === "" ? Exporters : [{ Type: ExporterDeprecated, Attrs: ExporterAttrsDeprecated }];
  return given.map(({ Type, Attrs }, number): Output => {
    const names = (Attrs["name"] ?? "").split(",").filter(Boolean);
    const push = Attrs["push"] === "true" || Attrs["push"] === "1";
    switch (Type) {
      case "moby":
      case "image":
        return { kind: "image", number, names, push };
      case "docker":
      case "oci":
        if (Attrs["tar"] === "false") throw new EngineError("unsupported", `output type ${Type} is supported as a tar only`);
        return { kind: "archive", number, names, push: false };
      case "tar":
      case "local":
        return { kind: Type, number, names, push: false };
      default:
        throw new EngineError("unsupported", `output type ${JSON.stringify(Type)} is not supported: image, docker, oci, tar or local`);
    }
  });
}

/** What the client is told of it. */
export async function putOut(engine: Engine, job: Job, outputs: readonly Output[], built: SolvedBuild): Promise<Record<string, string>> {
  const response: Record<string, string> = { "containerimage.config.digest": built.id };
  for (const output of outputs) {
    const { kind, names, number, push } = output;
    if (kind === "image") {
      await job.progress.during("exporting to image", async (say) => {
        await built.record(names);
        say(`writing image ${built.id}`);
        for (const name of names) say(`naming to ${name}`);
      });
      response["containerimage.digest"] = built.id;
      if (names.length > 0) response["image.name"] = names.join(",");
      if (push) await pushAll(engine, job, names);
      continue;
    }
    const session = await job.session();
    if (session === undefined) throw new EngineError("invalid", `output type ${kind} needs the client's session`);
    const target: Target = { session, output: number, signal: job.signal };
    await job.progress.during(
      kind === "local" ? "exporting to client directory" : kind === "tar" ? "exporting to client tarball" : "exporting to oci image format",
      () => send(kind, names, built, target),
    );
  }
  for (const to of job.caches.cacheTo) {
    const manifest = await built.exportCache(atClient(to, await job.session()));
    if (manifest !== undefined) response["cache.manifest"] = JSON.stringify(manifest);
  }
  return response;
}

async function send(kind: Exclude<Output["kind"], "image">, names: readonly string[], built: SolvedBuild, target: Target): Promise<void> {
  if (kind === "archive") return sendFile(await built.archive(names), target);
  if (kind === "tar") return sendFile(built.tar(), target);
  const root = await built.openRoot();
  try {
    await sendDirectory(root, target);
  } finally {
    await root?.close();
  }
}

async function pushAll(engine: Engine, job: Job, names: readonly string[]): Promise<void> {
  if (names.length === 0) throw new EngineError("invalid", "tag is needed when pushing to registry");
  const session: Session | undefined = await job.session();
  for (const reference of names) {
    const { domain } = parseReference(reference);
    const credentials = session === undefined ? undefined : await credentialsOf(session, domain, job.signal);
    await job.progress.during(`pushing ${reference}`, () => engine.images.push({ reference, credentials }, () => undefined, job.signal));
  }
}
