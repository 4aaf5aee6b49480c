/** Image archives made on the spot: busybox from Debian's busybox-static, in the format of `docker save`. @module */
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { chmodSync, cpSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { ok, run } from "./run.ts";

export interface ArchiveInfo {
  readonly path: string;
  /** sha256: digest of the config. */
  readonly id: string;
  readonly diffIds: readonly string[];
}

export interface ArchiveOptions {
  readonly tag: string;
  /** Each layer is a directory's content. */
  readonly layers: readonly string[];
  readonly config?: Readonly<Record<string, unknown>>;
}

const sha256 = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

/** Writes a docker-archive (manifest.json, config, layer.tar per layer) at `path`. */
export function writeArchive(path: string, options: ArchiveOptions): ArchiveInfo {
  const work = `${path}.d`;
  mkdirSync(work, { recursive: true });
  const tar = (out: string, dir: string, names: readonly string[]): void => {
    execFileSync("tar", ["--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--mtime=@1700000000", "-C", dir, "-cf", out, ...names]);
  };
  const layers = options.layers.map((dir, i) => {
    const name = `${i}/layer.tar`;
    mkdirSync(join(work, String(i)), { recursive: true });
    tar(join(work, name), dir, ["."]);
    return { name, diffId: `sha256:${sha256(readFileSync(join(work, name)))}` };
  });
  const config = JSON.stringify({
    architecture: "amd64",
    os: "linux",
    created: "2024-05-18T10:20:30.123456789Z",
    author: "wherry tests",
    config: { Env: ["PATH=/bin:/sbin:/usr/bin"], Cmd: ["sh"], Labels: { "org.example.kind": "test" }, ...options.config },
    history: [
      ...layers.map((_, i) => ({ created: `2024-05-18T10:20:${String(20 + i).padStart(2, "0")}Z`, created_by: `/bin/sh -c #(nop) ADD layer ${i} in / ` })),
      { created: "2024-05-18T10:20:30.123456789Z", created_by: '/bin/sh -c #(nop)  CMD ["sh"]', empty_layer: true },
    ],
    rootfs: { type: "layers", diff_ids: layers.map((layer) => layer.diffId) },
  });
  const hex = sha256(Buffer.from(config));
  writeFileSync(join(work, `${hex}.json`), config);
  writeFileSync(join(work, "manifest.json"), JSON.stringify([{ Config: `${hex}.json`, RepoTags: [options.tag], Layers: layers.map((layer) => layer.name) }]));
  tar(path, work, [`${hex}.json`, "manifest.json", ...layers.map((layer) => layer.name)]);
  return { path, id: `sha256:${hex}`, diffIds: layers.map((layer) => layer.diffId) };
}

/** A directory tree with busybox and its applets, users and the usual directories. */
export function busyboxTree(dir: string): string {
  for (const sub of ["bin", "etc", "tmp", "root", "var/log", "srv/things", "home"]) mkdirSync(join(dir, sub), { recursive: true });
  chmodSync(join(dir, "tmp"), 0o1777);
  cpSync(execFileSync("sh", ["-c", "command -v busybox"], { encoding: "utf8" }).trim(), join(dir, "bin/busybox"), { dereference: true });
  chmodSync(join(dir, "bin/busybox"), 0o755);
  for (const applet of execFileSync(join(dir, "bin/busybox"), ["--list"], { encoding: "utf8" }).split("\n")) {
    if (applet !== "" && applet !== "busybox") symlinkSync("busybox", join(dir, "bin", applet));
  }
  writeFileSync(join(dir, "etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/home:/bin/false\n");
  writeFileSync(join(dir, "etc/group"), "root:x:0:\nnogroup:x:65534:\n");
  writeFileSync(join(dir, "etc/lower-file"), "from the image\n");
  writeFileSync(join(dir, "srv/things/one"), "1\n");
  return dir;
}

/** The same with this machine's docker client, and the libraries that it needs. */
export async function dockerClientTree(dir: string): Promise<string> {
  const tree = busyboxTree(dir);
  const client = await ok(["sh", "-c", "command -v docker"]);
  const libraries = (await run(["ldd", client])).stdout.match(/\/\S+/g) ?? []; // none of a static one
  for (const file of [client, ...libraries]) {
    const target = join(tree, file === client ? "/bin/docker" : file);
    mkdirSync(join(target, ".."), { recursive: true });
    cpSync(file, target, { dereference: true });
  }
  return tree;
}

/** `busybox:latest` of two layers, below `dir`. */
export function busyboxArchive(dir: string): ArchiveInfo {
  const base = busyboxTree(join(dir, "busybox-0"));
  const top = join(dir, "busybox-1");
  mkdirSync(join(top, "etc"), { recursive: true });
  writeFileSync(join(top, "etc/second-layer"), "two\n");
  return writeArchive(join(dir, "busybox.tar"), { tag: "busybox:latest", layers: [base, top] });
}
