/** Bundles for an OCI runtime's command line, and the runtimes that this machine has to compare with. @module */
import { spawn, spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { chmodSync, copyFileSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import type { OciSpec } from "#core/runtime-spec.ts";
import { exampleSpec } from "../../src/bin/runtime/describe.ts";

const dist = process.env["WHERRY_TEST_DIST"] ?? fileURLToPath(new URL("../../dist/", import.meta.url));
export const wherryRuntime: string = join(dist, "bin/wherry-runtime");
const busybox = "/bin/busybox";
const applets = ["sh", "echo", "sleep", "cat", "ls", "id", "mount", "ps", "kill", "hostname", "touch", "readlink", "tty", "stty", "true"];

export interface Answer {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** One runtime with a state root of its own, and bundles that it can be given. */
export class RuntimeUnderTest {
  /** Made when it is first used: a skipped test leaves nothing. */
  readonly directory: string = `/var/tmp/wherry-oci-${randomBytes(6).toString("hex")}`;
  /** The program, and what has to stand before it. */
  readonly command: readonly string[];
  readonly #ids: string[] = [];

  constructor(command: string | readonly string[]) {
    this.command = typeof command === "string" ? [command] : command;
  }

  get root(): string {
    return join(this.directory, "state");
  }

  /** What its containers' cgroups are below, in every hierarchy. */
  get cgroupParent(): string {
    return `/${basename(this.directory)}`;
  }

  id(): string {
    const id = `oci-${randomBytes(4).toString("hex")}`;
    this.#ids.push(id);
    return id;
  }

  /** A bundle whose program is `script`, for sh. */
  bundle(script: string, amend: (spec: OciSpec) => void = () => {}): string {
    mkdirSync(this.directory, { recursive: true });
    const bundle = mkdtempSync(join(this.directory, "bundle-"));
    chmodSync(bundle, 0o755); // root of a user namespace must get through
    mkdirSync(join(bundle, "rootfs/bin"), { recursive: true });
    copyFileSync(busybox, join(bundle, "rootfs/bin/busybox"));
    for (const applet of applets) symlinkSync("busybox", join(bundle, "rootfs/bin", applet));
    const spec = structuredClone(exampleSpec()) as OciSpec;
    spec.ociVersion = "1.0.2"; // Debian's crun knows no later one
    spec.process.terminal = false;
    spec.process.args = ["sh", "-c", script];
    if (spec.linux !== undefined) spec.linux.cgroupsPath = `${this.cgroupParent}/${randomBytes(4).toString("hex")}`;
    amend(spec);
    writeFileSync(join(bundle, "config.json"), JSON.stringify(spec));
    return bundle;
  }

  call(args: readonly string[], input = ""): Answer {
    return this.#spawn([...this.command, "--root", this.root, ...args], input);
  }

  /** {@link call} in a mount namespace of its own, where `before` was done. */
  within(before: readonly string[], args: readonly string[]): Answer {
    const first = `${before.map((word) => `'${word}'`).join(" ")} && exec "$@"`;
    return this.#spawn(["unshare", "--mount", "sh", "-c", first, "sh", ...this.command, "--root", this.root, ...args], "");
  }

  #spawn([program = "", ...args]: readonly string[], input: string): Answer {
    mkdirSync(this.directory, { recursive: true });
    const done = spawnSync(program, args, { input, encoding: "utf8", timeout: 30_000, cwd: this.directory });
    return { code: done.status ?? -1, stdout: done.stdout, stderr: done.stderr };
  }

  /** As a shim calls `create`: the container's streams are files, since a pipe of ours would stay open with it. */
  create(id: string, bundle: string, flags: readonly string[] = [], global: readonly string[] = []): Answer {
    const done = spawnSync(
      "sh",
      [
        "-c",
        'exec "$@" >"$OUT/out" 2>"$OUT/err" </dev/null',
        "sh",
        ...this.command,
        "--root",
        this.root,
        ...global,
        "create",
        "--bundle",
        bundle,
        ...flags,
        id,
      ],
      {
        env: { ...process.env, OUT: bundle },
        encoding: "utf8",
        timeout: 30_000,
      },
    );
    return { code: done.status ?? -1, stdout: "", stderr: done.stderr };
  }

  status(id: string): string | undefined {
    const { code, stdout } = this.call(["state", id]);
    return code === 0 ? (JSON.parse(stdout) as { status: string }).status : undefined;
  }

  /** Containers whose state is still there. */
  left(): string[] {
    try {
      return readdirSync(this.root);
    } catch {
      return []; // never made
    }
  }

  dispose(): void {
    for (const id of this.#ids) this.call(["delete", "--force", id]);
    rmSync(this.directory, { recursive: true, force: true });
    // The parent that the bundles name stays with whoever named it: us.
    for (const hierarchy of ["", ...readdirSync("/sys/fs/cgroup")])
      spawnSync("rmdir", [join("/sys/fs/cgroup", hierarchy, this.cgroupParent)], { stdio: "ignore" });
  }
}

/** How to call a runtime here: Debian's crun wants no unified hierarchy beside those of cgroup v1. */
export function commandOf(name: string): readonly string[] {
  if (name !== "crun" || !existsSync("/sys/fs/cgroup/unified/cgroup.procs")) return [name];
  return ["unshare", "--mount", "sh", "-c", 'umount /sys/fs/cgroup/unified && exec "$@"', "sh", name];
}

/** Why a runtime of Debian's cannot be compared with; undefined when it can. */
export function whyNot(name: string): string | undefined {
  if (spawnSync("sh", ["-c", 'command -v "$0"', name]).status !== 0) return "not installed";
  const runtime = new RuntimeUnderTest(commandOf(name));
  const { code, stderr } = runtime.call(["run", "--bundle", runtime.bundle("exit 0"), runtime.id()]);
  runtime.dispose();
  return code === 0 ? undefined : `it does not run here: ${stderr.trim() || `exit code ${code}`}`;
}

/** Serves a console socket once; `line` is the first that the terminal shows. */
export async function consoleServer(path: string): Promise<{ readonly line: Promise<string> }> {
  // Node cannot receive descriptors; Python can.
  const script = `
import array, os, socket, sys
s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(1)
print("ready", flush=True)
c, _ = s.accept()
fds = array.array("i")
_, control, _, _ = c.recvmsg(100, socket.CMSG_SPACE(fds.itemsize))
fds.frombytes(control[0][2])
print(os.read(fds[0], 1000).decode().strip(), flush=True)
`;
  const child = spawn("python3", ["-c", script, path], { stdio: ["ignore", "pipe", "inherit"], timeout: 20_000 });
  const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
  const first = await lines.next();
  if (first.value !== "ready") throw new Error("the console server did not start");
  return { line: lines.next().then(({ value }) => String(value)) };
}

/** Serves a seccomp listener once: tells the container process state, and answers the first call that it is notified of with ENOEXEC. */
export async function seccompAgent(path: string): Promise<{ readonly told: Promise<unknown>; close(): void }> {
  const script = `
import array, fcntl, json, os, socket, struct, sys
s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(1)
print("ready", flush=True)
c, _ = s.accept()
fds = array.array("i")
text, control, _, _ = c.recvmsg(65536, socket.CMSG_SPACE(fds.itemsize))
fds.frombytes(control[0][2][:4])
while True:
    more = c.recv(65536)
    if not more: break
    text += more
print(json.dumps(json.loads(text)), flush=True)
note = bytearray(80)
fcntl.ioctl(fds[0], 0xc0502100, note)
fcntl.ioctl(fds[0], 0xc0182101, bytearray(struct.pack("QqiI", struct.unpack_from("Q", note)[0], 0, -8, 0)))
`;
  const child = spawn("python3", ["-c", script, path], { stdio: ["ignore", "pipe", "inherit"], timeout: 20_000 });
  const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
  if ((await lines.next()).value !== "ready") throw new Error("the seccomp agent did not start");
  return {
    told: lines.next().then(({ value }) => JSON.parse(String(value)) as unknown),
    close() {
      child.kill("SIGKILL");
      rmSync(path, { force: true });
    },
  };
}
