/** A session: whatever is made in it goes with it, also when this process is killed. */
import { openEngine } from "wherry";

await using engine = await openEngine();
const mine = () => engine.containers({ all: true, filters: { label: ["io.wherry.session"] } });
{
  await using session = await engine.session();
  const volume = await session.volume();
  await session.network("example-session");
  await session.run("busybox", { command: ["sleep", "1000"], volumes: { "/data": volume.name }, network: "example-session" });
  console.log("containers in the session:", (await mine()).length);
}
console.log("containers behind it:", (await mine()).length);
