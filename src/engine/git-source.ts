/** Files of a git repository, fetched by the program `git`: `URL#ref:directory`. @module @see https://docs.docker.com/build/concepts/context/#git-repositories */
import { spawn } from "node:child_process";
import { mkdir, realpath, rm } from "node:fs/promises";
import { join } from "node:path";
import { EngineError, errnoOf, isEngineError } from "#core/errors.ts";

export interface GitSource {
  readonly url: string;
  /** Branch, tag, commit or full reference; "" = what the repository's HEAD is. */
  readonly ref: string;
  /** Within the repository; "" = its root. */
  readonly directory: string;
}

/** Schemes that are fetched, also of submodules. `ext::` would run a program, `file:` read this host. */
const schemes = ["http", "https", "git", "ssh"];

/** @throws EngineError "invalid" for what git could take for an option or a helper program */
export function parseGitUrl(text: string): GitSource {
  const at = text.indexOf("#");
  const [whole, fragment] = at < 0 ? [text, ""] : [text.slice(0, at), text.slice(at + 1)];
  const url = whole.startsWith("github.com/") ? `https://${whole}` : whole;
  const colon = fragment.indexOf(":");
  const [ref, directory] = colon < 0 ? [fragment, ""] : [fragment.slice(0, colon), fragment.slice(colon + 1)];
  const scheme = /^([a-z]+):\/\/[^-/]/.exec(url)?.[1];
  const isScp = /^[a-zA-Z0-9_.][a-zA-Z0-9_.-]*@[a-zA-Z0-9_.][a-zA-Z0-9_.-]*:[^-]/.test(url);
  if ((scheme === undefined || !schemes.includes(scheme)) && !isScp) throw new EngineError("invalid", `invalid git URL ${JSON.stringify(text.slice(0, 200))}`);
  if (/[\0-\x20\x7f]/.test(url))
    throw new EngineError("invalid", `invalid git URL ${JSON.stringify(text.slice(0, 200))}: it holds a space or a control character`);
  // @see gitcheckref-format(1)
  if (ref !== "" && (!/^[A-Za-z0-9_][A-Za-z0-9_./@+-]*$/.test(ref) || ref.includes("..") || ref.includes("@{")))
    throw new EngineError("invalid", `invalid git reference ${JSON.stringify(ref.slice(0, 200))}`);
  if (directory.split("/").includes("..") || directory.includes("\0"))
    throw new EngineError("invalid", `invalid git directory ${JSON.stringify(directory.slice(0, 200))}: it leads out of the repository`);
  return { url, ref, directory };
}

export interface Checkout {
  /** Absolute. */
  readonly path: string;
  /** 40 or 64 hex digits. */
  readonly commit: string;
}

/**
 * Fetches one commit with its submodules into `to`, a directory that does not exist. Nothing of this host's or user's git configuration counts, no hook runs, nobody is asked for a password.
 * @throws EngineError "invalid" with what git said, "unsupported" without git
 */
export async function fetchGit({ url, ref, directory }: GitSource, to: string, keepGitDir: boolean, signal: AbortSignal): Promise<Checkout> {
  const home = `${to}.home`;
  await mkdir(home, { recursive: true, mode: 0o700 });
  const git: Git = (...args) => runGit(args, { cwd: to, home, signal });
  try {
    await mkdir(to, { mode: 0o700 });
    await git("init", "-q");
    await git("checkout", "-q", "--detach", await fetchCommit(git, url, ref));
    await git("-c", `remote.origin.url=${url}`, "submodule", "update", "-q", "--init", "--recursive", "--depth=1");
    const commit = (await git("rev-parse", "HEAD")).trim();
    if (!keepGitDir) await rm(join(to, ".git"), { recursive: true, force: true });
    return { path: await within(to, directory), commit };
  } finally {
    await rm(home, { recursive: true, force: true });
  }
}

type Git = (...args: string[]) => Promise<string>;

/** What was fetched, as a name that checkout takes. */
async function fetchCommit(git: Git, url: string, ref: string): Promise<string> {
  try {
    await git("fetch", "-q", "--depth=1", "--no-tags", "--", url, ref === "" ? "HEAD" : ref);
    return "FETCH_HEAD";
  } catch (error) {
    // Not every server gives single commits, or a part of the history.
    if (!isEngineError(error, "invalid")) throw error;
    const all = ref === "" ? ["HEAD"] : ["+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*"];
    await git("fetch", "-q", "--", url, ...all).catch(() => {
      throw error;
    });
    if (ref === "") return "FETCH_HEAD";
    for (const name of [`refs/remotes/origin/${ref}`, `refs/tags/${ref}`, ref]) {
      const commit = await git("rev-parse", "-q", "--verify", `${name}^{commit}`).catch(() => "");
      if (commit !== "") return commit.trim();
    }
    throw error;
  }
}

/** Links in the repository lead no further than it. */
async function within(root: string, directory: string): Promise<string> {
  const [base, path] = await Promise.all([realpath(root), realpath(join(root, directory))]).catch((error: unknown) => {
    if (errnoOf(error) !== "ENOENT" && errnoOf(error) !== "ELOOP") throw error;
    throw new EngineError("invalid", `the repository has no directory ${JSON.stringify(directory.slice(0, 200))}`, { cause: error });
  });
  if (path !== base && !path.startsWith(`${base}/`))
    throw new EngineError("invalid", `the directory ${JSON.stringify(directory.slice(0, 200))} leads out of the repository`);
  return path;
}

/** How this host reaches others. */
const passedOn = ["PATH", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy", "GIT_SSL_CAINFO", "SSL_CERT_FILE", "SSL_CERT_DIR"];

/** What git may say that is kept for the message. */
const maxSaid = 4096;

function runGit(
  args: readonly string[],
  { cwd, home, signal }: { readonly cwd: string; readonly home: string; readonly signal: AbortSignal },
): Promise<string> {
  const settings = ["core.hooksPath=/dev/null", "protocol.allow=never", ...schemes.map((scheme) => `protocol.${scheme}.allow=always`), "credential.helper="];
  const kept = Object.fromEntries(passedOn.flatMap((name) => (process.env[name] === undefined ? [] : [[name, process.env[name]]])));
  return new Promise((resolve, reject) => {
    const child = spawn("git", [...settings.flatMap((setting) => ["-c", setting]), ...args], {
      cwd,
      signal,
      killSignal: "SIGKILL",
      stdio: ["ignore", "pipe", "pipe"],
      env: {
        ...kept,
        HOME: home,
        LC_ALL: "C",
        GIT_CONFIG_NOSYSTEM: "1",
        GIT_TERMINAL_PROMPT: "0",
        GIT_LFS_SKIP_SMUDGE: "1",
        GIT_SSH_COMMAND: "ssh -oBatchMode=yes",
      },
    });
    let [printed, said] = ["", ""];
    child.stdout.setEncoding("utf8").on("data", (text: string) => (printed = (printed + text).slice(-maxSaid)));
    child.stderr.setEncoding("utf8").on("data", (text: string) => (said = (said + text).slice(-maxSaid)));
    child.once("error", (error) => {
      if (signal.aborted) reject(new EngineError("cancelled", "the build was cancelled", { cause: error }));
      else if (errnoOf(error) === "ENOENT")
        reject(new EngineError("unsupported", "a git repository needs the program git, which is not installed here", { cause: error }));
      else reject(error);
    });
    child.once("close", (code) => {
      if (code === 0) resolve(printed);
      else if (signal.aborted) reject(new EngineError("cancelled", "the build was cancelled"));
      else reject(new EngineError("invalid", `git ${args.find((arg) => /^[a-z]/.test(arg) && !arg.includes("="))}: ${said.trim() || `exit code ${code}`}`));
    });
  });
}
