/** A service for the length of a block: started, ready, reached by its published port, and gone at the end. */
import { openEngine } from "wherry";

await using engine = await openEngine();
await using server = await engine.run("busybox", {
  command: ["sh", "-c", "mkdir /www; echo the page > /www/index.html; httpd -f -p 8080 -h /www"],
  ports: [8080],
  wait: "healthy", // the image has no health check: until the port takes connections
});
const { host, port } = await server.port(8080);
const page = await fetch(`http://${host}:${port}/`);
console.log(page.status, (await page.text()).trim());

const listing = await server.exec(["ls", "/www"]);
console.log(listing.exitCode, listing.stdout.trim());
