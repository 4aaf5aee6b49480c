import type { Platform } from "#core/image-spec.ts";

type Target = Pick<Platform, "os" | "architecture" | "variant">;

/** The ARGs that tell a build which platform it is for and on which it runs. @see https://docs.docker.com/reference/dockerfile/#automatic-platform-args-in-the-global-scope */
export function platformArgs(target: Target, build: Target, stage: string): Record<string, string> {
  return { ...argsOf("TARGET", target), ...argsOf("BUILD", build), TARGETSTAGE: stage };
}

function argsOf(prefix: "TARGET" | "BUILD", { os, architecture, variant }: Target): Record<string, string> {
  return {
    [`${prefix}PLATFORM`]: [os, architecture, ...(variant === undefined || variant === "" ? [] : [variant])].join("/"),
    [`${prefix}OS`]: os,
    [`${prefix}ARCH`]: architecture,
    [`${prefix}VARIANT`]: variant ?? "",
  };
}
