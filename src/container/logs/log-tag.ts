/** The `tag` of a log: a Go template of Docker's few fields. @module */
import { EngineError } from "#core/errors.ts";
import type { ContainerRecord } from "../mod.ts";

type Tagged = Pick<ContainerRecord, "id" | "name" | "config" | "imageId" | "path" | "args">;

const bare = (imageId: string) => imageId.replace(/^sha256:/, "");

const fields: Readonly<Record<string, (record: Tagged) => string>> = {
  ID: (r) => r.id.slice(0, 12),
  FullID: (r) => r.id,
  Name: (r) => r.name,
  ImageID: (r) => bare(r.imageId).slice(0, 12),
  ImageFullID: (r) => r.imageId,
  ImageName: (r) => r.config.Image,
  Command: (r) => [r.path, ...r.args].join(" "),
  DaemonName: () => "docker",
};

/** "" = the short id, as with Docker. `record` undefined: only checks. @throws EngineError "invalid" for what is no field of a container */
export function logTag(template: string, record: Tagged | undefined): string {
  return (template || "{{.ID}}").replaceAll(/\{\{-?\s*(.*?)\s*-?\}\}/gs, (_all, action: string) => {
    const name = action.slice(1);
    const field = action.startsWith(".") && Object.hasOwn(fields, name) ? fields[name] : undefined;
    if (field === undefined)
      throw new EngineError(
        "invalid",
        `invalid log tag '${template}': {{${action}}} is none of ${Object.keys(fields)
          .map((f) => `{{.${f}}}`)
          .join(", ")}`,
      );
    return record === undefined ? "" : field(record);
  });
}
