/** `wherry system dial-stdio`: the API socket on standard input and output, for clients that come over ssh. @module */
import { connect, type Socket } from "node:net";
import { ConnectionError } from "#api/client/mod.ts";
import { type Command, command } from "./command.ts";
import { copy } from "./output.ts";

export const dialStdioCommand: Command = command({
  usage: "",
  about: "Connect standard input and output to the daemon's API",
  arity: [0, 0],
  run: async ({ client, io }) => {
    const unix = /^unix:\/\/(.+)$/.exec(client.host)?.[1];
    const tcp = /^(?:tcp|http):\/\/\[?([^\]/]+?)\]?:(\d+)/.exec(client.host);
    if (unix === undefined && tcp === null) throw new ConnectionError(`cannot dial ${client.host}`);
    const socket: Socket =
      unix === undefined ? connect({ host: tcp![1]!, port: Number(tcp![2]), allowHalfOpen: true }) : connect({ path: unix, allowHalfOpen: true });
    io.gone.addEventListener("abort", () => socket.destroy());
    // The end of our input is the end of the client's requests; answers may still come.
    io.stdin.pipe(socket);
    await copy(socket, io.stdout);
    return 0;
  },
});
