/** Platforms by the names that images use. @module @see https://github.com/opencontainers/image-spec/blob/main/image-index.md */
import { arch } from "node:os";
import type { Platform } from "#core/image-spec.ts";
import { EngineError } from "#core/errors.ts";

export interface PlatformLike {
  readonly os: string;
  readonly architecture: string;
  readonly variant?: string | undefined;
}

const goArchitectures: Readonly<Record<string, string>> = {
  x64: "amd64",
  arm64: "arm64",
  ia32: "386",
  arm: "arm",
  ppc64: "ppc64le",
  s390x: "s390x",
  riscv64: "riscv64",
  loong64: "loong64",
};

/** What runs here. */
export const hostPlatform: PlatformLike = { os: "linux", architecture: goArchitectures[arch()] ?? arch() };

/** How well an image for `platform` runs on `wanted`: 0 = not at all, the best is highest. No platform said: it may. */
export function platformRank(platform: PlatformLike | undefined, wanted: PlatformLike = hostPlatform): number {
  if (platform === undefined) return 1;
  if (platform.os !== wanted.os) return 0;
  const accepted = acceptedBy(wanted);
  const own = `${platform.architecture}/${variantOf(platform)}`;
  const at = accepted.indexOf(own);
  if (at >= 0) return 2 + accepted.length - at;
  // amd64 v2 to v4 need what not every machine has; where nobody said what this one has, they are better than nothing.
  return platform.architecture === wanted.architecture && !wanted.variant ? 2 : 0;
}

/** `architecture/variant` of what runs on a platform, best first, in containerd's order. */
function acceptedBy(wanted: PlatformLike): string[] {
  const { architecture } = wanted;
  const own = `${architecture}/${variantOf(wanted)}`;
  const level = Number(/^v(\d+)$/.exec(variantOf(wanted))?.[1] ?? "0");
  const down = (name: string, from: number, to: number) => Array.from({ length: Math.max(0, from - to + 1) }, (_, i) => `${name}/v${from - i}`);
  if (architecture === "amd64") return [...down("amd64", level, 1), "386/"];
  if (architecture === "arm64") return [own, ...(level > 8 ? ["arm64/v8"] : []), ...down("arm", 8, 5)];
  if (architecture === "arm") return down("arm", level, 5);
  return [own];
}

/** What no variant means. */
function variantOf({ architecture, variant }: PlatformLike): string {
  return variant || ({ amd64: "v1", arm64: "v8", arm: "v7" }[architecture] ?? "");
}

export function printPlatform(platform: PlatformLike | undefined): string {
  if (platform === undefined) return "an unknown platform";
  return [platform.os, platform.architecture, platform.variant].filter((part) => part !== undefined && part !== "").join("/");
}

/** `linux/arm64`, `linux/arm/v7`; "" = the host's. EngineError invalid. */
export function parsePlatform(text: string): Pick<Platform, "os" | "architecture" | "variant"> {
  if (text === "") return { os: hostPlatform.os, architecture: hostPlatform.architecture };
  const parts = text.toLowerCase().split("/");
  if (parts.length > 3 || parts.some((part) => !/^[a-z0-9_.-]+$/.test(part)))
    throw new EngineError("invalid", `"${text.slice(0, 100)}": is not a valid platform`);
  const [os = "", architecture = parts.length === 1 ? hostPlatform.architecture : "", variant] = parts;
  if (os !== "linux") throw new EngineError("invalid", `operating system is not supported: "${os}"`);
  return { os, architecture: aliases[architecture] ?? architecture, ...(variant === undefined ? {} : { variant }) };
}

const aliases: Readonly<Record<string, string>> = { x86_64: "amd64", "x86-64": "amd64", aarch64: "arm64", armhf: "arm", i386: "386" };
