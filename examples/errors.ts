/** What goes wrong has a code. */
import { isEngineError, openEngine } from "wherry";

await using engine = await openEngine();
for (const attempt of [
  () => engine.container("nobody"),
  () => engine.run("no-such-image", { pull: "never" }),
  () => engine.run("busybox", { command: ["no-such-program"], network: "none" }),
  () => engine.run("busybox", { name: "a b" }),
  () => engine.run("busybox", { command: ["sleep", "1000"], network: "none", wait: "exited", signal: AbortSignal.timeout(300) }),
]) {
  try {
    await attempt();
    console.log("no error");
  } catch (error) {
    console.log(isEngineError(error) ? error.code : (error as Error).name);
  }
}
