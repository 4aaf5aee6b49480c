import { once } from "node:events";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, expect, test } from "vitest";
import { giveBack } from "#core/pieces.ts";
import { defaultRegistryConfig } from "./config.ts";
import { Network, piecesOf, readSmall } from "./network.ts";

const body = Buffer.alloc(24 * 1024 * 1024, "0123456789abcdef");
let server: Server;
let url: URL;

beforeAll(async () => {
  server = createServer((request, response) => {
    if (request.url === "/drops") {
      const drop = (at: number) => (at === 20 ? response.end() : response.write(`${at};`, () => setTimeout(drop, 1, at + 1)));
      return void drop(0);
    }
    if (request.url === "/cut") {
      response.writeHead(200, { "content-length": body.length });
      return void response.write(body.subarray(0, 1_000_000), () => response.destroy());
    }
    if (request.url === "/chunks") {
      for (let at = 0; at < body.length; at += 100_000) response.write(body.subarray(at, at + 100_000));
      return void response.end();
    }
    response.end(body);
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  url = new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
});
afterAll(() => void server.close());

/** All bytes, as who gives back each memory when another one comes; and how many memories that were. */
async function read(path: string): Promise<{ readonly bytes: Buffer; readonly memories: number }> {
  await using network = new Network(defaultRegistryConfig());
  const answer = await network.send(new URL(path, url), { method: "GET" });
  const copies: Buffer[] = [];
  const memories = new Set<ArrayBufferLike>();
  let last: Buffer | undefined;
  for await (const piece of piecesOf(answer)) {
    copies.push(Buffer.from(piece));
    memories.add(piece.buffer);
    if (last !== undefined && last.buffer !== piece.buffer) giveBack(last);
    last = piece;
  }
  return { bytes: Buffer.concat(copies), memories: memories.size };
}

test("a large answer arrives in memory that is used again", async () => {
  const { bytes, memories } = await read("/");
  expect(bytes.equals(body)).toBe(true);
  expect(memories).toBeLessThan(100); // 64 KiB at a time would be 384, and so many memories
});

test("an answer in many parts is whole", async () => {
  expect((await read("/chunks")).bytes.equals(body)).toBe(true);
});

test("a few bytes at a time hold no large memory", async () => {
  await using network = new Network(defaultRegistryConfig());
  const answer = await network.send(new URL("/drops", url), { method: "GET" });
  const pieces: Buffer[] = [];
  for await (const piece of piecesOf(answer)) pieces.push(piece);
  expect(Buffer.concat(pieces).toString()).toBe(Array.from({ length: 20 }, (_, i) => `${i};`).join(""));
  for (const piece of pieces) expect(piece.buffer.byteLength).toBeLessThan(64 * 1024);
});

test("an answer that is cut off ends with an error, behind what has come", async () => {
  await using network = new Network(defaultRegistryConfig());
  const answer = await network.send(new URL("/cut", url), { method: "GET" });
  let bytes = 0;
  await expect(
    (async () => {
      for await (const piece of piecesOf(answer)) bytes += piece.length;
    })(),
  ).rejects.toThrow();
  expect(bytes).toBe(1_000_000);
});

test("who does not want the rest ends the connection, and an answer that must be small is", async () => {
  await using network = new Network(defaultRegistryConfig());
  const answer = await network.send(url, { method: "GET" });
  for await (const piece of piecesOf(answer)) {
    expect(piece.length).toBeGreaterThan(0);
    break;
  }
  answer.body.destroy();
  expect(answer.body.destroyed).toBe(true);
  await expect(readSmall(await network.send(url, { method: "GET" }), 1_000_000)).rejects.toMatchObject({ code: "corrupt" });
  expect((await readSmall(await network.send(url, { method: "GET" }), body.length)).equals(body)).toBe(true);
});
