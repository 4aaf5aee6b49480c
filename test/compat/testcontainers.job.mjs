// A program that tests with testcontainers: prints what it sees as JSON. LEAVE: it makes a container and ends without removing it.
import { GenericContainer, Network, Wait } from "testcontainers";

if (process.env.LEAVE) {
  await new GenericContainer("busybox").withCommand(["sleep", "1000"]).withLabels({ left: "behind" }).start();
  process.stdout.write("{}", () => process.exit(0));
} else {
  const network = await new Network().start();
  const web = await new GenericContainer("busybox")
    .withCommand(["sh", "-c", "echo serving; exec httpd -f -p 80 -h /www"])
    .withCopyContentToContainer([
      { content: "the page\n", target: "/www/index.html" },
      { content: "copied in\n", target: "/tmp/copied" },
    ])
    .withEnvironment({ WORD: "container" })
    .withExposedPorts(80)
    .withNetwork(network)
    .withNetworkAliases("web")
    .withTmpFs({ "/scratch": "rw" })
    .withLabels({ role: "web" })
    .withHealthCheck({ test: ["CMD-SHELL", "wget -qO- http://127.0.0.1/"], interval: 500, timeout: 1000, retries: 10 })
    .withWaitStrategy(Wait.forAll([Wait.forLogMessage("serving"), Wait.forListeningPorts(), Wait.forHealthCheck(), Wait.forHttp("/", 80)]))
    .start();
  const page = await (await fetch(`http://${web.getHost()}:${web.getMappedPort(80)}/`)).text();
  const exec = await web.exec(["sh", "-c", "echo in the $WORD"]);
  const copied = (await web.exec(["cat", "/tmp/copied"])).output;
  const names = web.getNetworkNames().length;
  await web.restart();
  const again = (await web.exec(["echo", "again"])).output;
  const once = await new GenericContainer("busybox").withCommand(["sh", "-c", "exit 0"]).withWaitStrategy(Wait.forOneShotStartup()).start();
  await once.stop();
  await web.stop();
  await network.stop();
  process.stdout.write(JSON.stringify({ page, exec: [exec.output, exec.exitCode], copied, names, again, ended: 0 }), () => process.exit(0));
}
