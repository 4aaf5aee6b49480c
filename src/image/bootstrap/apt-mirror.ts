import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { errnoOf } from "#core/errors.ts";
import { textIfThere } from "#linux/text-if-there.ts";

/** A repository of the host's apt. */
export interface AptSource {
  readonly uri: string;
  readonly suites: readonly string[];
  readonly components: readonly string[];
}

/**
 * The mirror to make a Debian of this suite from: the one that the host's apt has it from, else the one of the host's own Debian; undefined = debootstrap's default.
 * @see sources.list(5)
 */
export async function findMirror(suite: string, etc = "/etc"): Promise<string | undefined> {
  const sources = (await readSources(join(etc, "apt"))).filter(({ components }) => components.includes("main"));
  const release = Object.fromEntries((await textIfThere(join(etc, "os-release"))).split("\n").map((line) => line.replaceAll('"', "").split("=", 2)));
  const own = release.ID === "debian" ? String(release.VERSION_CODENAME) : undefined;
  return (sources.find(({ suites }) => suites.includes(suite)) ?? sources.find(({ suites }) => own !== undefined && suites.includes(own)))?.uri;
}

async function readSources(directory: string): Promise<AptSource[]> {
  const parts = (await listIfThere(join(directory, "sources.list.d"))).sort().map((name) => join(directory, "sources.list.d", name));
  const sources: AptSource[] = [];
  for (const path of [join(directory, "sources.list"), ...parts]) {
    const text = await textIfThere(path);
    sources.push(...(path.endsWith(".sources") ? parseDeb822(text) : parseOneLine(text)));
  }
  return sources.filter(({ uri }) => /^https?:\/\//.test(uri));
}

/** `deb [options] URI SUITE COMPONENT…` */
export function parseOneLine(text: string): AptSource[] {
  return text.split("\n").flatMap((line) => {
    const match = /^\s*deb\s+(?:\[[^\]]*\]\s+)?(\S+)\s+(\S+)([^#]*)/.exec(line);
    return match === null ? [] : [{ uri: match[1]!, suites: [match[2]!], components: words(match[3]) }];
  });
}

/** Stanzas of `Key: value` lines. */
export function parseDeb822(text: string): AptSource[] {
  return text.split(/\n\s*\n/).flatMap((stanza) => {
    const fields = new Map<string, string>();
    for (const line of stanza
      .replace(/^#.*\n?/gm, "")
      .replace(/\n[ \t]+/g, " ")
      .split("\n")) {
      const match = /^([A-Za-z-]+):(.*)$/.exec(line);
      if (match !== null) fields.set(match[1]!.toLowerCase(), match[2]!);
    }
    if (!words(fields.get("types")).includes("deb") || /^\s*no\s*$/i.test(fields.get("enabled") ?? "")) return [];
    return words(fields.get("uris")).map((uri) => ({ uri, suites: words(fields.get("suites")), components: words(fields.get("components")) }));
  });
}

function words(text: string | undefined): string[] {
  return (text ?? "").split(/\s+/).filter((word) => word !== "");
}

async function listIfThere(path: string): Promise<string[]> {
  try {
    return await readdir(path);
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return [];
    throw error;
  }
}
