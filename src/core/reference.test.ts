import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { familiarName, familiarString, formatReference, parseAnyReference, parseReference, repositoryOf, withDefaultTag } from "./reference.ts";

const hex = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

describe("names of images", () => {
  it.each([
    ["busybox", "docker.io/library/busybox", "busybox"],
    ["busybox:1.36", "docker.io/library/busybox:1.36", "busybox:1.36"],
    ["library/busybox", "docker.io/library/busybox", "busybox"],
    ["docker.io/busybox", "docker.io/library/busybox", "busybox"],
    ["index.docker.io/busybox:x", "docker.io/library/busybox:x", "busybox:x"],
    ["user/app", "docker.io/user/app", "user/app"],
    ["library/a/b", "docker.io/library/a/b", "library/a/b"],
    ["localhost/app", "localhost/app", "localhost/app"],
    ["localhost:5000/a/b:v1", "localhost:5000/a/b:v1", "localhost:5000/a/b:v1"],
    ["127.0.0.1:5000/a", "127.0.0.1:5000/a", "127.0.0.1:5000/a"],
    ["[2001:db8::1]:5000/repo", "[2001:db8::1]:5000/repo", "[2001:db8::1]:5000/repo"],
    ["Uppercase/lower", "Uppercase/lower", "Uppercase/lower"],
    ["x/a--b__c.d", "docker.io/x/a--b__c.d", "x/a--b__c.d"],
    [`busybox@sha256:${hex}`, `docker.io/library/busybox@sha256:${hex}`, `busybox@sha256:${hex}`],
    [`busybox:1@sha256:${hex}`, `docker.io/library/busybox:1@sha256:${hex}`, `busybox:1@sha256:${hex}`],
    [hex.slice(1), `docker.io/library/${hex.slice(1)}`, hex.slice(1)],
  ])("%s is %s", (text, normalized, familiar) => {
    const reference = parseReference(text);
    expect(formatReference(reference)).toBe(normalized);
    expect(familiarString(reference)).toBe(familiar);
    expect(parseReference(normalized)).toEqual(reference);
  });

  it.each([
    ["", "invalid reference format"],
    ["Busybox", "invalid reference format: repository name (library/Busybox) must be lowercase"],
    ["user/App:v1", "invalid reference format: repository name (user/App) must be lowercase"],
    ["busybox:", "invalid reference format"],
    ["busybox:-x", "invalid reference format"],
    [`busybox:${"x".repeat(129)}`, "invalid reference format"],
    ["-a", "invalid reference format"],
    ["a..b", "invalid reference format"],
    ["a___b", "invalid reference format"],
    ["a//b", "invalid reference format"],
    ["/a", "invalid reference format"],
    ["a/", "invalid reference format"],
    ["a b", "invalid reference format"],
    ["busybox\n", "invalid reference format"],
    ["localhost:x/a", "invalid reference format"],
    ["http://host/a", "invalid reference format"],
    ["busybox@sha256:abc", "invalid reference format"],
    [`busybox@sha256:${hex.slice(2)}`, "invalid checksum digest length"],
    [`busybox@sha256:${hex.toUpperCase()}`, "invalid checksum digest format"],
    [`busybox@md5:${hex.slice(32)}`, "unsupported digest algorithm"],
    [hex, `invalid repository name (${hex}), cannot specify 64-byte hexadecimal strings`],
    [`a/${"b".repeat(254)}`, "repository name must not be more than 255 characters"],
    ["a".repeat(1_000_000), "invalid reference format"],
  ])("%s is refused in docker's words", (text, message) => {
    expect(() => parseReference(text)).toThrow(expect.objectContaining({ code: "invalid", message }));
  });

  it("means latest when nothing else is said", () => {
    expect(familiarString(withDefaultTag(parseReference("busybox")))).toBe("busybox:latest");
    expect(familiarString(withDefaultTag(parseReference("busybox:1")))).toBe("busybox:1");
    expect(familiarString(withDefaultTag(parseReference(`busybox@sha256:${hex}`)))).toBe(`busybox@sha256:${hex}`);
    expect(repositoryOf(parseReference("busybox:1"))).toBe("docker.io/library/busybox");
  });

  it("tells an image id from a name", () => {
    expect(parseAnyReference(hex)).toBe(`sha256:${hex}`);
    expect(parseAnyReference(`sha256:${hex}`)).toBe(`sha256:${hex}`);
    expect(parseAnyReference("sha256:abc")).toMatchObject({ path: "library/sha256", tag: "abc" });
  });

  const word = fc.stringMatching(/^[a-z0-9]{1,8}$/);
  const part = fc
    .tuple(word, fc.array(fc.tuple(fc.constantFrom(".", "_", "__", "-", "---"), word), { maxLength: 3 }))
    .map(([a, rest]) => a + rest.flat().join(""));
  const domain = fc.constantFrom("docker.io", "localhost", "localhost:5000", "r.example", "r-1.example:80", "[::1]:5", "A");
  const parts = fc.record({
    domain,
    path: fc.array(part, { minLength: 1, maxLength: 3 }).map((p) => p.join("/")),
    tag: fc.option(fc.stringMatching(/^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$/), { nil: undefined }),
    digest: fc.constantFrom(undefined, `sha256:${hex}` as const),
  });

  it("comes back from both of its forms", () => {
    fc.assert(
      fc.property(parts, (given) => {
        const reference = parseReference(
          `${given.domain}/${given.path}${given.tag === undefined ? "" : `:${given.tag}`}${given.digest === undefined ? "" : `@${given.digest}`}`,
        );
        expect(parseReference(formatReference(reference))).toEqual(reference);
        const familiar = familiarString(reference);
        // docker.io/a.b/c is a name whose short form means another: the grammar is docker's.
        if (!/^[^/]*\.[^/]*\//.test(familiar) || given.domain !== "docker.io") expect(parseReference(familiar)).toEqual(reference);
        expect(reference).toMatchObject({ tag: given.tag, digest: given.digest, domain: given.domain });
        expect(formatReference(reference).startsWith(`${given.domain}/`)).toBe(true);
        expect(familiarName(reference).endsWith(given.path)).toBe(true);
      }),
    );
  });

  it("either parses to something that prints and parses the same, or says invalid", () => {
    fc.assert(
      fc.property(fc.oneof(fc.string({ unit: "binary", maxLength: 40 }), fc.stringMatching(/^[aA0:@/._[\]-]{0,20}$/)), (text) => {
        try {
          const reference = parseReference(text);
          expect(parseReference(formatReference(reference))).toEqual(reference);
        } catch (error) {
          expect(error).toMatchObject({ code: "invalid" });
        }
      }),
    );
  });
});
