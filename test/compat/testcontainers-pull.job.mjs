// A program that tests with testcontainers, and whose image (argv[2]) lies in a registry that asks who is there.
import { GenericContainer } from "testcontainers";

const container = await new GenericContainer(process.argv[2]).withCommand(["sleep", "1000"]).start();
const { output } = await container.exec(["echo", "fetched"]);
await container.stop();
process.stdout.write(output, () => process.exit(0));
