import { appendFile, mkdtemp, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { LogQuery } from "../mod.ts";
import { decodeLine, parseRfc3339Nano } from "./json-line.ts";
import { readLog } from "./read-log.ts";

let dir: string;
let path: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "wherry-logs-"));
  path = join(dir, "c-json.log");
});
afterEach(() => rm(dir, { recursive: true }));

const all: LogQuery = { stdout: true, stderr: true, follow: false, tail: undefined, sinceNs: undefined, untilNs: undefined };
const line = (log: string, stream = "stdout", time = "2024-05-01T10:00:00.5Z") => `${JSON.stringify({ log, stream, time })}\n`;

async function texts(query: Partial<LogQuery> = {}, ended?: Promise<unknown>): Promise<string[]> {
  const out: string[] = [];
  for await (const entries of readLog(path, { ...all, ...query }, ended)) for (const e of entries) out.push(Buffer.from(e.log).toString());
  return out;
}

test("a line is decoded as JSON.parse does, whatever text it holds", () => {
  fc.assert(
    fc.property(fc.string({ unit: "grapheme-ascii" }), fc.string({ unit: "binary" }), fc.constantFrom("stdout", "stderr"), (begin, any, stream) => {
      const log = begin + Buffer.from(any).toString();
      const text = JSON.stringify({ log, stream, time: "2024-05-01T10:00:00.123456789Z" });
      const bytes = Buffer.from(`xx${text}yy`);
      const entry = decodeLine(bytes, 2, bytes.length - 2);
      expect(Buffer.from(entry?.log ?? []).toString()).toBe(Buffer.from(log).toString());
      expect(entry?.stream).toBe(stream);
      expect(entry?.timeNs).toBe(1714557600123456789n);
    }),
  );
});

test("escapes in their \\u form, surrogate pairs among them", () => {
  const bytes = Buffer.from('{"log":"\\u003cb\\u003e \\ud83d\\ude00\\n","stream":"stdout","time":"2024-05-01T10:00:00Z"}');
  expect(Buffer.from(decodeLine(bytes, 0, bytes.length)?.log ?? []).toString()).toBe("<b> 😀\n");
});

test("bytes that are no text come back as they were", () => {
  for (const order of ['{"log":"LOG","stream":"stdout","time":"2024-05-01T10:00:00Z"}', '{"stream":"stdout","log":"LOG","time":"2024-05-01T10:00:00Z"}']) {
    const bytes = Buffer.from(order.replace("LOG", "é\\udcff\\u0001\\udc80😀\\n"));
    expect(Buffer.from(decodeLine(bytes, 0, bytes.length)?.log ?? [])).toEqual(
      Buffer.concat([Buffer.from("é"), Buffer.of(0xff, 1, 0x80), Buffer.from("😀\n")]),
    );
  }
});

test("other fields and another order are read too; what is no entry is not", () => {
  const bytes = Buffer.from('{"attrs":{"a":"b"},"time":"2024-05-01T10:00:00Z","stream":"stderr","log":"x"}');
  expect(decodeLine(bytes, 0, bytes.length)).toMatchObject({ stream: "stderr" });
  for (const torn of ["", "{", '{"log":"x', '{"log":1,"stream":"stdout","time":""}', "null"])
    expect(decodeLine(Buffer.from(torn), 0, torn.length)).toBeUndefined();
});

test("times", () => {
  expect(parseRfc3339Nano("1970-01-01T00:00:01.000000001Z")).toBe(1000000001n);
  expect(parseRfc3339Nano("1970-01-01T01:00:00+01:00")).toBe(0n);
  expect(parseRfc3339Nano("yesterday")).toBeUndefined();
});

test("no file: no entries", async () => {
  expect(await texts()).toEqual([]);
});

test("tail finds the last lines across rotated files and block borders", async () => {
  const lines = Array.from({ length: 5000 }, (_, i) => line(`${i}-${"x".repeat(i % 97)}\n`));
  await writeFile(`${path}.2`, lines.slice(0, 100).join(""));
  await writeFile(`${path}.1`, lines.slice(100, 4000).join(""));
  await writeFile(path, lines.slice(4000).join(""));
  const want = lines.map((l) => JSON.parse(l).log);
  expect(await texts()).toEqual(want);
  for (const n of [0, 1, 2, 999, 1000, 1001, 4899, 4900, 4901, 5000, 6000]) expect(await texts({ tail: n })).toEqual(n === 0 ? [] : want.slice(-n));
});

test("since, until and the stream select", async () => {
  await writeFile(path, [1, 2, 3, 4].map((s) => line(`${s}`, s % 2 ? "stdout" : "stderr", `1970-01-01T00:00:0${s}Z`)).join(""));
  expect(await texts({ sinceNs: 2_000_000_000n })).toEqual(["2", "3", "4"]);
  expect(await texts({ untilNs: 3_000_000_000n })).toEqual(["1", "2", "3"]);
  expect(await texts({ stdout: false })).toEqual(["2", "4"]);
});

test("follow goes on across rotations, through a line written in two halves, and ends with the writer", async () => {
  await writeFile(path, line("1"));
  let end!: () => void;
  const ended = new Promise<void>((resolve) => (end = resolve));
  const reading = texts({ follow: true }, ended);
  const pause = () => new Promise((resolve) => setTimeout(resolve, 20));
  await pause();
  await appendFile(path, line("2").slice(0, 12));
  await pause();
  await appendFile(path, line("2").slice(12) + line("3"));
  await rename(path, `${path}.1`);
  await writeFile(path, line("4"));
  await pause();
  // Twice before the reader looks.
  await appendFile(path, line("5"));
  await rename(`${path}.1`, `${path}.2`);
  await rename(path, `${path}.1`);
  await writeFile(path, line("6"));
  await rename(`${path}.2`, `${path}.3`);
  await rename(`${path}.1`, `${path}.2`);
  await rename(path, `${path}.1`);
  await writeFile(path, line("7"));
  await pause();
  await appendFile(path, line("8"));
  end();
  expect(await reading).toEqual(["1", "2", "3", "4", "5", "6", "7", "8"]);
});

test("follow ends when its reader leaves", async () => {
  await writeFile(path, line("1"));
  const leave = new AbortController();
  const out: unknown[] = [];
  for await (const entries of readLog(path, { ...all, follow: true }, new Promise(() => undefined), leave.signal)) {
    out.push(...entries);
    leave.abort();
  }
  expect(out).toHaveLength(1);
});

test("50 MB are read whole", async () => {
  const block = Array.from({ length: 1000 }, (_, i) => line(`line ${i} of a log that somebody writes without end, with "quotes" in it\n`)).join("");
  await writeFile(path, block.repeat(Math.ceil(50e6 / block.length)));
  let bytes = 0;
  for await (const entries of readLog(path, all, undefined)) for (const e of entries) bytes += e.log.length;
  expect(bytes).toBe(
    Math.ceil(50e6 / block.length) *
      Array.from({ length: 1000 }, (_, i) => `line ${i} of a log that somebody writes without end, with "quotes" in it\n`).join("").length,
  );
});
