/**
 * BuildKit's wire: gRPC over HTTP/2 on a connection that began as an HTTP/1.1 request (`POST /grpc`), and sessions the other way round (`POST /session`). Dockerfiles are built by the
 * engine as `POST /build` has it; graphs of BuildKit's own operations are refused. Loaded when the first such request comes.
 * @module
 */
import { createServer, type Http2Server } from "node:http2";
import type { IncomingHttpHeaders } from "node:http";
import type { Duplex } from "node:stream";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import type { Context } from "../router.ts";
import { bridgeService } from "./bridge.ts";
import { controlService } from "./control.ts";
import { Control } from "./gen/control_pb.ts";
import { LLBBridge } from "./gen/gateway_pb.ts";
import { Jobs } from "./jobs.ts";
import { type SessionHead, sessionHead, Sessions } from "./sessions.ts";

/** Requests are small: files go through sessions. Bytes. */
const maxMessageBytes = 16 * 1024 * 1024;

export class BuildKit {
  readonly #server: Http2Server;
  readonly #sessions = new Sessions();

  constructor({ engine, version, log }: Context) {
    const state = { engine, version, log, jobs: new Jobs(), sessions: this.#sessions };
    const handle = connectNodeAdapter({
      grpc: true,
      grpcWeb: false,
      connect: false,
      acceptCompression: [],
      readMaxBytes: maxMessageBytes,
      // Tracing, health, and what else clients try.
      fallback: (_request, response) => {
        response.writeHead(200, { "content-type": "application/grpc", "grpc-status": "12", "grpc-message": "not implemented" });
        response.end();
      },
      routes: (router) => {
        router.service(Control, controlService(state));
        router.service(LLBBridge, bridgeService(state));
      },
    });
    this.#server = createServer({}, handle);
    this.#server.on("sessionError", (error) => log("debug", `gRPC connection: ${error.message}`));
  }

  /** The connection speaks HTTP/2 from now on, and the client calls. */
  serve(socket: Duplex): void {
    this.#server.emit("connection", socket);
  }

  /** What a session's request says of it. @throws EngineError "invalid", "conflict" */
  head(headers: IncomingHttpHeaders): SessionHead {
    const head = sessionHead(headers);
    this.#sessions.refuseKnown(head);
    return head;
  }

  /** The connection speaks HTTP/2 from now on, and the engine calls. */
  call(socket: Duplex, head: SessionHead): void {
    this.#sessions.add(head, socket);
  }
}

const open = new WeakMap<Context["engine"], BuildKit>();

/** The one of an engine: its connections belong together. */
export function buildKitOf(context: Context): BuildKit {
  const known = open.get(context.engine);
  if (known !== undefined) return known;
  const made = new BuildKit(context);
  open.set(context.engine, made);
  return made;
}
