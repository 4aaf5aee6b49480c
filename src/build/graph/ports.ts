import { EngineError } from "#core/errors.ts";

/** EXPOSE's words (`80`, `53/udp`, `8000-8002`) as an image's ExposedPorts. Addresses and host ports in front mean nothing here, and are warned about. @throws EngineError "invalid" */
export function exposedPorts(words: readonly string[]): { readonly ports: Record<string, Record<string, never>>; readonly warnings: string[] } {
  const ports: Record<string, Record<string, never>> = {};
  const warnings: string[] = [];
  for (const word of words) {
    const [, published, first, last, protocol] = /^(?:(.*):)?([0-9]{1,5})(?:-([0-9]{1,5}))?(?:\/([a-z]+))?$/i.exec(word) ?? [];
    const from = Number(first);
    const to = Number(last ?? first);
    const kind = (protocol ?? "tcp").toLowerCase();
    if (first === undefined || from > 65535 || to > 65535 || to < from) throw new EngineError("invalid", `invalid containerPort: ${word}`);
    if (!["tcp", "udp", "sctp"].includes(kind)) throw new EngineError("invalid", `invalid proto: ${kind}`);
    if (published !== undefined) warnings.push(`EXPOSE ${word}: the address and port of the host are not part of an image`);
    for (let port = from; port <= to; port++) ports[`${port}/${kind}`] = {};
  }
  return { ports, warnings };
}
