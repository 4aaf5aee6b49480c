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
  {
    where: /^POST \/images\/(create|\{name\}\/push) 200$/,
    problem: /^\.(id|aux): not described$/,
    why: "docker sends these in progress lines; the description has forgotten them",
  },
  // Error statuses: the body is checked all the same.
  {
    where: /^(GET|POST) \/(containers|images|networks|volumes|build)(\/json|\/prune)? 400$/,
    problem: /^status 400 is not described$/,
    why: "docker too answers so to a filter that there is not",
  },
  { where: /^POST \/images\/load 400$/, problem: /^status 400 is not described$/, why: "ours: what is damaged is the request's fault; docker says 500" },
  { where: /^POST \/networks\/create 409$/, problem: /^status 409 is not described$/, why: "docker too answers so to a name that is taken" },
  {
    where: /^POST \/(containers\/\{id\}\/start|exec\/\{id\}\/resize) (403|409)$/,
    problem: /^status (403|409) is not described$/,
    why: "docker too: an address or a state that is in the way",
  },
  {
    where: /^(GET|POST) \/(auth|build|images\/create|images\/\{name\}\/push|images\/search|distribution\/\{name\}\/json) (401|403|404|503)$/,
    problem: /^status (401|403|404|503) is not described$/,
    why: "what a registry has answered, or that it does not",
  },
  { where: /^POST .* 501$/, problem: /^status 501 is not described$/, why: "ours: what this engine or this kernel does not do is refused; docker would try" },
  { where: /^POST \/images\/load 200$/, problem: /^a body is not described$/, why: "docker sends progress as JSON lines; the description has forgotten it" },
];

/** Why a problem is none; undefined when it is one. */
export function knownDeviation(where: string, problem: string): string | undefined {
  return deviations.find((known) => known.where.test(where) && known.problem.test(problem))?.why;
}
