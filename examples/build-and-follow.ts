/** Builds an image from TypeScript, follows its log, and stops when it has seen enough. */
import { image, openEngine } from "wherry";

await using engine = await openEngine();
await using session = await engine.session();
await image("busybox").env({ WHO: "world" }).cmd(["sh", "-c", "i=0; while :; do echo hello $WHO $i; i=$((i+1)); sleep 0.1; done"]).build(session, { tags: ["example-hello"] });

const container = await session.run("example-hello", { network: "none" });
const enough = new AbortController();
try {
  for await (const { text } of container.logs({ follow: true, signal: enough.signal })) {
    console.log(text);
    if (text.endsWith(" 2")) enough.abort(new Error("seen enough"));
  }
} catch (error) {
  console.log("ended by:", (error as Error).message);
}
