/** Container names: which are allowed, and those that nobody chose. @module */
import { randomInt } from "node:crypto";
import { EngineError } from "#core/errors.ts";

const pattern = /^[a-zA-Z0-9][a-zA-Z0-9_.-]+$/;

/** Without the leading slash that the API may carry. @throws EngineError "invalid" with Docker's text */
export function parseContainerName(name: string): string {
  const bare = name.startsWith("/") ? name.slice(1) : name;
  if (!pattern.test(bare)) throw new EngineError("invalid", `Invalid container name (${name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed`);
  return bare;
}

const adjectives =
  "able agile amber ample apt azure bold brave brisk calm candid careful cheerful clever cosy curious deft eager earnest early fair fearless fleet fond gentle glad graceful happy hardy honest humble jolly keen kind lively loyal lucid merry mild modest nimble noble patient placid plucky polite prompt proud quick quiet ready robust serene sharp shrewd sincere sober spry steady sturdy subtle sunny supple sure tidy tranquil trusty upbeat valiant vivid warm wise witty zesty".split(
    " ",
  );
/** People who made computing, networks, shipping and the sciences what they are. */
const surnames =
  "abel allen archimedes babbage backus bartik bell berners bohr boole borg carson cerf clarke codd conway cormack curie darwin davies dijkstra engelbart erdos euler faraday fermat feynman floyd franklin gauss goldberg hamilton hamming hawking hellman hoare holberton hopper huffman johnson kahn kay kepler kernighan kilby knuth kolmogorov lamarr lamport leibniz liskov lovelace maxwell mccarthy mclean mcilroy meitner minsky moore morse napier naur neumann newton noether noyce pascal perlman pike planck postel ramanujan ritchie rubin sammet shannon shaw stallman sutherland tarjan tesla thompson torvalds turing ulam volta wiener wilkes wilson wirth wozniak wu zuse".split(
    " ",
  );

/** A name that `taken` does not know: adjective_surname, with digits when those run out. */
export function generateName(taken: (name: string) => boolean): string {
  for (let attempt = 0; ; attempt++) {
    const base = `${adjectives[randomInt(adjectives.length)]}_${surnames[randomInt(surnames.length)]}`;
    const name = attempt < 6 ? base : `${base}${randomInt(10 ** Math.min(9, attempt - 5))}`;
    if (!taken(name)) return name;
  }
}
