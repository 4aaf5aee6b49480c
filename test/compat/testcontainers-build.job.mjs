// A program that builds with testcontainers and runs what it has built: prints what the image says.
import { GenericContainer } from "testcontainers";

const built = await GenericContainer.fromDockerfile(process.argv[2])
  .withBuildArgs({ WHO: "testcontainers" })
  .build("by-testcontainers:latest", { deleteOnExit: false });
const container = await built.withCommand(["sleep", "60"]).start();
const { output } = await container.exec(["cat", "/who"]);
await container.stop();
process.stdout.write(output.trim(), () => process.exit(0));
