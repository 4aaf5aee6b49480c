/**
 * The same Dockerfiles built here and by dockerd's classic builder (root): settings, trees and history are compared. Skipped where there is no dockerd.
 */
import { chmodSync, linkSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { spawnSync } from "node:child_process";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { TestDaemon, wherryPath, whyNot } from "./daemon.ts";
import { Dockerd } from "./dockerd.ts";
import { busyboxArchive } from "./images.ts";
import { ok, run } from "./run.ts";

const reason = whyNot() ?? Dockerd.missing;
if (reason) console.warn(`build-dockerd: skipped: ${reason}`);

/** What every context holds, beside its Dockerfile. */
function files(folder: string): void {
  const put = (name: string, content: string, mode = 0o644) => {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    writeFileSync(join(folder, name), content);
    chmodSync(join(folder, name), mode);
  };
  put("a.txt", "a\n");
  put("b.txt", "b\n", 0o600);
  put("run.sh", "#!/bin/sh\necho run\n", 0o755);
  put("dir/one", "1\n");
  put("dir/sub/two", "2\n", 0o640);
  put("dir/sub/skip.log", "log\n");
  put("with space/f", "s\n");
  chmodSync(join(folder, "dir/sub"), 0o750);
  symlinkSync("one", join(folder, "dir/link"));
  symlinkSync("../a.txt", join(folder, "dir/up"));
  symlinkSync("a.txt", join(folder, "top-link"));
  linkSync(join(folder, "dir/one"), join(folder, "dir/hard"));
  spawnSync("tar", ["-C", folder, "--owner=3", "--group=4", "-czf", join(folder, "arch.tar.gz"), "dir/one", "dir/sub", "dir/link"]);
  put(".dockerignore", "**/*.log\nignored\n");
  put("ignored/x", "x");
}

const dockerfiles: Readonly<Record<string, string>> = {
  "settings of every kind": `FROM busybox
LABEL a=1 "b c"="d e"
ENV X=1 Y="two words" Z=\${X}3
ENV OLD old style
EXPOSE 80 53/udp 9000-9002
VOLUME ["/v1", "/v2"]
USER 5:6
WORKDIR /w
STOPSIGNAL SIGUSR1
HEALTHCHECK --interval=5s --retries=2 CMD true
SHELL ["/bin/sh", "-ec"]
ENTRYPOINT ["/bin/echo"]
CMD ["x"]`,
  "CMD as text": "FROM busybox\nCMD echo $HOME",
  "ENTRYPOINT takes CMD away": "FROM busybox\nENTRYPOINT echo hi",
  "SHELL is used": 'FROM busybox\nSHELL ["/bin/ash", "-c"]\nRUN echo $0 >/out\nCMD exit 1',
  MAINTAINER: "FROM busybox\nMAINTAINER somebody <s@example.org>",
  "HEALTHCHECK NONE": "FROM busybox\nHEALTHCHECK NONE",
  "WORKDIR in steps": "FROM busybox\nWORKDIR /a\nWORKDIR b\nWORKDIR ../c\nRUN pwd >/pwd",
  "WORKDIR with variables": "FROM busybox\nENV D=/deep/er\nWORKDIR $D/x",
  "ARG and ENV": "FROM busybox\nARG A=1\nARG B\nENV C=$A\nRUN echo $A-$B-$C >/out",
  "ARG before FROM": "ARG BASE=busybox\nFROM $BASE\nARG BASE\nRUN echo $BASE >/base",
  "modifiers of variables": "FROM busybox\nENV A=${X:-def} B=${PATH:+set} C=\\$no D='$no'\nRUN echo $A $B $C $D >/out",
  "COPY a file": "FROM busybox\nCOPY a.txt /x",
  "COPY into a new directory": "FROM busybox\nCOPY a.txt b.txt run.sh /new/dir/",
  "COPY into one that is there": "FROM busybox\nCOPY a.txt /etc\nCOPY a.txt /tmp/",
  "COPY a directory": "FROM busybox\nCOPY dir /d",
  "COPY a directory on another": "FROM busybox\nRUN mkdir -p /d/sub && chmod 700 /d /d/sub && echo old >/d/one && echo stays >/d/sub/stays\nCOPY dir /d/",
  "COPY all": "FROM busybox\nWORKDIR /all\nCOPY . .",
  "COPY with patterns": "FROM busybox\nCOPY *.txt dir/s* /p/",
  "COPY through a link": "FROM busybox\nRUN mkdir /real && ln -s /real /ln\nCOPY a.txt /ln/\nCOPY dir /ln/d",
  "COPY in JSON": 'FROM busybox\nCOPY ["with space/f", "/with space/"]',
  "COPY --chown": "FROM busybox\nCOPY --chown=7:8 dir /d/\nCOPY --chown=9 a.txt /n/a\nCOPY --chown=root:root a.txt /r",
  "COPY --from":
    "FROM busybox AS one\nRUN mkdir -p /o/p && echo x >/o/p/f && chown 3:4 /o/p/f && ln /o/p/f /o/h && ln -s p /o/l\nFROM busybox\nCOPY --from=one /o /o\nCOPY --from=0 /o/p/f /f",
  "FROM a stage": "FROM busybox AS base\nENV A=1\nRUN echo 1 >/1\nFROM base\nRUN echo $A >/2",
  scratch: "FROM scratch\nCOPY a.txt /a\nLABEL only=files",
  "ADD an archive": "FROM busybox\nADD arch.tar.gz /un/",
  "ADD what is none": "FROM busybox\nADD a.txt dir /mixed/",
  "RUN removes and replaces":
    "FROM busybox\nRUN mkdir /x && echo 1 >/x/1 && echo 2 >/x/2\nRUN rm -r /x && mkdir /x && echo 3 >/x/3\nRUN rm /x/3 && ln -s /etc /x/3",
  "RUN as a list": 'FROM busybox\nRUN ["/bin/sh", "-c", "echo list >/list; chmod 4755 /list"]',
  "RUN as a user": "FROM busybox\nRUN mkdir /own && chown 12:13 /own\nUSER 12:13\nWORKDIR /own\nRUN touch mine; mkdir d; id -u >uid",
  "ONBUILD is kept": "FROM busybox\nONBUILD COPY a.txt /later\nONBUILD RUN echo later >/ran",
  "lines, comments and escapes": "# escape=`\nFROM busybox\n# comment\nRUN echo a `\n  # inside\n  && echo b >/b `\n  && true\nENV P=C:\\dir",
  "VOLUME after content": "FROM busybox\nRUN mkdir /vol && echo v >/vol/v\nVOLUME /vol",
};

describe.skipIf(reason !== undefined)(`what dockerd builds and what wherry builds${reason ? ` (skipped: ${reason})` : ""}`, () => {
  const work = mkdtempSync(join(tmpdir(), "wt-bpeer-"));
  const daemon = new TestDaemon();
  const dockerd = new Dockerd(work, ["--bridge", "none", "--iptables=false", "--experimental"]);
  const client = (host: string) => ({ DOCKER_HOST: host, DOCKER_CONFIG: join(work, "docker-config"), DOCKER_BUILDKIT: "0" });

  beforeAll(async () => {
    const { path } = busyboxArchive(work);
    await Promise.all([daemon.start(), dockerd.start()]);
    for (const { host } of [daemon, dockerd]) await ok(["docker", "load", "-i", path], { env: client(host) });
  }, 60_000);

  afterAll(async () => {
    await dockerd.stop();
    const left = await daemon.stop();
    rmSync(work, { recursive: true, force: true });
    expect(left).toEqual([]);
  }, 60_000);

  /** Builds, and says what came of it. */
  const builtOf = async (host: string, command: readonly string[], tag: string, folder: string) => {
    const env = { ...client(host), WHERRY_HOST: host };
    const built = await run([...command, "-t", tag, folder], { env });
    if (built.code !== 0) throw new Error(built.stdout + built.stderr);
    const [image] = JSON.parse(await ok(["docker", "inspect", tag], { env })) as [Inspected];
    const history = await ok(["docker", "history", "--no-trunc", "--format", "{{.CreatedBy}}", tag], { env });
    const root = join(work, `${tag}-${host === daemon.host ? "wherry" : "dockerd"}`);
    const id = (await ok(["docker", "create", tag, "x"], { env })).trim();
    mkdirSync(root);
    await ok(["sh", "-c", `docker export ${id} | tar -C ${root} --xattrs --same-owner -xf -`], { env });
    return { settings: settingsOf(image.Config), author: image.Author, layers: image.RootFS.Layers, steps: history.split("\n").length, tree: treeOf(root) };
  };

  test.each(Object.entries(dockerfiles))("%s", async (name, dockerfile) => {
    const tag = `case-${Object.keys(dockerfiles).indexOf(name)}`;
    const folder = join(work, tag);
    mkdirSync(folder);
    files(folder);
    writeFileSync(join(folder, "Dockerfile"), dockerfile);
    const both = await Promise.all(
      [daemon, dockerd].map(async ({ host }) => {
        // Without a network of its own: the peer has no bridge.
        return builtOf(host, ["docker", "build", "--network", "none"], tag, folder);
      }),
    );
    const [wherry, docker] = both as [(typeof both)[0], (typeof both)[0]];
    expect(wherry.settings).toEqual(docker.settings);
    expect(wherry.author).toBe(docker.author);
    expect(wherry.tree).toMatch(/ f [0-7]+ \d+:\d+ .*[0-9a-f]{12}/);
    expect(wherry.tree).toBe(docker.tree);
    expect(wherry.steps).toBe(docker.steps);
  });

  test.each(
    Object.entries({
      "files that change, go, and come again":
        "FROM busybox\nRUN echo 1 >/a; echo 2 >/b; mkdir /d; touch /d/x\nRUN echo 3 >/a; rm /b; rm -r /d\nRUN mkdir /d; ln /a /d/a; rm /bin/ls\nENV A=b\nCMD true",
      "on nothing": 'FROM scratch\nCOPY a.txt /a\nCOPY dir /dir\nCMD ["x"]',
      "a stage on a stage": "FROM busybox AS one\nRUN echo 1 >/1\nFROM one\nRUN echo 2 >/2; rm /1\nRUN echo 3 >/2",
    }).map(([name, dockerfile], i) => [name, dockerfile, `squashed-${i}`]),
  )("--squash: %s", async (_name, dockerfile, tag) => {
    const folder = join(work, tag);
    mkdirSync(folder);
    files(folder);
    writeFileSync(join(folder, "Dockerfile"), dockerfile);
    const wherry = await builtOf(daemon.host, [wherryPath, "build", "--squash", "--network", "none"], tag, folder);
    const docker = await builtOf(dockerd.host, ["docker", "build", "--squash", "--network", "none"], tag, folder);
    expect(wherry.settings).toEqual(docker.settings);
    expect(wherry.tree).toBe(docker.tree);
    expect(wherry.steps).toBe(docker.steps);
    expect(wherry.layers).toHaveLength(docker.layers.length);
    const configs = await Promise.all([daemon.host, dockerd.host].map((host) => historyOf(host, tag)));
    expect(configs[0]).toEqual(configs[1]);
  });

  /** Which entries have a layer, and the comments, ids left out. */
  const historyOf = async (host: string, tag: string) => {
    const archive = join(mkdtempSync(join(work, "saved-")), "image.tar");
    await ok(["docker", "save", "-o", archive, tag], { env: client(host) });
    const read = async <T>(name: string) => JSON.parse(await ok(["tar", "xOf", archive, name])) as T;
    const [{ Config }] = await read<[{ Config: string }]>("manifest.json");
    const { history } = await read<{ history: { empty_layer?: boolean; comment?: string }[] }>(Config);
    return history.map(({ empty_layer = false, comment = "" }) => ({ empty_layer, comment: comment.replace(/sha256:[0-9a-f]{64}/g, "ID") }));
  };
});

interface Inspected {
  readonly Config: Record<string, unknown>;
  readonly Author: string;
  readonly RootFS: { readonly Layers: readonly string[] };
}

/** What an image says of its containers; what is empty and what only names the builder's own containers is left out. */
function settingsOf(config: Record<string, unknown>): Record<string, unknown> {
  const { Hostname: _h, Image: _i, Domainname: _d, ArgsEscaped: _a, ...kept } = config;
  const empty = (value: unknown) =>
    value === null || value === "" || value === false || (typeof value === "object" && value !== null && Object.keys(value).length === 0);
  return Object.fromEntries(Object.entries(kept).filter(([, value]) => !empty(value)));
}

/** One line for each name: type, mode, owner, size and content, target, links. What every container gets of its engine is left out. */
function treeOf(root: string): string {
  const script = `cd "$0" && find . -mindepth 1 \\( -path ./dev -o -path ./proc -o -path ./sys -o -path ./etc/hosts -o -path ./etc/hostname -o -path ./etc/resolv.conf -o -path ./etc/mtab -o -path ./.dockerenv \\) -prune -o -printf '%p %y %m %U:%G %l %n ' \\( -type f -exec sh -c 'sha256sum < "$1" | cut -c1-12' _ {} \\; -o -printf '\\n' \\) | sed 's/ d \\([0-9]* [0-9:]*\\) *[0-9]* $/ d \\1/' | sort`;
  return spawnSync("sh", ["-c", script, root], { encoding: "utf8", maxBuffer: 1 << 26 }).stdout;
}
