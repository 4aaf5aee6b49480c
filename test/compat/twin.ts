/** docker's CLI and ours against one daemon: the same command line for each, and what of the answers must be the same. @module */
import { mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { patient } from "../patience.ts";
import { wherryPath } from "./daemon.ts";
import { ok, type Result, run } from "./run.ts";

/** One of the two clients. Names of what it makes start with `prefix`, so that they do not meet; both are equally long, for the columns' sake. */
export interface Twin {
  readonly program: string;
  readonly prefix: "x-" | "y-";
  readonly env: Readonly<Record<string, string>>;
  /** Its byte of addresses. */
  readonly subnet: string;
}

export function twins(host: string, work: string): readonly [docker: Twin, wherry: Twin] {
  const twin = (program: string, prefix: Twin["prefix"], subnet: string): Twin => {
    const config = join(work, `${prefix}config`);
    mkdirSync(config, { recursive: true });
    return { program, prefix, subnet, env: { DOCKER_HOST: host, DOCKER_CONFIG: config, HOME: work, DOCKER_CLI_HINTS: "0", DOCKER_BUILDKIT: "0" } };
  };
  return [twin("docker", "x-", "1"), twin(wherryPath, "y-", "2")];
}

/** The files that command lines name by `W/…`. */
export async function writeFiles(work: string): Promise<void> {
  const files: Readonly<Record<string, string | Uint8Array>> = {
    "good.env": "# comment\nC=3\nD=a b\nHOME\n  E=5\n\nF=\n",
    "bad.env": "A=1\n=2\n",
    "bad2.env": "A=1\nB C=2\n",
    "binary.env": new Uint8Array([65, 61, 0xff, 0xfe, 10]),
    labels: "la=1\nlb\n# none\n",
    garbage: "this is no archive\n",
    exists: "x\n",
    "ctx/Dockerfile": "FROM busybox\nLABEL x=y\n",
  };
  for (const name of ["ctx", "config"]) mkdirSync(join(work, name), { recursive: true });
  for (const [name, content] of Object.entries(files)) writeFileSync(join(work, name), content);
  symlinkSync("good.env", join(work, "link"));
  await ok(["tar", "-C", join(work, "ctx"), "-cf", join(work, "tree.tar"), "."]);
}

/** Words as a shell would have them: `'…'` quotes. */
function words(line: string): string[] {
  return [...line.matchAll(/(?:'[^']*'|[^\s'])+/g)].map(([word]) => word.replaceAll("'", ""));
}

/** Runs one of the lines. */
export function runLine(twin: Twin, line: string, work: string): Promise<Result> {
  const [command = "", input] = line.split(/ <<< ?/);
  const args = words(command).map((word) =>
    word
      .replace(/(?<!\w)@(?=[\w*])/g, twin.prefix)
      .replace(/(?<![\w])W(?=$|[/:,])/g, work)
      .replace(/(?<=\.)S(?=\.)/g, twin.subnet),
  );
  return run([twin.program, ...args], { env: twin.env, timeoutMs: patient(20_000), ...(input === undefined ? {} : { input: input.replaceAll("\\n", "\n") }) });
}

const spans = "(?:Less than a second|About an? \\w+|\\d+ (?:second|minute|hour|day|week|month|year)s?)";

/** An answer without what any two runs have of their own: names, ids, times, addresses, ports. */
export function comparable(result: Result, work: string): string {
  const text = (raw: string) =>
    raw
      .replaceAll(work, "W")
      .replaceAll(wherryPath, "wherry")
      .replace(/\b[xyXY]-(?=\w)/g, "@")
      .replace(/docker/g, "wherry")
      .replace(/Docker/g, "Wherry")
      .replace(/DOCKER/g, "WHERRY")
      .replace(/(?<=10\.21[12]\.)\d(?=\.)/g, "S")
      .replace(/\b[0-9a-f]{64}\b/g, "<id>")
      .replace(/\b(?=[a-f]*\d)[0-9a-f]{12}\b/g, "<short>")
      .replace(/\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?( ?Z|[+-]\d\d:\d\d| [+-]\d{4} UTC)?/g, "<time>")
      .replace(/\b172\.\d+\.\d+\.\d+\b/g, "<ip>")
      .replace(/\b(3[2-9]|[456]\d)\d{3}\b(?=-|$|\n|"\}|",?\n)/gm, "<port>")
      .replace(/(?<="timeNano":|"time":)\d+/g, "<time>")
      .replace(/(?<="(?:NFd|NGoroutines|NEventsListener)":)\d+/g, "<n>")
      .replace(/02(:[0-9a-f]{2}){5}/g, "<mac>")
      .replace(/(?<=step )\d+|(?<="Pid": )\d+|(?<=^root +)\d+( +\d+)?|(?<=^)\d+(?= +sleep)/gm, "<n>")
      .replace(/\b\d+(\.\d+)?(KiB|k?B)(?= \/ )/g, "<size>")
      .split("\n")
      .map((line) => (new RegExp(spans).test(line) ? line.replace(new RegExp(spans, "g"), "<span>").replace(/ {2,}/g, "  ") : line))
      .join("\n");
  // A column of times, or of sizes, is as wide as the longest of them.
  const head = (raw: string) =>
    /<span>|<size>/.test(raw) ? raw.replace(/^([A-Z][A-Z /%]+?)(?: {2,}[A-Z][A-Z /%]*)+$/gm, (line) => line.replace(/ {2,}/g, "  ")) : raw;
  return `exit ${result.code}\n--- stdout\n${head(text(result.stdout))}--- stderr\n${text(result.stderr)}`;
}
