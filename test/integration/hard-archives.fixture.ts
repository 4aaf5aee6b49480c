/** Layers that are hard to unpack, byte by byte, each with what it lies on. Names are bytes (latin1). @module */
import { header, member, pax, paxRecord, tar, withChecksum } from "#unionfs/testing/tar-builder.ts";

export interface HardArchive {
  readonly what: string;
  readonly layer: Buffer;
  /** The layer below. */
  readonly lower?: Buffer;
  /** What the layer's whiteouts take from the layer below: removed before the reference is unpacked. */
  readonly gone?: readonly string[];
  /** Refused, with these words. Otherwise the tree has to be GNU tar's. */
  readonly refused?: RegExp;
}

const directory = (name: string, mode = 0o755) => member({ name: `${name}/`, typeflag: "5", mode, mtime: 1_600_000_000 });
const file = (name: string, data: string, mode = 0o644) => member({ name, data, mode, mtime: 1_600_000_001 });
const link = (name: string, linkname: string) => member({ name, typeflag: "2", linkname, mode: 0o777, mtime: 1_600_000_002 });
const hard = (name: string, linkname: string) => member({ name, typeflag: "1", linkname, mtime: 1_600_000_001 });

/** A number in GNU's base 256, at `offset` of a header. */
function base256(block: Buffer, offset: number, length: number, value: bigint): Buffer {
  for (let i = length - 1, rest = value; i > 0; i--, rest >>= 8n) block[offset + i] = Number(rest & 0xffn);
  block[offset] = 0x80;
  return withChecksum(block);
}

const data = Buffer.concat([Buffer.alloc(4096, "a"), Buffer.alloc(4096, "z")]);
const fiveGigabytes = 5 * 2 ** 30;
const far = fiveGigabytes - 4096;

/** GNU's old form: four runs in the header, more in blocks behind it. */
function oldSparse(name: string, size: number, runs: readonly (readonly [number, number])[], content: Buffer): Buffer {
  const put = (block: Buffer, at: number, [offset, length]: readonly [number, number]) => {
    if (offset > 8 ** 11 - 1) {
      block.writeUIntBE(offset, at + 6, 6);
      block[at] = 0x80;
    } else block.write(offset.toString(8).padStart(11, "0"), at, "latin1");
    block.write(length.toString(8).padStart(11, "0"), at + 12, "latin1");
  };
  const first = header({ name, typeflag: "S", size: content.length, magic: "ustar  \0", mtime: 1_600_000_003 });
  for (const [i, run] of runs.slice(0, 4).entries()) put(first, 386 + 24 * i, run);
  const rest = runs.slice(4);
  first[482] = rest.length > 0 ? 1 : 0;
  if (size > 8 ** 11 - 1) base256(first, 483, 12, BigInt(size));
  else first.write(size.toString(8).padStart(11, "0"), 483, "latin1");
  const more: Buffer[] = [];
  for (let at = 0; at < rest.length; at += 21) {
    const block = Buffer.alloc(512);
    for (const [i, run] of rest.slice(at, at + 21).entries()) put(block, 24 * i, run);
    block[504] = at + 21 < rest.length ? 1 : 0;
    more.push(block);
  }
  return Buffer.concat([withChecksum(first), ...more, content]);
}

const extended = (...records: (readonly [string, string])[]) => member({ name: "h", typeflag: "x", data: records.map(([k, v]) => paxRecord(k, v)).join("") });
const longName = (name: string, typeflag: "L" | "K" = "L") => member({ name: "././@LongLink", typeflag, data: `${name}\0`, magic: "ustar  \0" });
const deep = (length: number) => {
  const parts: string[] = [];
  let left = length;
  for (; left > 250; left -= 201) parts.push("d".repeat(200));
  return `${parts.join("/")}/${"e".repeat(left)}`;
};

const etc = tar(directory("etc"), file("etc/motd", "below"), file("etc/kept", "kept"), directory("etc/sub"), file("etc/sub/a", "a"), file("etc/sub/b", "b"));
/** version 2, effective, permitted: chown. */
const capability = Buffer.from("0100000201000000000000000000000000000000", "hex").toString("latin1");

export const hardArchives: readonly HardArchive[] = [
  { what: "v7 headers", layer: tar(member({ name: "v7", data: "x", magic: "", mtime: 7 }), member({ name: "dir/", data: "", magic: "", mode: 0o700 })) },
  { what: "ustar with a prefix", layer: tar(directory("pre"), directory("pre/fix"), member({ name: "file", prefix: "pre/fix", data: "x", mtime: 9 })) },
  {
    what: "GNU long names and links",
    layer: tar(
      directory("n".repeat(150)),
      longName(`${"n".repeat(150)}/${"m".repeat(200)}`),
      file("short", "1"),
      longName("t".repeat(300), "K"),
      link("l", "t"),
    ),
  },
  {
    what: "pax: names, times to the nanosecond, owners, a size",
    layer: tar(
      extended(["path", `caf\xc3\xa9-${"x".repeat(120)}`], ["mtime", "1600000000.123456789"], ["uid", "4000000"], ["gid", "5000000"], ["size", "5"]),
      member({ name: "short", data: "12345", size: 0 }),
    ),
  },
  {
    what: "pax: a global header, and one that changes it",
    layer: tar(pax({ uid: "4321", comment: "x" }, "g"), file("a", "1"), pax({ uid: "77" }, "g"), file("b", "2")),
  },
  {
    what: "times before 1970 and after 2038",
    layer: tar(extended(["mtime", "-1.5"]), file("old", "o"), extended(["mtime", "4294967299.5"]), file("new", "n")),
  },
  {
    what: "more than 4 GB, sparse: GNU's old form",
    layer: tar(
      oldSparse(
        "big",
        fiveGigabytes,
        [
          [0, 4096],
          [far, 4096],
        ],
        data,
      ),
    ),
  },
  {
    what: "GNU's old form with extension blocks",
    layer: tar(
      oldSparse(
        "holes",
        29 * 8192 + 512,
        Array.from({ length: 30 }, (_, i) => [i * 8192, 512] as const),
        Buffer.alloc(30 * 512, "h"),
      ),
    ),
  },
  {
    what: "more than 8 GB, sparse: the size in base 256",
    layer: tar(
      oldSparse(
        "huge",
        9 * 2 ** 30,
        [
          [0, 4096],
          [9 * 2 ** 30 - 4096, 4096],
        ],
        data,
      ),
    ),
  },
  {
    what: "sparse: pax 0.0",
    layer: tar(
      extended(
        ["GNU.sparse.size", String(fiveGigabytes)],
        ["GNU.sparse.numblocks", "2"],
        ["GNU.sparse.offset", "0"],
        ["GNU.sparse.numbytes", "4096"],
        ["GNU.sparse.offset", String(far)],
        ["GNU.sparse.numbytes", "4096"],
      ),
      member({ name: "s00", data, mtime: 5 }),
    ),
  },
  {
    what: "sparse: pax 0.1",
    layer: tar(
      pax({ "GNU.sparse.size": String(fiveGigabytes), "GNU.sparse.numblocks": "2", "GNU.sparse.name": "s01", "GNU.sparse.map": `0,4096,${far},4096` }),
      member({ name: "GNUSparseFile.1/s01", data, mtime: 5 }),
    ),
  },
  {
    what: "sparse: pax 1.0",
    layer: tar(
      pax({ "GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "s10", "GNU.sparse.realsize": String(fiveGigabytes) }),
      member({ name: "GNUSparseFile.1/s10", data: Buffer.concat([Buffer.from(`2\n0\n4096\n${far}\n4096\n`.padEnd(512, "\0")), data]), mtime: 5 }),
    ),
  },
  {
    what: "a sparse file of holes only",
    layer: tar(
      pax({ "GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "empty", "GNU.sparse.realsize": "1048576" }),
      member({ name: "x", data: Buffer.from("1\n1048576\n0\n".padEnd(512, "\0")), mtime: 5 }),
    ),
  },
  { what: "a small size in base 256", layer: tar(member({ name: "f", data: "abc", base256: true, mtime: 5 })) },
  { what: "a hard link before its target", layer: tar(hard("early", "late"), file("late", "x")), refused: /hard link to "late", which is not in this layer/ },
  {
    what: "hard links, also of links, and across directories",
    layer: tar(directory("a"), directory("b"), file("a/f", "x", 0o4755), hard("b/g", "a/f"), hard("h", "b/g"), link("s", "a/f"), hard("b/t", "s")),
  },
  {
    what: "a whiteout of a directory that the same layer makes again",
    lower: etc,
    gone: ["etc/sub"],
    layer: tar(directory("etc"), member({ name: "etc/.wh.sub" }), directory("etc/sub", 0o711), file("etc/sub/c", "new")),
  },
  {
    what: "the same with the whiteout last",
    lower: etc,
    gone: ["etc/sub"],
    layer: tar(directory("etc"), directory("etc/sub", 0o711), file("etc/sub/c", "new"), member({ name: "etc/.wh.sub" })),
  },
  {
    what: "a whiteout of a file, and of what is not there",
    lower: etc,
    gone: ["etc/motd"],
    layer: tar(directory("etc"), member({ name: "etc/.wh.motd" }), member({ name: "etc/.wh.nothing" })),
  },
  {
    what: "opaque before the content",
    lower: etc,
    gone: ["etc/motd", "etc/kept", "etc/sub"],
    layer: tar(directory("etc"), member({ name: "etc/.wh..wh..opq" }), file("etc/new", "n")),
  },
  {
    what: "opaque after the content",
    lower: etc,
    gone: ["etc/motd", "etc/kept", "etc/sub"],
    layer: tar(directory("etc"), file("etc/new", "n"), directory("etc/sub"), file("etc/sub/c", "c"), member({ name: "etc/.wh..wh..opq" })),
  },
  {
    what: "a file in a directory's place, and the other way round",
    lower: etc,
    gone: ["etc/sub", "etc/motd"],
    layer: tar(directory("etc"), file("etc/sub", "a file"), directory("etc/motd"), file("etc/motd/x", "x")),
  },
  { what: "a link in a directory's place", lower: etc, gone: ["etc/sub"], layer: tar(directory("etc"), link("etc/sub", "motd")) },
  { what: "a name of 4,095 bytes", layer: tar(longName(deep(4095)), member({ name: "x", data: "deep", mtime: 5, magic: "ustar  \0" })) },
  {
    what: "a name of 4,095 bytes on a layer below",
    lower: etc,
    layer: tar(longName(deep(4095)), member({ name: "x", data: "deep", mtime: 5, magic: "ustar  \0" })),
  },
  { what: "a name of 4,096 bytes", layer: tar(longName(deep(4096)), file("x", "deep")), refused: /4096 bytes|4097 bytes/ },
  { what: "a component of 256 bytes", layer: tar(longName("c".repeat(256)), file("x", "")), refused: /at most 255/ },
  {
    what: "names that are not UTF-8, or odd",
    layer: tar(file("\xff\xfe-\x80", "bytes"), file("new\nline", "n"), file("tab\t\\ \"'", "t"), file(" ", "blank"), link("\xe9", "\xff"), file("-rf", "dash")),
  },
  {
    what: "owner and group 2^31",
    layer: tar(
      base256(base256(header({ name: "f", data: "", mtime: 5 }), 108, 8, 2n ** 31n), 116, 8, 2n ** 31n),
      extended(["uid", String(2 ** 31)], ["gid", String(2 ** 32 - 2)]),
      file("g", "g"),
    ),
  },
  { what: "owner 2^32-1, which is none", layer: tar(extended(["uid", String(2 ** 32 - 1)]), file("g", "g")), refused: /invalid owner/ },
  {
    what: "the same name twice, and three times",
    layer: tar(file("f", "first", 0o600), file("g", "g"), file("f", "second"), directory("d", 0o700), directory("d", 0o711), file("f", "third", 0o755)),
  },
  {
    what: "the same name as file, directory and link",
    layer: tar(file("x", "file"), file("y", "kept"), directory("d"), file("d/in", "in"), link("l", "y"), file("l", "no link")),
  },
  { what: "a file replaced that has a second name", layer: tar(file("f", "one"), hard("g", "f"), file("f", "two")) },
  {
    what: "entries below a link of the same layer",
    layer: tar(directory("usr"), directory("usr/lib"), link("lib", "usr/lib"), file("lib/x", "through"), directory("lib/sub"), file("lib/sub/y", "deeper")),
  },
  { what: "entries below a link that leads out", layer: tar(link("out", "/tmp"), file("out/x", "x")), refused: /leads out of the layer/ },
  { what: "entries below a link above the root", layer: tar(link("up", "../.."), file("up/x", "x")), refused: /leads out of the layer/ },
  { what: "entries below a file", layer: tar(file("f", "x"), file("f/g", "y")), refused: /not a directory/ },
  {
    what: "devices and a fifo",
    layer: tar(
      member({ name: "null", typeflag: "3", major: 1, minor: 3, mode: 0o666, mtime: 5 }),
      member({ name: "disk", typeflag: "4", major: 259, minor: 70_000, mode: 0o660, mtime: 5 }),
      member({ name: "pipe", typeflag: "6", mode: 0o600, mtime: 5 }),
    ),
  },
  {
    what: "extended attributes",
    layer: tar(
      pax({ "SCHILY.xattr.user.note": "a\0b=c", "SCHILY.xattr.security.capability": capability, "SCHILY.xattr.trusted.mine": "t" }),
      file("f", "x", 0o755),
      pax({ "SCHILY.xattr.user.dir": "1", "SCHILY.xattr.trusted.dir": "2" }),
      directory("d"),
      pax({ "SCHILY.xattr.trusted.link": "l" }),
      link("l", "f"),
    ),
  },
  {
    what: "overlay's own attributes, which must not reach the kernel",
    lower: etc,
    layer: tar(
      pax({ "SCHILY.xattr.trusted.overlay.opaque": "y", "SCHILY.xattr.trusted.overlay.redirect": "/etc/sub", "SCHILY.xattr.user.overlay.opaque": "y" }),
      directory("etc"),
    ),
  },
  { what: "modes with all bits", layer: tar(file("f", "", 0o7777), directory("d", 0o7777), directory("none", 0), file("g", "", 0)) },
  { what: "a layer with nothing in it", layer: tar() },
  { what: "parents that are not listed, and children before parents", layer: tar(file("a/b/c", "deep"), directory("a/b", 0o700), directory("a", 0o711)) },
  {
    what: "a leading ./, doubled slashes, and the root itself",
    layer: tar(member({ name: "./", typeflag: "5", mtime: 5 }), directory("./d"), file(".//d/./f", "x")),
  },
  { what: "..", layer: tar(file("d/../../x", "x")), refused: /"\.\." in its name/ },
  { what: "an unknown type", layer: tar(member({ name: "odd", typeflag: "Z", data: "x" })), refused: /unknown type/ },
  { what: "a wrong checksum", layer: Buffer.concat([Buffer.from(file("f", "x")).fill("g", 0, 1), tar()]), refused: /checksum/ },
];
