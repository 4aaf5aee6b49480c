/** How registries are reached: TLS with certificates of one's own, without TLS, by mirrors, through proxies; real docker-registries, a proxy in this process. */
import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import { type AddressInfo, connect } from "node:net";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { systemClock } from "#core/clock.ts";
import { defaultRegistryConfig, Registries, type RegistryConfig, RepositoryWriter } from "#registry/mod.ts";
import { hasProgram } from "../compat/daemon.ts";
import { DockerRegistry } from "../compat/registry.ts";
import { selfSigned } from "../compat/token-server.ts";
import { sha256 } from "./hostile-registry.fixture.ts";

const reason = DockerRegistry.missing ?? (hasProgram("openssl") ? undefined : "no openssl");
if (reason) console.warn(`registry-network: skipped: ${reason}`);

describe.skipIf(reason !== undefined)("the way to a registry", () => {
  const work = mkdtempSync("/var/tmp/wherry-net-");
  const certs = join(work, "certs.d");
  const registries: DockerRegistry[] = [];
  let plain: DockerRegistry;
  let tls: DockerRegistry;
  let client: { readonly cert: string; readonly key: string };

  /** Loopback is always insecure; other names of it are not in any list. */
  const config = (more: Partial<RegistryConfig> = {}): RegistryConfig => ({ ...defaultRegistryConfig(), certDirectories: [certs], ...more });
  const put = async (options: RegistryConfig, domain: string, path: string, text: string) => {
    await using session = await new Registries(options).open({ domain });
    const bytes = Buffer.from(text);
    await new RepositoryWriter(session, path).putSmall(bytes, sha256(bytes));
    return bytes;
  };
  const get = async (options: RegistryConfig, domain: string, path: string, bytes: Buffer) => {
    await using session = await new Registries(options).open({ domain });
    return (await session.smallBlob(path, { mediaType: "", digest: sha256(bytes), size: bytes.length }, 1000)).toString();
  };

  beforeAll(async () => {
    const ca = selfSigned(work, "ca");
    const server = signed("server", ca, "subjectAltName=DNS:localhost,IP:127.0.0.1");
    client = signed("client", ca, "extendedKeyUsage=clientAuth");
    [plain, tls] = await Promise.all([
      DockerRegistry.start(join(work, "plain")),
      DockerRegistry.start(join(work, "tls"), { tls: { certificate: server.cert, key: server.key, clientCa: ca.cert } }),
    ]);
    registries.push(plain, tls);
  });
  afterAll(async () => {
    await Promise.all(registries.map((registry) => registry.stop()));
    rmSync(work, { recursive: true, force: true });
  });

  function signed(name: string, ca: { readonly cert: string; readonly key: string }, extension: string): { readonly cert: string; readonly key: string } {
    const [request, cert, key] = [join(work, `${name}.csr`), join(work, `${name}.crt`), join(work, `${name}.key`)];
    const openssl = (...args: string[]) => execFileSync("openssl", args, { stdio: "ignore" });
    openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", request, "-subj", `/CN=${name}`);
    writeFileSync(`${cert}.ext`, extension);
    openssl("x509", "-req", "-in", request, "-CA", ca.cert, "-CAkey", ca.key, "-CAcreateserial", "-out", cert, "-days", "2", "-extfile", `${cert}.ext`);
    return { cert, key };
  }

  test("loopback needs no TLS; a certificate that nobody knows will do there, the client's own is shown", async () => {
    const bytes = await put(config(), plain.host, "a", "plain");
    expect(await get(config(), plain.host, "a", bytes)).toBe("plain");
    // The registry wants a client certificate, and there is none yet.
    await expect(put(config(), tls.host, "a", "x")).rejects.toMatchObject({ code: "unavailable" });
    mkdirSync(join(certs, tls.host), { recursive: true });
    copyFileSync(client.cert, join(certs, tls.host, "client.cert"));
    await expect(put(config(), tls.host, "a", "x")).rejects.toThrow(/missing key client\.key for client certificate client\.cert/);
    copyFileSync(client.key, join(certs, tls.host, "client.key"));
    expect(await get(config(), tls.host, "a", await put(config(), tls.host, "a", "over TLS"))).toBe("over TLS");
  });

  test("elsewhere the authority must be known: certs.d, or --insecure-registry by host and by range", async () => {
    // An address of this machine that is no loopback address by its name: a name that resolves to one is insecure, as with docker, so the check itself is asked.
    const { isInsecure } = await import("#registry/endpoints.ts");
    expect(await isInsecure("127.9.9.9:5000", config())).toBe(true);
    expect(await isInsecure("localhost:5000", config())).toBe(true);
    expect(await isInsecure("[::1]:5000", config())).toBe(true);
    expect(await isInsecure("192.0.2.7:5000", config())).toBe(false);
    expect(await isInsecure("192.0.2.7:5000", config({ insecure: ["192.0.2.0/24"] }))).toBe(true);
    expect(await isInsecure("192.0.2.7:5000", config({ insecure: ["192.0.2.7:5000"] }))).toBe(true);
    expect(await isInsecure("192.0.2.7:5001", config({ insecure: ["192.0.2.7:5000"] }))).toBe(false);
    expect(await isInsecure("a.invalid:5000", config({ insecure: ["a.invalid"] }))).toBe(true);
    const { tlsOptionsOf } = await import("#registry/certificates.ts");
    writeFileSync(join(certs, tls.host, "ca.crt"), "PEM");
    const options = await tlsOptionsOf(tls.host, config());
    expect(options.ca?.at(-1)).toBe("PEM");
    expect(options.cert).toContain("BEGIN CERTIFICATE");
    rmSync(join(certs, tls.host, "ca.crt"));
  });

  test("a mirror is asked first; what it has not, and a mirror that is down, lead to the registry; nothing is written to it", async () => {
    const mirror = await DockerRegistry.start(join(work, "mirror"));
    registries.push(mirror);
    const mirrored = config({ mirrors: { [plain.host]: ["http://127.0.0.1:9", `http://${mirror.host}/`] } });
    const there = await put(config(), mirror.host, "m", "in the mirror");
    const here = await put(mirrored, plain.host, "m", "in the registry only");
    expect(await get(mirrored, plain.host, "m", there)).toBe("in the mirror");
    expect(plain.requests("GET", `/v2/m/blobs/${sha256(there)}`)).toEqual([]);
    expect(await get(mirrored, plain.host, "m", here)).toBe("in the registry only");
    expect(mirror.requests("POST", "/v2/m/blobs/uploads/")).toHaveLength(1);
    await plain.stop();
    expect(await get(mirrored, plain.host, "m", there)).toBe("in the mirror");
    await expect(put(mirrored, plain.host, "m", "x")).rejects.toThrow(/does not answer, only a mirror of it/);
  });

  describe("a proxy", () => {
    const seen: string[] = [];
    let proxy: Server;
    let through: DockerRegistry;
    let address: string;

    beforeAll(async () => {
      through = await DockerRegistry.start(join(work, "through"));
      registries.push(through);
      const port = Number(through.host.split(":")[1]);
      // undici tunnels everything; whatever name is asked for, the registry answers.
      proxy = createServer().on("connect", (request, socket, head) => {
        seen.push(`${request.url} ${request.headers["proxy-authorization"] ?? ""}`);
        const upstream = connect(port, "127.0.0.1", () => {
          socket.write("HTTP/1.1 200 Connection Established\r\n\r\n");
          upstream.write(head);
          upstream.pipe(socket).pipe(upstream);
        });
        const give = () => [socket, upstream].map((end) => end.destroy());
        for (const end of [socket, upstream]) end.on("error", give);
      });
      proxy.listen(0, "127.0.0.1");
      await once(proxy, "listening");
      address = `http://me:p%40ss@127.0.0.1:${(proxy.address() as AddressInfo).port}`;
    });
    afterAll(async () => {
      proxy.closeAllConnections();
      proxy.close();
      await once(proxy, "close");
    });

    test("is used for names that NO_PROXY does not have, with its password", async () => {
      const options = config({ insecure: ["registry.invalid:80"], proxy: { http: address, https: "http://127.0.0.1:9" } });
      const bytes = await put(options, "registry.invalid:80", "p", "through");
      expect(await get(config(), through.host, "p", bytes)).toBe("through");
      expect(seen[0]).toBe(`registry.invalid:80 Basic ${Buffer.from("me:p@ss").toString("base64")}`);
      const none = config({ insecure: ["registry.invalid:80"], proxy: { http: address, none: ".other, registry.invalid" } });
      await expect(put(none, "registry.invalid:80", "p", "x")).rejects.toThrow(/no such host|temporary failure/);
    });

    test("is not used for loopback; the environment's variables are what is used by default", async () => {
      const { usesProxy } = await import("#registry/proxy.ts");
      const asked = (url: string, none = "") => usesProxy(new URL(url), none);
      expect(asked("http://127.0.0.1:5000/")).toBe(false);
      expect(asked("http://localhost/")).toBe(false);
      expect(asked("https://example.com/")).toBe(true);
      expect(asked("https://example.com/", "example.com")).toBe(false);
      expect(asked("https://a.example.com/", "example.com")).toBe(false);
      expect(asked("https://notexample.com/", "example.com")).toBe(true);
      expect(asked("https://example.com/", ".example.com")).toBe(true);
      expect(asked("https://a.example.com/", "*.example.com")).toBe(false);
      expect(asked("https://example.com:8443/", "example.com:8443")).toBe(false);
      expect(asked("https://example.com/", "example.com:8443")).toBe(true);
      expect(asked("http://10.1.2.3/", "10.0.0.0/8")).toBe(false);
      expect(asked("http://[fd00::7]/", "fd00::/8")).toBe(false);
      expect(asked("http://11.1.2.3/", "10.0.0.0/8")).toBe(true);
      expect(asked("https://example.com/", "*")).toBe(false);
      expect(defaultRegistryConfig({ HTTPS_PROXY: "http://p:1", no_proxy: "x", http_proxy: "http://q:1" }).proxy).toEqual({
        http: "http://q:1",
        https: "http://p:1",
        none: "x",
      });
    });
  });

  test("a hanging name is not waited for when the work is called off", async () => {
    const stop = new AbortController();
    const server = createServer(() => undefined).listen(0, "127.0.0.1");
    await once(server, "listening");
    const domain = `127.0.0.1:${(server.address() as AddressInfo).port}`;
    const opened = new Registries(config(), systemClock).open({ domain, signal: stop.signal });
    setTimeout(() => stop.abort(), 50);
    await expect(opened).rejects.toMatchObject({ code: "cancelled" });
    server.closeAllConnections();
    server.close();
    expect(existsSync(work)).toBe(true);
  });
});
