/** Who asks a registry. At most one of the three ways is set. */
export interface Credentials {
  readonly username?: string;
  readonly password?: string;
  /** A refresh token of the registry's token server (docker's `identitytoken`). */
  readonly identityToken?: string;
  /** A bearer token, sent to the registry as it is. */
  readonly registryToken?: string;
  readonly serverAddress?: string;
}
