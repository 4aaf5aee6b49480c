/** The version of this program, put in by the bundler. @module */
declare const WHERRY_VERSION: string | undefined;

export const version: string = typeof WHERRY_VERSION === "undefined" ? "0.0.0-dev" : WHERRY_VERSION;
