/** Runs one command in a container, and says what it said. */
import { openEngine } from "wherry";

await using engine = await openEngine();
const { stdout, stderr, exitCode } = await engine.output("busybox", { command: ["sh", "-c", "cat; echo done >&2; exit 3"], input: "hello\n", network: "none" });
console.log({ stdout, stderr, exitCode });
