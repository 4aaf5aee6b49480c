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

/** How well an image for `platform` runs here: 0 = not at all. No platform said: it may. */
export function platformRank(platform: PlatformLike | undefined): number {
  if (platform === undefined) return 1;
  if (platform.os !== hostPlatform.os) return 0;
  if (platform.architecture === hostPlatform.architecture) return variantRank(platform.variant);
  // 32-bit code runs on 64-bit x86.
  return hostPlatform.architecture === "amd64" && platform.architecture === "386" ? 2 : 0;
}

/** amd64 v2 to v4 need what not every machine has; the plain one runs everywhere. */
function variantRank(variant: string | undefined): number {
  if (variant === undefined || variant === "" || variant === "v8") return 4;
  return 3;
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
