/** The label on everything that a session has made; its value is the session's id, 32 hexadecimal digits. @module */
export const sessionLabel = "io.wherry.session";
