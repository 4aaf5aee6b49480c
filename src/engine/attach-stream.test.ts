import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { connect, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { expect, it } from "vitest";
import { LateStream } from "./attach-stream.ts";

it("an attach without stdin reads what a monitor that has ended has sent, whatever is written to it", async () => {
  const directory = await mkdtemp(join(tmpdir(), "wherry-attach-"));
  const server = createServer((socket: Socket) => {
    socket.write("hi\n");
    socket.destroySoon();
  }).listen(join(directory, "s"));
  try {
    await once(server, "listening");
    const socket = connect({ path: join(directory, "s"), allowHalfOpen: true });
    await once(socket, "connect");
    await new Promise((resolve) => setTimeout(resolve, 50)); // the other end is closed by now
    const stream = new LateStream();
    stream.write("before");
    stream.connectTo(socket, false);
    stream.end("after");
    expect(await text(stream)).toBe("hi\n");
  } finally {
    server.close();
    await rm(directory, { recursive: true });
  }
});
