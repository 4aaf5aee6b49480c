import { readFile, stat } from "node:fs/promises";
import { rfc3339Nano } from "#core/clock.ts";
import { EngineError } from "#core/errors.ts";
import { endBlocks, formatHeader, padding } from "#unionfs/tar/writer.ts";
import type { Image, ImageStore } from "../mod.ts";
import { type RunOptions, run } from "./program.ts";
import { findStaticBusybox } from "./static-busybox.ts";

const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

interface Entry {
  readonly name: string;
  readonly type: "file" | "dir" | "symlink" | "link";
  readonly mode: number;
  readonly data?: Uint8Array;
  readonly linkname?: string;
}

/** Makes `busybox:latest`, like the image of that name: one static program under all its names. The same program gives the same image, to the byte. */
export async function bootstrapBusybox(store: ImageStore, workDir: string, options: RunOptions): Promise<Image> {
  const path = await findStaticBusybox(workDir, options);
  options.onLine?.(`using ${path}`);
  const applets = (await run(path, ["--list"], { signal: options.signal })).split("\n").filter((name) => name !== "");
  for (const name of applets)
    if (!/^[A-Za-z0-9[\].+_-]+$/.test(name)) throw new EngineError("internal", `${path} --list names ${JSON.stringify(name)}, which is no name of a program`);
  const program = await readFile(path);
  // The program's time, in whole seconds as its package has it: the image changes when busybox does, and only then.
  const mtimeNs = BigInt(Math.floor((await stat(path)).mtimeMs / 1000)) * 1_000_000_000n;
  const id = await store.import(writeEntries(busyboxTree(program, applets), mtimeNs), {
    reference: "busybox:latest",
    created: rfc3339Nano(mtimeNs),
    createdBy: "wherry image bootstrap busybox",
    message: "",
    changes: { Env: [`PATH=${defaultPath}`], Cmd: ["sh"] },
    ...(options.signal === undefined ? {} : { signal: options.signal }),
  });
  return store.get(id);
}

function busyboxTree(program: Uint8Array, applets: readonly string[]): Entry[] {
  const dir = (name: string, mode = 0o755): Entry => ({ name, type: "dir", mode });
  const text = (name: string, lines: readonly string[], mode = 0o644): Entry => ({ name, type: "file", mode, data: Buffer.from(`${lines.join("\n")}\n`) });
  const links = [...new Set(applets)].filter((name) => name !== "busybox").sort();
  return [
    dir("bin"),
    { name: "bin/busybox", type: "file", mode: 0o755, data: program },
    ...links.map((name): Entry => ({ name: `bin/${name}`, type: "link", mode: 0o755, linkname: "bin/busybox" })),
    ...["dev", "etc"].map((name) => dir(name)),
    text("etc/group", groups),
    text("etc/nsswitch.conf", ["passwd: files", "group: files", "hosts: files dns"]),
    text("etc/passwd", users),
    text(
      "etc/shadow",
      users.map((user) => `${user.slice(0, user.indexOf(":"))}:*:::::::`),
      0o600,
    ),
    ...["home", "lib", "proc"].map((name) => dir(name)),
    dir("root", 0o700),
    ...["sbin", "sys"].map((name) => dir(name)),
    dir("tmp", 0o1777),
    ...["usr", "usr/bin"].map((name) => dir(name)),
    // Scripts begin with #!/usr/bin/env.
    { name: "usr/bin/env", type: "symlink", mode: 0o777, linkname: "../../bin/env" },
    ...["usr/sbin", "var", "var/spool", "var/spool/mail", "var/www"].map((name) => dir(name)),
  ];
}

const users = [
  "root:x:0:0:root:/root:/bin/sh",
  "daemon:x:1:1:daemon:/usr/sbin:/bin/false",
  "bin:x:2:2:bin:/bin:/bin/false",
  "sys:x:3:3:sys:/dev:/bin/false",
  "sync:x:4:100:sync:/bin:/bin/sync",
  "mail:x:8:8:mail:/var/spool/mail:/bin/false",
  "www-data:x:33:33:www-data:/var/www:/bin/false",
  "operator:x:37:37:operator:/var:/bin/false",
  "nobody:x:65534:65534:nobody:/home:/bin/false",
];

const groups = [
  ...["root:x:0:", "daemon:x:1:", "bin:x:2:", "sys:x:3:", "adm:x:4:", "tty:x:5:", "disk:x:6:", "lp:x:7:", "mail:x:8:", "kmem:x:9:", "wheel:x:10:root"],
  ...["cdrom:x:11:", "dialout:x:18:", "floppy:x:19:", "video:x:28:", "audio:x:29:", "tape:x:32:", "www-data:x:33:", "operator:x:37:", "utmp:x:43:"],
  ...["plugdev:x:46:", "staff:x:50:", "lock:x:54:", "netdev:x:82:", "users:x:100:", "nobody:x:65534:"],
];

async function* writeEntries(entries: readonly Entry[], mtimeNs: bigint): AsyncGenerator<Uint8Array, void, undefined> {
  for (const { name, type, mode, data, linkname = "" } of entries) {
    const size = data?.byteLength ?? 0;
    yield formatHeader({ name, type, mode, linkname, size, mtimeNs, uid: 0, gid: 0, major: 0, minor: 0, xattrs: [] });
    if (data !== undefined) yield data;
    yield padding(size);
  }
  yield endBlocks();
}
