/** wherry's version. @module */
import { readFileSync } from "node:fs";

/** Put in by the build. */
declare const WHERRY_VERSION: string | undefined;

/** Unbundled (in tests) it is read from the package. */
export const version: string =
  typeof WHERRY_VERSION === "string"
    ? WHERRY_VERSION
    : (JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8")) as { version: string }).version;
