import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { parseCdiName, parseCdiSpec } from "./cdi.ts";

const spec = (change: object = {}) => ({ cdiVersion: "0.6.0", kind: "acme.com/gpu", devices: [{ name: "0", containerEdits: {} }], ...change });

describe("CDI", () => {
  it("reads what a device adds", () => {
    const edits = {
      env: ["A=b"],
      deviceNodes: [{ path: "/dev/x", hostPath: "/dev/y", permissions: "rw", fileMode: 0o600, uid: 1, gid: 2 }],
      mounts: [{ hostPath: "/lib/a", containerPath: "/lib/b", options: ["ro"] }],
      additionalGids: [44],
      hooks: [{ hookName: "createContainer", path: "/x", args: ["x", ""], env: ["A=b"], timeout: 5 }],
      intelRdt: { closID: "x" },
    };
    const read = parseCdiSpec(spec({ devices: [{ name: "0", containerEdits: edits }], containerEdits: { env: ["C=d"] } }), "f");
    expect(read.devices.get("0")).toEqual({
      env: edits.env,
      deviceNodes: edits.deviceNodes,
      mounts: [{ hostPath: "/lib/a", containerPath: "/lib/b", type: "bind", options: ["ro"] }],
      additionalGids: [44],
      hooks: [{ kind: "createContainer", path: "/x", args: ["x", ""], env: ["A=b"], timeout: 5 }],
      unsupported: ["intelRdt"],
    });
    expect(read.edits.env).toEqual(["C=d"]);
  });
  it("tells names from paths", () => {
    expect(parseCdiName("acme.com/gpu=0")).toEqual({ kind: "acme.com/gpu", name: "0" });
    for (const text of ["/dev/x", "acme.com/gpu", "gpu=0", "a/b/c=0", "/a/b=c", "acme.com/gpu="]) expect(parseCdiName(text)).toBeUndefined();
  });
  it.each([
    [spec({ cdiVersion: "9.0.0" }), 'cdiVersion "9.0.0" is not known'],
    [spec({ kind: "gpu" }), 'kind "gpu" is not vendor/class'],
    [spec({ devices: [] }), "it has no devices"],
    [spec({ devices: [{ name: "0" }, { name: "0" }] }), "the device 0 is there twice"],
    [spec({ containerEdits: { deviceNodes: [{ path: "dev" }] } }), 'deviceNodes.path "dev" is not absolute'],
    [spec({ containerEdits: { deviceNodes: [{ path: "/d", permissions: "x" }] } }), 'permissions "x" are not of r, w and m'],
    [spec({ containerEdits: { hooks: [{ hookName: "postStart", path: "/x" }] } }), '"postStart" is no name of a hook'],
    [spec({ containerEdits: { hooks: [{ hookName: "poststart", path: "x" }] } }), 'hooks.path "x" is not absolute'],
    [spec({ containerEdits: { env: ["=x"] } }), 'env "=x" is not NAME=VALUE'],
    [[], "the file is not an object"],
  ])("refuses %j", (value, why) => expect(() => parseCdiSpec(value, "/etc/cdi/f.json")).toThrow(`invalid CDI spec /etc/cdi/f.json: ${why}`));
  it("answers anything with a spec or a refusal", () => {
    const edits = fc.record({ env: fc.jsonValue(), deviceNodes: fc.jsonValue(), mounts: fc.jsonValue(), hooks: fc.jsonValue() });
    fc.assert(
      fc.property(
        fc.oneof(
          fc.jsonValue(),
          edits.map((containerEdits) => spec({ containerEdits })),
        ),
        (value) => {
          try {
            parseCdiSpec(value, "f");
          } catch (error) {
            expect(String(error)).toContain("invalid CDI spec f");
          }
        },
      ),
    );
  });
});
