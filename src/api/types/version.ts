/** Which versions of Docker's Engine API we answer. All are 1.x, so a version is its minor number. @module */

/** Newest: 1.51 (docker 28). */
export const maxMinor = 51;
/** Oldest that we accept without a complaint. */
export const minMinor = 24;
export const apiVersion: string = `1.${maxMinor}`;
export const minApiVersion: string = `1.${minMinor}`;

/** Splits `/v1.44/containers/json` into 44 and `/containers/json`; without a prefix the newest version is meant. */
export function splitVersion(path: string): { readonly minor: number; readonly major: number; readonly path: string } {
  const match = /^\/v(\d{1,4})\.(\d{1,4})(\/.*)$/.exec(path);
  if (!match) return { major: 1, minor: maxMinor, path };
  return { major: Number(match[1]), minor: Number(match[2]), path: match[3]! };
}
