import { describe, expect, it } from "vitest";
import { PlanError } from "#linux/helper.ts";
import { NO_SLOT, type Step } from "#linux/plan.ts";
import { renderPlanError } from "./plan-error.ts";

const exec = (...argv: string[]): Step => ({ op: "exec", paths: [], argv, envp: [], where: "child", why: "becomes the program" });
const render = (step: Step, errno: string, action: "start" | "exec" = "start") => renderPlanError(new PlanError({ steps: [step] }, 0, 1, errno), { action });

describe("renderPlanError", () => {
  it("says in Docker's words that a program is missing or may not run, with Docker's exit codes", () => {
    const cases: [string, string, string, number][] = [
      ["foo", "ENOENT", 'exec: "foo": executable file not found in $PATH', 127],
      ["/foo", "ENOENT", 'exec: "/foo": stat /foo: no such file or directory', 127],
      ["/etc/passwd/x", "ENOTDIR", 'exec: "/etc/passwd/x": stat /etc/passwd/x: not a directory', 127],
      ["/etc/passwd", "EACCES", 'exec: "/etc/passwd": permission denied', 126],
      ["/etc", "EISDIR", 'exec: "/etc": is a directory', 126],
      ["/junk", "ENOEXEC", 'exec: "/junk": exec format error', 126],
    ];
    for (const [command, errno, text, exitCode] of cases) {
      const error = render(exec(command), errno);
      expect(error.message).toBe(`failed to create task for container: ${text}`);
      expect(error.details).toMatchObject({ errno, exitCode, op: "exec" });
      expect(error.code).toBe("invalid");
    }
    expect(render(exec("foo"), "ENOENT", "exec").message).toBe(
      'OCI runtime exec failed: exec failed: unable to start container process: exec: "foo": executable file not found in $PATH',
    );
  });

  it("names the working directory", () => {
    const error = render({ op: "chdir", path: "/no", where: "child", why: "the working directory" }, "ENOENT", "exec");
    expect(error.message).toContain('chdir to cwd ("/no") set in config.json failed: no such file or directory');
    expect(error.details.exitCode).toBe(127);
  });

  it("asks about a file mounted on a directory", () => {
    const error = render({ op: "move_mount", mnt: 9, dir: 0, path: "etc", where: "child", why: "appears as /etc" }, "ENOTDIR");
    expect(error.message).toContain("Are you trying to mount a directory onto a file (or vice-versa)?");
  });

  it("tells what was attempted, why, and the kernel's answer, with a hint", () => {
    const error = render(
      { op: "mount", source: "nfs", dir: 0, path: "mnt", fstype: "nfs9", flags: 1n, data: "", where: "child", why: "as the spec asks" },
      "ENODEV",
    );
    expect(error.message).toBe("failed to create task for container: mount nfs9 on <root>/mnt (ro): no such device (step 1: as the spec asks; mount(2))");
    expect(error.hint).toBe("this kernel does not know the filesystem nfs9");
    expect(error.code).toBe("kernel");
    expect(render({ op: "mkdir", dir: NO_SLOT, path: "/x", mode: 0, uid: 0, gid: 0, parents: 0, where: "host", why: "w" }, "ENOSPC")).toMatchObject({
      code: "storage",
    });
  });

  it("does not hide a helper that reports a step of another plan", () => {
    expect(renderPlanError(new PlanError({ steps: [] }, 3, 1, "EPERM"), { action: "start" }).code).toBe("internal");
  });
});
