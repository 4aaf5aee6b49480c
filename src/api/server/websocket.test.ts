import fc from "fast-check";
import { expect, test } from "vitest";
import { withoutHeaders } from "./websocket.ts";

const frame = (data: Buffer): Buffer => {
  const header = Buffer.alloc(8);
  header[0] = 1;
  header.writeUInt32BE(data.length, 4);
  return Buffer.concat([header, data]);
};

test("frames lose their headers however the bytes arrive", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.uint8Array({ maxLength: 20 }), { maxLength: 8 }), fc.integer({ min: 1, max: 13 }), async (payloads, size) => {
      const bytes = Buffer.concat(payloads.map((payload) => frame(Buffer.from(payload))));
      const bare = withoutHeaders();
      for (let at = 0; at < bytes.length; at += size) bare.write(bytes.subarray(at, at + size));
      bare.end();
      const out: Buffer[] = [];
      for await (const chunk of bare as AsyncIterable<Buffer>) out.push(chunk);
      expect(Buffer.concat(out)).toEqual(Buffer.concat(payloads));
    }),
  );
});
