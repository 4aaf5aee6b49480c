/** `wherry login`, `wherry logout`. @module */
import type { Call } from "../command.ts";
import { type Command, command } from "../command.ts";
import { onOff, one } from "../flags.ts";
import type { CliIo } from "../io.ts";
import { print, warn, write } from "../output.ts";
import { configDirectory } from "./docker-config.ts";
import { readLine } from "./prompt.ts";
import { eraseCredentials, hostOf, hubServer, serverOf, storeCredentials, storedCredentials } from "./registry-auth.ts";

interface AuthReply {
  readonly Status: string;
  readonly IdentityToken?: string;
}

export const loginCommand: Command = command({
  usage: "[OPTIONS] [SERVER]",
  about: "Log in to a registry (default: Docker Hub)",
  examples: [["login -u me --password-stdin registry.example.com < token", "without the password on the command line"]],
  flags: [one("password,p", "Password or token"), onOff("password-stdin", "Take the password from stdin"), one("username,u", "Name")],
  arity: [0, 1],
  run: async (call) => {
    const { args, client, flags, io } = call;
    const server = args[0] === undefined ? hubServer : serverOf(hostOf(args[0]));
    const again = flags.changed("username") || flags.changed("password") || flags.on("password-stdin") ? undefined : await storedCredentials(io, server);
    if (again !== undefined) {
      await print(io, `Authenticating with existing credentials...${again.username === undefined ? "" : ` [Username: ${again.username}]`}\n`);
      await client.json<AuthReply>("POST", "/auth", { body: { ...again, serveraddress: server }, signal: io.gone });
      await print(io, "Login Succeeded");
      return 0;
    }
    const { username, password } = await ask(call);
    const reply = await client.json<AuthReply>("POST", "/auth", { body: { username, password, serveraddress: server }, signal: io.gone });
    const inFile = await storeCredentials(io, server, reply.IdentityToken ? { username, identitytoken: reply.IdentityToken } : { username, password });
    if (inFile) {
      warn(io, `\nWARNING! Your credentials are stored unencrypted in '${configDirectory(io)}/config.json'.`);
      warn(io, "Configure a credential helper to remove this warning. See\nhttps://docs.docker.com/go/credential-store/\n");
    }
    await print(io, reply.Status);
    return 0;
  },
});

/** Name and password from flags, stdin or the terminal. */
async function ask({ flags, io }: Call): Promise<{ readonly username: string; readonly password: string }> {
  let [username, password] = [flags.text("username"), flags.text("password")];
  if (flags.changed("password") && flags.on("password-stdin")) throw new Error("conflicting options: cannot specify both --password and --password-stdin");
  if (flags.on("password-stdin") && username === "") throw new Error("the --password-stdin option requires --username to be set");
  for (const given of ["username", "password"]) if (flags.changed(given) && flags.text(given) === "") throw new Error(`${given} is empty`);
  if (flags.changed("password")) warn(io, "WARNING! Using --password via the CLI is insecure. Use --password-stdin.");
  if (flags.on("password-stdin")) {
    password = (await readAll(io)).replace(/\r?\n$/, "");
    if (password === "") throw new Error("password is empty");
    return { username, password };
  }
  if ((username === "" || password === "") && !io.isTty.stdin) throw new Error("Error: Cannot perform an interactive login from a non TTY device");
  if (username === "") {
    await write(io.stdout, "Username: ");
    username = (await readLine(io, true)).trim();
    if (username === "") throw new Error("Error: Non-null Username Required");
  }
  if (password === "") {
    await write(io.stdout, "Password: ");
    password = await readLine(io, false);
    await write(io.stdout, "\n");
    if (password === "") throw new Error("Error: Password Required");
  }
  return { username, password };
}

const maxPassword = 64 * 1024;

async function readAll({ stdin }: CliIo): Promise<string> {
  let text = "";
  for await (const chunk of stdin) {
    text += String(chunk);
    if (text.length > maxPassword) throw new Error(`the password has more than ${maxPassword} characters`);
  }
  return text;
}

export const logoutCommand: Command = command({
  usage: "[SERVER]",
  about: "Log out from a registry (default: Docker Hub)",
  flags: [],
  arity: [0, 1],
  run: async ({ args, io }) => {
    const server = args[0] === undefined ? hubServer : serverOf(hostOf(args[0]));
    const name = hostOf(server) === "index.docker.io" ? hubServer : server;
    await eraseCredentials(io, server);
    await print(io, `Removing login credentials for ${name}`);
    return 0;
  },
});
