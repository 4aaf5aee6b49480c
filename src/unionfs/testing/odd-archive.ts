/** Random archives whose members collide, escape, replace and hide one another. @module */
import fc from "fast-check";
import { type Member, tar } from "./tar-builder.ts";

const name = fc.constantFrom(
  "a",
  "./a",
  "a/",
  "a/b",
  "/a/b",
  "a/b/c",
  "b",
  "b/.wh.a",
  "a/.wh..wh..opq",
  ".wh.b",
  "l/x",
  "\xff\xfe",
  `${"n".repeat(90)}/m`,
  "..",
  "a/../b",
  "./",
);

const member: fc.Arbitrary<Member> = fc
  .record(
    {
      name,
      typeflag: fc.constantFrom("0", "0", "0", "\0", "1", "2", "5", "6", "7", "D", "3"),
      linkname: fc.constantFrom("a", "b", "a/b", "../x", "/a", "."),
      data: fc.uint8Array({ maxLength: 1500 }),
      magic: fc.constantFrom("ustar\x0000", "ustar  \0", ""),
      paddingByte: fc.nat(255),
      base256: fc.boolean(),
      mtime: fc.nat(1 << 30),
      mode: fc.nat(0o7777),
      major: fc.nat(3),
    },
    { requiredKeys: ["name"] },
  )
  .map((given) => (["1", "2", "5", "6", "3"].includes(given.typeflag ?? "0") ? { ...given, data: "" } : given));

/** A tar of up to eight members, with anything behind its end. */
export const oddArchive: fc.Arbitrary<Buffer> = fc
  .tuple(fc.array(member, { maxLength: 8 }), fc.uint8Array({ maxLength: 700 }))
  .map(([members, behind]) => Buffer.concat([tar(...members), behind]));
