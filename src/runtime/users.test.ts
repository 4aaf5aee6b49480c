import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { resolveUser } from "./users.ts";

const passwd = `root:x:0:0:root:/root:/bin/sh
# a comment
daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin

www-data:x:33:33:www:/var/www:/bin/sh
1234:x:777:778:a user whose name is a number:/home/n:/bin/sh
broken
`;
const group = `root:x:0:
daemon:x:1:
adm:x:4:www-data,root
www-data:x:33:
staff:x:50:www-data
`;

describe("resolveUser", () => {
  const resolve = (spec: string, groupAdd: string[] = []) => resolveUser(spec, passwd, group, groupAdd);

  it("takes root when nothing is asked for, with the groups that root is in", () => {
    expect(resolve("")).toEqual({ uid: 0, gid: 0, additionalGids: [0, 4], home: "/root" });
    expect(resolve("root")).toEqual(resolve(""));
    expect(resolve("0")).toEqual(resolve(""));
  });

  it("takes a name with its group, home and memberships", () => {
    expect(resolve("www-data")).toEqual({ uid: 33, gid: 33, additionalGids: [33, 4, 50], home: "/var/www" });
    expect(resolve("33")).toEqual(resolve("www-data"));
  });

  it("takes a uid that is in no file", () => {
    expect(resolve("4000")).toEqual({ uid: 4000, gid: 0, additionalGids: [0], home: "/" });
    expect(resolveUser("4000:5000", "", "")).toEqual({ uid: 4000, gid: 5000, additionalGids: [5000], home: "/" });
    expect(resolveUser("", "", "")).toEqual({ uid: 0, gid: 0, additionalGids: [0], home: "/" });
  });

  it("replaces the memberships by a group that is asked for", () => {
    expect(resolve("www-data:staff")).toEqual({ uid: 33, gid: 50, additionalGids: [50], home: "/var/www" });
    expect(resolve("33:50")).toEqual(resolve("www-data:staff"));
    expect(resolve("www-data:9999")).toEqual({ uid: 33, gid: 9999, additionalGids: [9999], home: "/var/www" });
    expect(resolve(":staff")).toEqual({ uid: 0, gid: 50, additionalGids: [50], home: "/root" });
  });

  it("prefers a name that looks like a number", () => expect(resolve("1234").uid).toBe(777));

  it("adds --group-add by name and number, the primary group first", () => {
    expect(resolve("daemon", ["staff", "123"])).toEqual({ uid: 1, gid: 1, additionalGids: [1, 50, 123], home: "/usr/sbin" });
    expect(resolve("daemon", ["1"]).additionalGids).toEqual([1]);
  });

  it("says what it cannot find in Docker's words", () => {
    expect(() => resolve("nobody-here")).toThrow("unable to find user nobody-here: no matching entries in passwd file");
    expect(() => resolve("root:none")).toThrow("unable to find group none: no matching entries in group file");
    expect(() => resolve("", ["none"])).toThrow("Unable to find group none");
    expect(() => resolve("2147483648")).toThrow("uids and gids must be in range 0-2147483647");
    expect(() => resolve("-1")).toThrow("must be in range");
  });

  it("gives ids in range or an error for any files", () => {
    const text = fc.string({ unit: fc.constantFrom("a", "0", "9", ":", "\n", ",", "#", "-", " "), maxLength: 80 });
    fc.assert(
      fc.property(text, text, text, (spec, passwdText, groupText) => {
        let user: ReturnType<typeof resolveUser>;
        try {
          user = resolveUser(spec, passwdText, groupText);
        } catch (error) {
          expect(String(error)).toMatch(/unable to find|must be in range/);
          return;
        }
        for (const id of [user.uid, user.gid, ...user.additionalGids]) expect(Number.isInteger(id)).toBe(true);
      }),
    );
  });

  it("takes no id from a container's file that the kernel would read as no change", () => {
    for (const id of ["-1", "4294967295", "4294967296"]) {
      expect(() => resolveUser("evil", `evil:x:${id}:0::/:/x\n`, "")).toThrow("must be in range");
      expect(() => resolveUser("evil", `evil:x:7:${id}::/:/x\n`, "")).toThrow("must be in range");
      expect(() => resolveUser("evil", "evil:x:7:7::/:/x\n", `g:x:${id}:evil\n`)).toThrow("must be in range");
      expect(() => resolveUser("0:g", "", `g:x:${id}:\n`)).toThrow("must be in range");
    }
  });
});
