import { expect, it } from "vitest";
import { refusedCall } from "./seccomp-log.ts";

const line = (rest: string) =>
  `5,1234,18955975468,-;audit: type=1326 audit(1795610684.610:15): auid=0 uid=0 gid=0 ses=7 pid=1341 comm="mount" exe="/bin/busybox" sig=0 ${rest} compat=0 ip=0x7efe code=0x50000\n`;

it("reads the call's name of its own session's lines only", () => {
  expect(refusedCall(line("arch=c000003e syscall=165"), "7")).toBe("mount");
  expect(refusedCall(line("arch=40000003 syscall=21"), "7")).toBe("mount");
  expect(refusedCall(line("arch=c000003e syscall=1073741989"), "7")).toBe("mount");
  expect(refusedCall(line("arch=c000003e syscall=999"), "7")).toBe("system call 999");
  expect(refusedCall(line("arch=c000003e syscall=165"), "70")).toBeUndefined();
  expect(refusedCall(line("arch=c000003e syscall=165").replace("1326", "1300"), "7")).toBeUndefined();
  expect(refusedCall("6,1,1,-;eth0: link up\n", "7")).toBeUndefined();
});
