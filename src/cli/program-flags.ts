/** The flags before the command. @module */
import { FlagSet, many, one, onOff } from "./flags.ts";

/** Flags before the command. */
export const programFlags: FlagSet = new FlagSet([
  one("config", "Directory of docker's client configuration: credentials of registries (default: ~/.docker)"),
  one("context,c", "Context whose daemon to talk to (see `wherry context`)"),
  onOff("debug,D", "Accepted, no effect"),
  many("host,H", "Daemon to talk to: unix:///path, tcp://address:port or ssh://user@host"),
  one("log-level,l", "Accepted, no effect", { initial: "info" }),
  onOff("tls", "TCP speaks TLS"),
  one("tlscacert", "Whose certificates are trusted (PEM; default: ca.pem in DOCKER_CERT_PATH or the configuration's directory)"),
  one("tlscert", "Our certificate (PEM; default: cert.pem there)"),
  one("tlskey", "Its key (PEM; default: key.pem there)"),
  onOff("tlsverify", "TCP speaks TLS, and the daemon's certificate is verified"),
  onOff("version,v", "Print the version"),
]);
