import { describe, expect, it } from "vitest";
import { contextPlace } from "./build-context.ts";

describe("where a build context lies", () => {
  it.each([
    ["docker-image://busybox:1.36", { kind: "image", reference: "busybox:1.36" }],
    ["https://example.com/context.tar.gz", { kind: "url", url: "https://example.com/context.tar.gz" }],
    ["HTTP://example.com/x", { kind: "url", url: "HTTP://example.com/x" }],
    ["git://example.com/x#main:dir", { kind: "url", url: "git://example.com/x#main:dir" }],
    ["ssh://git@example.com/x", { kind: "url", url: "ssh://git@example.com/x" }],
    ["git@example.com:who/what.git", { kind: "url", url: "git@example.com:who/what.git" }],
    ["github.com/who/what", { kind: "url", url: "github.com/who/what" }],
    [".", { kind: "path" }],
    ["-", { kind: "path" }],
    ["../a:b", { kind: "path" }],
    ["./github.com/x", { kind: "path" }],
    ["docker-image://", { kind: "unknown", scheme: "docker-image" }],
    ["oci-layout://x", { kind: "unknown", scheme: "oci-layout" }],
    ["file:///etc", { kind: "unknown", scheme: "file" }],
  ])("%s", (text, place) => expect(contextPlace(text)).toEqual(place));
});
