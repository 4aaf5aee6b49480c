/** `--platform`, as docker's CLI checks it before it asks. @module @see https://github.com/containerd/platforms/blob/main/platforms.go */

const systems = /^(aix|android|darwin|dragonfly|freebsd|hurd|illumos|ios|js|linux|macos|nacl|netbsd|openbsd|plan9|solaris|windows|zos)$/;
const architectures =
  /^(386|aarch64|amd64|amd64p32|arm|armbe|arm64|arm64be|armel|armhf|i386|loong64|ppc64|ppc64le|mips|mipsle|mips64|mips64le|mips64p32|mips64p32le|ppc|riscv|riscv64|s390|s390x|sparc|sparc64|wasm|x86_64|x86-64)$/;
const component = "^[A-Za-z0-9_.-]+$";

/** Throws Error with docker's reason, after `what`. Nothing said is good. */
export function checkPlatform(text: string, what = ""): void {
  if (text === "") return;
  const bad = (why: string) => new Error(`${what}${why}: invalid argument`);
  const parts = text.split("/");
  for (const part of parts)
    if (!new RegExp(component).test(part))
      throw bad(
        `${JSON.stringify(part)} is an invalid component of ${JSON.stringify(text)}: platform specifier component must match ${JSON.stringify(component)}`,
      );
  const [only] = parts.map((part) => part.toLowerCase());
  if (parts.length === 1 && !systems.test(only!) && !architectures.test(only!)) throw bad(`${JSON.stringify(text)}: unknown operating system or architecture`);
  if (parts.length > 3) throw bad(`${JSON.stringify(text)}: cannot parse platform specifier`);
}
