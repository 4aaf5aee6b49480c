import { describe, expect, it } from "vitest";
import { parseGitUrl } from "./git-source.ts";

describe("git URLs", () => {
  it.each([
    ["https://host/a.git", { url: "https://host/a.git", ref: "", directory: "" }],
    ["https://host/a.git#v1.2:sub/dir", { url: "https://host/a.git", ref: "v1.2", directory: "sub/dir" }],
    ["git@host:a/b.git#:sub", { url: "git@host:a/b.git", ref: "", directory: "sub" }],
    ["ssh://git@host/a.git#refs/heads/x", { url: "ssh://git@host/a.git", ref: "refs/heads/x", directory: "" }],
    ["github.com/a/b#main", { url: "https://github.com/a/b", ref: "main", directory: "" }],
  ])("%s", (text, expected) => expect(parseGitUrl(text)).toEqual(expected));

  it.each([
    "--upload-pack=touch /tmp/x",
    "ext::sh -c touch% /tmp/x",
    "file:///etc",
    "/etc",
    "https://-oProxyCommand=x/a.git",
    "ssh://-oProxyCommand=x/a.git",
    "-oProxyCommand=x@host:a.git",
    "git@-host:a.git",
    "git@host:-a.git",
    "https://host/a b.git",
    "https://host/a.git\n",
    "https://host/a.git#--upload-pack=x",
    "https://host/a.git#a..b",
    "https://host/a.git#a b",
    "https://host/a.git#x:../..",
    "https://host/a.git#x:a/../../b",
  ])("refuses %j", (text) => expect(() => parseGitUrl(text)).toThrow(/invalid git/));
});
