/** Asks a question by TLS of whoever connects to a unix socket: a worker that passes bytes on to where the service is. @module */
import { once } from "node:events";
import { createServer, isIP, type Socket } from "node:net";
import { connect } from "node:tls";

/** As much of an answer is kept. */
const MAX_ANSWER = 4096;

export interface TlsQuestion {
  readonly request: Uint8Array;
  /** Whom the service must be, where `ca` (PEM) says whose certificates are believed. */
  readonly name: string;
  readonly ca: string | undefined;
}

/** The beginning of the answer, or why there is none. Rejects when `relay`, which has somebody connect to `path` and lasts as long as the connection, does. */
export async function answerBySocket(path: string, question: TlsQuestion, relay: () => Promise<unknown>): Promise<Uint8Array | string> {
  const server = createServer();
  const answer = new Promise<Uint8Array | string>((resolve) => server.once("connection", (socket) => void ask(socket, question).then(resolve)));
  server.listen(path);
  await once(server, "listening");
  try {
    const [answered] = await Promise.all([answer, relay()]);
    return answered;
  } finally {
    server.close();
  }
}

/** Resolves when the socket is closed, which it does. */
function ask(socket: Socket, { request, name, ca }: TlsQuestion): Promise<Uint8Array | string> {
  return new Promise((resolve) => {
    const chunks: Buffer[] = [];
    let [length, failure] = [0, ""];
    const options = {
      socket,
      host: name,
      rejectUnauthorized: ca !== undefined,
      ...(ca === undefined ? {} : { ca }),
      ...(isIP(name) === 0 ? { servername: name } : {}),
    };
    const secure = connect(options, () => secure.write(request));
    secure.on("data", (chunk: Buffer) => {
      chunks.push(chunk);
      length += chunk.length;
      if (length >= MAX_ANSWER) secure.destroy();
    });
    secure.on("end", () => secure.destroy());
    secure.on("error", (error) => (failure = error.message));
    secure.on("close", () => {
      socket.destroy();
      resolve(length > 0 || failure === "" ? Buffer.concat(chunks).subarray(0, MAX_ANSWER) : failure);
    });
  });
}
