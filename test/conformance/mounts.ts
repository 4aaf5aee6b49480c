/** config.md Mounts, and config-linux.md: propagation, masked and read-only paths. @module */
import assert from "node:assert/strict";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Amendable, type Case, type Lab, set } from "./case.ts";

const line = (at: string) => `busybox awk '$5 == "${at}"' /proc/self/mountinfo | busybox tail -n 1`;
const tmpfs = (options: string[]) => (spec: Amendable) => spec.mounts.push({ destination: "/mnt", type: "tmpfs", source: "tmpfs", options });

/** Options of a fresh mount, and what mountinfo shows with them: per-mount flags, then the superblock's. */
const fresh: readonly (readonly [options: string[], shows: RegExp])[] = [
  [["async"], /^[^-]*rw/],
  [["atime"], /^[^-]*rw/],
  [["defaults"], /^[^-]*rw/],
  [["nodev", "dev"], /^(?![^-]*nodev)/],
  [["nodiratime", "diratime"], /^(?![^-]*nodiratime)/],
  [["dirsync"], /- tmpfs tmpfs [^ ]*dirsync/],
  [["noexec", "exec"], /^(?![^-]*noexec)/],
  [["lazytime"], /lazytime|rw/],
  [["loud"], /rw/],
  [["noatime"], /^[^-]*noatime/],
  [["nodev"], /^[^-]*nodev/],
  [["nodiratime"], /^[^-]*nodiratime/],
  [["noexec"], /^[^-]*noexec/],
  [["nolazytime"], /^(?!.*lazytime)/],
  [["norelatime"], /^[^-]*rw/],
  [["nostrictatime"], /^[^-]*rw/],
  [["nosuid"], /^[^-]*nosuid/],
  [["nosymfollow"], /^[^-]*nosymfollow/],
  [["relatime"], /^[^-]*relatime/],
  [["ro"], /^[^-]* ro/],
  [["ro", "rw"], /^[^-]* rw/],
  [["silent"], /rw/],
  [["strictatime"], /^(?![^-]*relatime)/],
  [["nosuid", "suid"], /^(?![^-]*nosuid)/],
  [["nosymfollow", "symfollow"], /^(?![^-]*nosymfollow)/],
  [["sync"], /- tmpfs tmpfs [^ ]*sync/],
  [["size=64k", "mode=700"], /size=64k,mode=700/],
  [["shared"], /shared:/],
  [["slave"], /^(?!.*shared:)/],
  [["private"], /^(?!.*(shared|master):)/],
  [["unbindable"], /unbindable/],
];

/** A bind of a directory of the host with a tmpfs below it, made by `use` in a mount namespace of the runtime's own. */
function nested(lab: Lab, options: string[], script: string, expected: string | RegExp): void {
  const bundle = lab.make(script, (spec) => spec.mounts.push({ destination: "/mnt", type: "bind", source: "outer", options }));
  mkdirSync(join(bundle, "outer/inner"), { recursive: true });
  writeFileSync(join(bundle, "outer/file"), "outside\n");
  const answer = lab.within(["mount", "-t", "tmpfs", "inner", join(bundle, "outer/inner")], ["run", "--bundle", bundle, lab.id()]);
  if (typeof expected === "string" ? answer.stdout.trim() !== expected : !expected.test(answer.stdout.trim()))
    assert.fail(`expected ${String(expected)}, got ${answer.stdout.trim()} ${answer.stderr.trim()}`);
}
const writable = "for d in /mnt /mnt/inner; do busybox touch $d/x 2>/dev/null && echo -n w || echo -n r; done";
const flagsOf = (flag: string) =>
  `for d in /mnt /mnt/inner; do busybox awk -v d=$d '$5 == d {print ($6 ~ /${flag}/) ? "yes" : "no"}' /proc/self/mountinfo | busybox tail -n 1; done | busybox tr '\\n' ' '`;

const mounting: Case[] = [
  ...fresh.map(
    ([options, shows]): Case => ({
      section: "config.md Linux mount options",
      must: options.join(","),
      check: (lab) => lab.shows(shows, line("/mnt"), tmpfs(options)),
    }),
  ),
  {
    section: "config.md Mounts",
    must: "mounts are made in the listed order",
    check: (lab) =>
      lab.shows("second", "cat /proc/self/mountinfo | busybox awk '$5 == \"/mnt\" {print $(NF-1)}' | busybox tail -n 1; ls /mnt/x", (spec) => {
        spec.mounts.push({ destination: "/mnt", type: "tmpfs", source: "first", options: [] });
        spec.mounts.push({ destination: "/mnt", type: "tmpfs", source: "second", options: [] });
        spec.mounts.push({ destination: "/mnt/x", type: "tmpfs", source: "third", options: [] });
      }),
  },
  {
    section: "config.md Mounts",
    must: "a destination that does not exist is made",
    check: (lab) =>
      lab.shows("/a/b/c", "busybox awk '$5 == \"/a/b/c\" {print $5}' /proc/self/mountinfo", (spec) => {
        spec.mounts.push({ destination: "/a/b/c", type: "tmpfs", source: "tmpfs", options: [] });
      }),
  },
  {
    section: "config.md Mounts",
    must: "a relative destination starts at the container's root",
    check: (lab) => lab.shows(/tmpfs/, line("/dir"), (spec) => spec.mounts.push({ destination: "dir", type: "tmpfs", source: "tmpfs" })),
  },
  {
    section: "config.md Mounts",
    must: "uidMappings without gidMappings, and the other way round, is an error",
    check: (lab) => {
      for (const one of ["uidMappings", "gidMappings"])
        lab.refuses((spec) =>
          spec.mounts.push({
            destination: "/mnt",
            type: "bind",
            source: "/tmp",
            options: ["bind"],
            ...{ [one]: [{ containerID: 0, hostID: 100_000, size: 10 }] },
          }),
        );
    },
  },
  {
    section: "config.md Mounts",
    must: "a bind source that does not exist is an error",
    check: (lab) => lab.refuses((spec) => spec.mounts.push({ destination: "/mnt", type: "bind", source: "/absent", options: ["bind"] })),
  },
  {
    section: "config.md Mounts",
    must: "a relative bind source starts at the bundle",
    check: (lab) => nested(lab, ["bind"], "cat /mnt/file", "outside"),
  },
  {
    section: "config.md Mounts",
    must: "a bind is writable, and its files are the host's",
    check: (lab) => {
      const bundle = lab.make("echo changed >/mnt/file", (spec) => spec.mounts.push({ destination: "/mnt", type: "bind", source: "outer", options: ["bind"] }));
      mkdirSync(join(bundle, "outer"));
      lab.call(["run", "--bundle", bundle, lab.id()]);
      assert.equal(readFileSync(join(bundle, "outer/file"), "utf8"), "changed\n");
    },
  },
  {
    section: "config.md Mounts",
    must: "a file can be bound",
    check: (lab) => {
      const bundle = lab.make("cat /etc/name", (spec) => spec.mounts.push({ destination: "/etc/name", type: "bind", source: "name", options: ["bind", "ro"] }));
      writeFileSync(join(bundle, "name"), "a file\n");
      assert.equal(lab.call(["run", "--bundle", bundle, lab.id()]).stdout, "a file\n");
    },
  },
  {
    section: "config.md Mounts",
    must: "a filesystem that the kernel does not know is an error",
    check: (lab) => lab.refuses((spec) => spec.mounts.push({ destination: "/mnt", type: "nonsense", source: "x", options: [] })),
  },
  {
    section: "config.md Linux mount options",
    must: "bind: without what is mounted below",
    check: (lab) => nested(lab, ["bind"], "busybox awk '$5 == \"/mnt/inner\"' /proc/self/mountinfo", ""),
  },
  {
    section: "config.md Linux mount options",
    must: "rbind: with what is mounted below",
    check: (lab) => nested(lab, ["rbind"], "busybox awk '$5 == \"/mnt/inner\" {print $5}' /proc/self/mountinfo", "/mnt/inner"),
  },
  {
    section: "config.md Linux mount options",
    must: "rbind,ro: only the bind itself is read-only",
    check: (lab) => nested(lab, ["rbind", "ro"], writable, "rw"),
  },
  {
    section: "config.md Linux mount options",
    must: "rbind,rro: read-only with all below",
    check: (lab) => nested(lab, ["rbind", "rro"], writable, "rr"),
  },
  ...(["nosuid", "nodev", "noexec", "noatime", "nodiratime", "nosymfollow"] as const).map(
    (flag): Case => ({
      section: "config.md Linux mount options",
      must: `r${flag}: with all below`,
      check: (lab) => nested(lab, ["rbind", `r${flag}`], flagsOf(flag), "yes yes"),
    }),
  ),
  ...(["rsuid", "rdev", "rexec", "rdiratime", "ratime", "rrw", "rsymfollow", "rrelatime", "rnorelatime", "rstrictatime", "rnostrictatime"] as const).map(
    (option): Case => ({
      section: "config.md Linux mount options",
      must: `${option} is understood`,
      check: (lab) => nested(lab, ["rbind", option], writable, "ww"),
    }),
  ),
  ...(["rprivate", "rslave", "rshared", "runbindable"] as const).map(
    (propagation): Case => ({
      section: "config.md Linux mount options",
      must: `${propagation}: with all below`,
      check: (lab) => {
        const marks = { rprivate: "(shared|master|unbindable)", rslave: "shared", rshared: "shared", runbindable: "unbindable" }[propagation];
        const wanted = propagation === "rshared" || propagation === "runbindable" ? "yes yes" : "no no";
        const script = `for d in /mnt /mnt/inner; do busybox awk -v d=$d '$5 == d {print ($0 ~ /${marks}/) ? "yes" : "no"}' /proc/self/mountinfo | busybox tail -n 1; done | busybox tr '\\n' ' '`;
        nested(lab, ["rbind", propagation], script, wanted);
      },
    }),
  ),
  {
    section: "config.md Linux mount options",
    must: "tmpcopyup: a tmpfs begins with what the directory holds",
    check: (lab) =>
      lab.shows("busybox", "ls /bin | busybox grep -x busybox", (spec) => {
        spec.mounts.push({ destination: "/bin", type: "tmpfs", source: "tmpfs", options: ["tmpcopyup"] });
      }),
  },
  ...(["idmap", "ridmap"] as const).map(
    (option): Case => ({
      section: "config.md Linux mount options",
      must: `${option}: owners are shifted by the mount's uidMappings and gidMappings`,
      check: (lab) => {
        const map = [{ containerID: 0, hostID: 5000, size: 10 }];
        const bundle = lab.make("busybox stat -c %u:%g /mnt/file", (spec) =>
          set(spec, {
            mounts: [...spec.mounts, { destination: "/mnt", type: "bind", source: "outer", options: ["rbind", option], uidMappings: map, gidMappings: map }],
          }),
        );
        mkdirSync(join(bundle, "outer"));
        writeFileSync(join(bundle, "outer/file"), "");
        assert.equal(lab.call(["run", "--bundle", bundle, lab.id()]).stdout, "5000:5000\n");
      },
    }),
  ),
];

const rootAndPaths: Case[] = [
  ...(["private", "rprivate", "slave", "rslave", "shared", "rshared", "unbindable", "runbindable"] as const).map(
    (value): Case => ({
      section: "config-linux.md Rootfs Mount Propagation",
      must: value,
      check: (lab) => {
        const shows = value.includes("shared")
          ? /shared:/
          : value.includes("unbindable")
            ? /unbindable/
            : value.includes("slave")
              ? /^(?!.*shared:)./
              : /^(?!.*(shared|master):)./;
        lab.shows(shows, line("/"), (spec) => {
          spec.linux.rootfsPropagation = value;
          if (value.includes("unbindable")) Object.assign(spec.linux, { maskedPaths: [], readonlyPaths: [] });
        });
      },
    }),
  ),
  {
    section: "config-linux.md Rootfs Mount Propagation",
    must: "another value is an error",
    check: (lab) => lab.refuses((spec) => (spec.linux.rootfsPropagation = "nonsense")),
  },
  {
    section: "config-linux.md Masked Paths",
    must: "files and directories cannot be read",
    check: (lab) =>
      lab.shows("0 0", 'echo "$(cat /file | busybox wc -c) $(ls /dir | busybox wc -l)"', (spec) => (spec.linux.maskedPaths = ["/file", "/dir", "/absent"])),
  },
  {
    section: "config-linux.md Masked Paths",
    must: "values are absolute paths",
    check: (lab) => lab.refuses((spec) => (spec.linux.maskedPaths = ["proc/kcore"])),
  },
  {
    section: "config-linux.md Readonly Paths",
    must: "files and directories cannot be written",
    check: (lab) =>
      lab.shows("r r", "busybox touch /dir/x 2>/dev/null && echo -n 'w ' || echo -n 'r '; (echo x >/file) 2>/dev/null && echo w || echo r", (spec) => {
        spec.root.readonly = false;
        spec.linux.readonlyPaths = ["/dir", "/file", "/absent"];
      }),
  },
  {
    section: "config-linux.md Readonly Paths",
    must: "values are absolute paths",
    check: (lab) => lab.refuses((spec) => (spec.linux.readonlyPaths = ["proc/sys"])),
  },
];
export const mountCases: readonly Case[] = [...mounting, ...rootAndPaths];
