import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { expect, test } from "vitest";
import { DbusConnection } from "./connection.ts";
import { type DbusValue, DbusReader, DbusWriter, decodeMessage, encodeMessage, MESSAGE, splitSignature, variant } from "./marshal.ts";

test("signatures are split into complete types", () => {
  expect(splitSignature("ssa(sv)a(sa(sv))u")).toEqual(["s", "s", "a(sv)", "a(sa(sv))", "u"]);
  for (const bad of ["a", "(s", "Z", "a{s"]) expect(() => splitSignature(bad)).toThrow("D-Bus");
});

test("a call, byte by byte", () => {
  const bytes = encodeMessage({
    type: MESSAGE.CALL,
    serial: 2,
    path: "/a",
    interface: "b.c",
    member: "D",
    destination: "e.f",
    signature: "su",
    body: ["xyz", 5],
  });
  expect(bytes.toString("hex")).toBe(
    "6c010001" + // little endian, call, no flags, protocol 1
      "0c000000" + // length of the body
      "02000000" + // serial
      "48000000" + // length of the fields
      "01016f00" +
      "02000000" +
      "2f610000" +
      "00000000" +
      "02017300" +
      "03000000" +
      "622e6300" +
      "00000000" +
      "03017300" +
      "01000000" +
      "44000000" +
      "00000000" +
      "06017300" +
      "03000000" +
      "652e6600" +
      "00000000" +
      "08016700" +
      "02737500" + // ends the fields
      "0300000078797a00" +
      "05000000",
  );
});

test("what is written is read again", () => {
  const signature = "a(sv)";
  const value: DbusValue = [
    ["Delegate", variant("b", true)],
    ["PIDs", variant("au", [1, 4_000_000_000])],
    ["CPUWeight", variant("t", 2n ** 64n - 1n)],
    [
      "Nested",
      variant("a(yay)", [
        [1, [2, 3]],
        [4, []],
      ]),
    ],
  ];
  const writer = new DbusWriter();
  writer.value("y", 7); // misaligned on purpose
  writer.value(signature, value);
  const reader = new DbusReader(writer.done());
  expect(reader.value("y")).toBe(7);
  expect(reader.value(signature)).toEqual(value);
});

test("messages grow past their first buffer wherever that ends", () => {
  for (let length = 200; length < 280; length++) {
    const body = ["x".repeat(length), [["k", variant("t", 5n)]], 7, true];
    const bytes = encodeMessage({ type: MESSAGE.CALL, serial: 1, path: "/x", member: "M", signature: "sa(sv)ub", body });
    expect(decodeMessage(bytes)?.message.body).toEqual(body);
  }
});

test("hostile bytes end in an error, never in a crash", () => {
  const good = encodeMessage({ type: MESSAGE.SIGNAL, serial: 1, path: "/x", interface: "i.i", member: "M", signature: "uos", body: [1, "/j", "done"] });
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.nat(good.length - 1), fc.nat(255)), { minLength: 1, maxLength: 6 }), (changes) => {
      const bytes = Buffer.from(good);
      for (const [at, byte] of changes) bytes[at] = byte;
      try {
        decodeMessage(bytes);
      } catch (error) {
        expect((error as Error).message).toMatch(/^D-Bus: /);
      }
    }),
    { numRuns: 2000 },
  );
});

test("a conversation: authentication, an answer in pieces, a refusal, a signal", async () => {
  const folder = mkdtempSync(join(tmpdir(), "wherry-dbus-"));
  const path = join(folder, "s");
  const server = createServer((socket) => {
    let authenticated = false;
    socket.on("data", (data) => {
      if (!authenticated) {
        authenticated = true;
        // sd-bus forgets a call that it reads together with BEGIN: so that has to be there before the answer is.
        expect(data.toString("latin1")).toMatch(/^\0AUTH EXTERNAL [0-9a-f]+\r\nBEGIN\r\n$/);
        socket.write("OK 0123456789");
        const early = encodeMessage({ type: MESSAGE.SIGNAL, serial: 7, path: "/p", interface: "i", member: "Early", signature: "u", body: [2] });
        setTimeout(() => socket.write(Buffer.concat([Buffer.from("abcdef\r\n"), early])), 5);
        return;
      }
      const { message } = decodeMessage(data)!;
      const reply = { serial: 9, replySerial: message.serial, signature: "s" };
      if (message.member === "Refuse") {
        socket.write(encodeMessage({ ...reply, type: MESSAGE.ERROR, error: "no.Such", body: ["gone"] }));
        return;
      }
      socket.write(encodeMessage({ type: MESSAGE.SIGNAL, serial: 8, path: "/p", interface: "i", member: "Sig", signature: "u", body: [3] }));
      const answer = encodeMessage({ ...reply, type: MESSAGE.RETURN, body: [`re: ${String(message.body[0])}`] });
      socket.write(answer.subarray(0, 20));
      setTimeout(() => socket.write(answer.subarray(20)), 5);
    });
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  try {
    const signals: unknown[] = [];
    const bus = await DbusConnection.open(path, ({ member, body }) => signals.push([member, ...body]));
    const call = { destination: "d.d", path: "/p", interface: "i.i" };
    expect(await bus.call({ ...call, member: "Ask", signature: "s", body: ["hello"] })).toEqual(["re: hello"]);
    expect(signals).toEqual([
      ["Early", 2],
      ["Sig", 3],
    ]);
    await expect(bus.call({ ...call, member: "Refuse" })).rejects.toMatchObject({ dbusName: "no.Such", message: "gone" });
    bus.close();
    await expect(DbusConnection.open(join(folder, "absent"), () => undefined)).rejects.toMatchObject({ code: "unavailable" });
  } finally {
    server.close();
    rmSync(folder, { recursive: true });
  }
});
