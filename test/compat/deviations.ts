/**
 * Where replies differ from docker's description of them, and why: each is what docker itself sends, or something of ours that no client minds. Whatever is not
 * in this list fails the test whose client has met it.
 * @module
 */

interface Deviation {
  /** `METHOD /path/{id} status` as {@link CheckedSocket} names it. */
  readonly where: RegExp;
  readonly problem: RegExp;
  readonly why: string;
}

const ours = "ours: a field more, that says more than the status; clients read `message`";

const deviations: readonly Deviation[] = [
  { where: / [45]\d\d$/, problem: /^\.(code|hint|exitCode): not described$/, why: ours },
  { where: /^GET \/containers\/\{id\}\/json 200$/, problem: /^\.State\.Reason: not described$/, why: "ours: why a container ended, in one line" },
  {
    where: /^GET \/containers\/\{id\}\/json 200$/,
    problem: /^\.HostConfig\.IDMappings: not described$/,
    why: "ours, in Podman's form: the maps of a container's user namespace",
  },
  { where: /^POST \/containers\/\{id\}\/wait 200$/, problem: /^\.Reason: not described$/, why: "ours: why a container ended, in one line" },
  { where: /^GET \/images\/\{name\}\/json 200$/, problem: /^\.ContainerConfig: not described$/, why: "docs/compat.md: docker-compose 1.29 reads it" },
  { where: /^GET \/events 200$/, problem: /^\.(status|id|from): not described$/, why: "docker sends these below 1.52; the description has forgotten them" },
  { where: /^POST \/images\/create 503$/, problem: /^status 503 is not described$/, why: "ours: it is the registry that does not answer; docker says 500" },
  {
    where: /^POST \/images\/(create|\{name\}\/push) 200$/,
    problem: /^\.(id|aux): not described$/,
    why: "docker sends these in progress lines; the description has forgotten them",
  },
  {
    where: /./,
    problem: /^status (400|401|403|404|409|500|501|503) is not described$/,
    why: "docker too answers with error statuses that its description leaves out; the body is checked all the same",
  },
  { where: /^POST \/images\/load 200$/, problem: /^a body is not described$/, why: "docker sends progress as JSON lines; the description has forgotten it" },
];

/** Why a problem is none; undefined when it is one. */
export function knownDeviation(where: string, problem: string): string | undefined {
  return deviations.find((known) => known.where.test(where) && known.problem.test(problem))?.why;
}
