import { type Clock, systemClock } from "#core/clock.ts";
import type { RegistryConfig } from "./config.ts";
import { RegistrySession, type SessionOptions } from "./session.ts";

/** How the registries of the world are reached from here. */
export class Registries {
  readonly config: RegistryConfig;
  readonly clock: Clock;

  constructor(config: RegistryConfig, clock: Clock = systemClock) {
    this.config = config;
    this.clock = clock;
  }

  /** Begins a conversation; it holds connections until it is disposed of. */
  open(options: Omit<SessionOptions, "config" | "clock">): Promise<RegistrySession> {
    return RegistrySession.open({ ...options, config: this.config, clock: this.clock });
  }
}
