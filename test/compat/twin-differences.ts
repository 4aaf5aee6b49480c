/**
 * Where our command line answers otherwise than docker's on purpose, and why: docs/compat.md tells it to people. Each is a rewriting of one of the two answers, so
 * that all the rest of it is still compared. One that is not needed any more fails the test.
 * @module
 */

type Rewrite = (answer: string) => string;

export interface Difference {
  readonly why: string;
  /** Command lines that it may concern. */
  readonly lines: RegExp;
  /** Docker's answer in our way, or ours in docker's. */
  readonly docker?: Rewrite;
  readonly wherry?: Rewrite;
  /** Which of two ends of a connection is faster decides whether it shows: not missed when it does not. */
  readonly raced?: true;
}

const replace =
  (what: RegExp | string, by: string): Rewrite =>
  (answer) =>
    answer.replaceAll(what, by);
const without = (what: RegExp | string): Rewrite => replace(what, "");
/** All of an answer but its exit code. */
const only = (text: string): Rewrite => replace(/(?<=^exit \d+\n)[\s\S]*/g, text);
const every = /^/;
const legacyBuilder = /DEPRECATED: The legacy builder is deprecated[\s\S]*?environment-variable\.\n\n/g;
const typeName = replace(/in type \S+/g, "in type T");

export const differences: readonly Difference[] = [
  {
    why: "the text of --help is our own; where it goes, and its first line, are docker's",
    lines: /--help|-h$|^help|^(container|image|volume|network|system|context|builder|manifest)$/,
    docker: (answer) => helpHead(answer.replace(legacyBuilder, "").replace("Flag shorthand -h has been deprecated, use --help\n", "")),
    wherry: helpHead,
  },
  {
    why: "--help of a command that there is not: docker shows the help of the level above as if all were well",
    lines: /nonsense --help$/,
    docker: replace(/^exit 0\n[\s\S]*/g, "refused\n"),
    wherry: replace(/^exit 1\n[\s\S]*unknown command[\s\S]*/g, "refused\n"),
  },
  {
    why: "`help` of what there is not: ours answers as to the command, with what may have been meant",
    lines: /^help .*nonsense$/,
    docker: replace(/unknown help topic[\s\S]*/g, "no such command\n"),
    wherry: replace(/wherry: unknown command[\s\S]*/g, "no such command\n"),
  },
  { why: "did you mean", lines: every, wherry: without(/Did you mean .*\?\n\n| \(did you mean .*\?\)/g) },
  { why: "an error says what to do", lines: every, wherry: without(/^Hint: .*\n/gm) },
  {
    why: "docker forgets COMMAND where a group's usage is shown, but for volume",
    lines: /^(container|image|network|system|context|builder) /,
    docker: replace(/^(Usage: {2}wherry \w+)$/gm, "$1 COMMAND"),
  },
  {
    why: "docker forgets [OPTIONS] of commands that have some",
    lines: /^(builder prune|network rm|context rm|manifest create)/,
    docker: replace(/^(Usage: {2}wherry (?:builder prune|network rm|context rm|manifest create))(?! \[)/gm, "$1 [OPTIONS]"),
  },
  { why: "a typing mistake of docker's", lines: every, docker: replace(/^SRun '/gm, "Run '") },
  { why: "docker warns of its own old builder; ours has one builder", lines: /^(image )?build|^builder/, docker: without(legacyBuilder) },
  {
    why: "docker shows the context's upload when a build has failed",
    lines: /build -q/,
    docker: without(/^\r?Sending build context to Wherry daemon {2}[^\n]*\n/gm),
  },
  {
    why: "what fails while building is told as BuildKit does",
    lines: /^build -q - <<< FROM nobody/,
    docker: replace("Error response from daemon: Get", "ERROR: Get"),
  },
  { why: "a build says which build-args nothing has used", lines: /--build-arg nonsense/, wherry: without(/^\[Warning\] One or more build-args.*\n/gm) },
  {
    why: "whose daemon is not there, and which hosts there can be",
    lines: /^-H /,
    docker: only("--- no daemon\n"),
    wherry: replace(
      /(?<=^exit 1\n)--- stdout\n--- stderr\n(Cannot connect to the daemon at .*\. Is wherryd running\? \(E\w+\)|unable to parse wherry host "nonsense:.*: expected unix:.*)\n/g,
      "--- no daemon\n",
    ),
  },
  {
    why: "import: docker ignores further arguments",
    lines: /^import( a b c)?$/,
    docker: replace(/--- stderr\n[\s\S]*/g, "refused\n"),
    wherry: replace(/--- stderr\nwherry: 'wherry import' requires at least 1 and at most 2 arguments\n[\s\S]*/g, "refused\n"),
  },
  {
    why: "docker has not its usual words for a wrong number of arguments here",
    lines: /^context use( a b)?$/,
    docker: replace(/accepts 1 arg\(s\), received \d\n/g, "one argument\n"),
    wherry: replace(/wherry: 'wherry context use' requires 1 argument\n[\s\S]*/g, "one argument\n"),
  },
  {
    why: "API 1.51 counts an image's containers; docker 28 speaks 1.50",
    lines: /^images --format/,
    docker: replace(/(?<="Containers":)"N\/A"|(?<=UTC\||<time>\|)N\/A/g, "#"),
    wherry: replace(/(?<="Containers":)"\d+"|(?<=UTC\||<time>\|)\d+/g, "#"),
  },
  {
    why: "the names of Go's types, and of docker's templates, are not ours",
    lines: /Nonsense|\{\{$|\{\{'/,
    docker: (answer) => typeName(noName(answer)),
    wherry: typeName,
  },
  {
    why: "docker reads volumes and contexts as their types only",
    lines: /^(volume|context) inspect -f '\{\{\.Nonsense/,
    docker: replace("can't evaluate field Nonsense in type T", 'map has no entry for key "Nonsense"'),
  },
  {
    why: "what is printed as JSON is as the engine has sent it: docker sorts it anew, and leaves out what is empty",
    lines: /^(image inspect -f '\{\{json \.Config|(volume|network) inspect -f '\{\{json)/,
    docker: sortedFields,
    wherry: (answer) => sortedFields(answer.replace(/"\w+":(null|"")(,|(?=\}))/g, "")),
  },
  {
    why: "objects print as maps: the order of Go's structs is not known",
    lines: /\.State\}\}|\.RestartPolicy\}\}|\.ExposedPorts\}\}'|\.Components\}\}/,
    docker: replace(/\{(no 0|created .*|Engine .*)\}|(?<=\/(?:tcp|udp):)\{\}/g, "{…}"),
    wherry: replace(/map\[(MaximumRetryCount:0 Name:no|Dead:false .*|Details:map\[.*\] Name:[^\]]*)\](?=\]?\n)|(?<=\/(?:tcp|udp):)map\[\]/g, "{…}"),
  },
  {
    why: "no function values, thus no `call`",
    lines: /\{\{call /,
    docker: only("--- no call\n"),
    wherry: replace(/^exit 64\n[\s\S]*function "call" not defined\n/g, "exit 1\n--- no call\n"),
  },
  { why: "docker's load sends what is a directory", lines: /^load -i W$/, docker: replace(/error during connect: .*: read W/g, "open W") },
  {
    why: "-p listens on 127.0.0.1 unless told otherwise",
    lines: /^port @c6|^inspect @c3/,
    docker: (answer) => answer.replace(/0\.0\.0\.0:(?=<port>)/g, "127.0.0.1:").replace(/.*\[::\]:<port>\n/g, ""),
    wherry: without(/,\s*"WherryPublishHost": "127\.0\.0\.1"/g),
  },
  {
    why: "our create leaves out what is empty, and bounds the log",
    lines: /^(container )?inspect (-s |-f json |-f '' )?@c/,
    docker: (answer) =>
      answer
        .replace(/("(?:BlkioWeightDevice|BlkioDevice(?:Read|Write)(?:Bps|IOps)|Devices|Ulimits|Dns|DnsOptions|DnsSearch)": ?)\[\]/g, "$1null")
        .replace(/("PortBindings": ?)\{\}/g, "$1null")
        .replace(/("MemorySwappiness": ?)-1/g, "$1null")
        .replace(/("OomKillDisable": ?)false/g, "$1null"),
    wherry: replace(/\{\s*"max-size": ?"10m",\s*"max-file": ?"3"\s*\}/g, "{}"),
  },
  { why: "a limit of bandwidth is shown", lines: /^stats .*json/, wherry: without(/"NetLimit":"--",/g) },
  {
    why: "nothing of a swarm, and no plugins, can be inspected",
    lines: /^inspect --type (nonsense|plugin|node|secret|'')/,
    docker: (answer) => (answer.includes("must be one of") ? answer.replace(/"(config|node|plugin|secret|service|task)", /g, "") : "no such type"),
    wherry: replace(/^exit 1\n--- stdout\n--- stderr\nunknown type: "(plugin|node|secret)".*\n/g, "no such type"),
  },
  {
    why: "the caller's files are not the container's: 125, not 127",
    lines: /^run --rm --cidfile W\/nodir/,
    docker: replace(/^exit 127/g, "exit 125"),
  },
  {
    why: "which detach keys are wrong is told",
    lines: /--detach-keys (nonsense-keys|ctrl-nonsense)/,
    docker: only("--- wrong keys\n"),
    wherry: replace(/^exit (?:1|125)(\n)[\s\S]*invalid detach keys \((?:nonsense-keys|ctrl-nonsense)\): Unknown character[\s\S]*/g, "exit 1$1--- wrong keys\n"),
  },
  {
    why: "signatures are not verified, and who asks for it is told",
    lines: /--disable-content-trust=false/,
    docker: only("--- not verified\n"),
    wherry: replace(/(?<=^exit 125\n)[\s\S]*content trust is not supported[\s\S]*/g, "--- not verified\n"),
  },
  {
    why: "a missing volume plugin is no missing image",
    lines: /--volume-driver nonsense/,
    docker: replace(/(?<=--- stderr\n)Unable to find image[\s\S]*/g, "no driver\n"),
    wherry: replace(/(?<=--- stderr\n)wherry: Error response from daemon: create @vd: error looking up volume plugin nonsense[\s\S]*/g, "no driver\n"),
  },
  { why: "why a container ended", lines: /--name @oom/, wherry: without(/^wherry: out of memory: limit .*\n/gm) },
  {
    why: "V8's words for what is no JSON",
    lines: /seccomp=W\/garbage/,
    docker: replace(/failed: .*/g, "failed"),
    wherry: replace(/failed: [\s\S]*?valid JSON/g, "failed"),
  },
  { why: "what is empty says so", lines: /--mount ''/, docker: replace("flag: EOF", "flag: value is empty") },
  {
    why: "an error of exec is the engine's, on stderr: standard output is the command's",
    lines: /^exec /,
    docker: replace(/--- stdout\n((?:OCI runtime|unable to find).*)\r\n--- stderr\n/g, "--- stdout\n--- stderr\nError response from daemon: $1\n"),
  },
  { why: "docker's log of its own tar writer", lines: /^cp W\//, docker: without(/^time="<time>" level=error msg="Can't .*\n/gm), raced: true },
  { why: "--time works as it did, unsaid", lines: /--time 0/, docker: without("Flag --time has been deprecated, use --timeout instead\n") },
  { why: "docker says `exit status 1` in words, too", lines: /^network (rm|remove)/, docker: without(/^exit status 1\n/gm) },
  {
    why: "one host",
    lines: /^volume (ls --cluster|update nobody)$/,
    docker: replace(/^exit \d[\s\S]*/g, "one host"),
    wherry: replace(/^exit \d[\s\S]*(unknown flag: --cluster|unknown command)[\s\S]*/g, "one host"),
  },
  {
    why: "the client's own version",
    lines: /^(version|info|system info|--version|-v)(?!.*--help)/,
    docker: (answer) =>
      answer
        .replace(/(?<=Client:\n) Version: .*\n( API version.*\n Go version.*\n Git commit.*\n Built.*\n)?/, " #\n")
        .replace(/(?<=")(Client|ClientInfo)":\{.*?\}/, "#")
        .replace(/Wherry version .*|(?<=linux amd64 default )\S+/, "#"),
    wherry: (answer) =>
      answer
        .replace(/(?<=Client:\n) Version: .*\n( API version.*\n Node version.*\n)?/, " #\n")
        .replace(/(?<=")(Client|ClientInfo)":\{.*?\}/, "#")
        .replace(/wherry version .*|(?<=linux amd64 default )\S+/, "#"),
  },
  {
    why: "output ends with a newline",
    lines: /^system df -v --format/,
    wherry: replace(/(?<=[}B])\n--- stderr/g, "--- stderr"),
  },
  {
    why: "a template's mistake is told as such",
    lines: /^system df -v --format 'table/,
    docker: replace("template: :1:2:", "template parsing error: template: :1:8:"),
  },
  {
    why: "docker's archive has an empty directory for the keys, and is padded",
    lines: /^context export @x -$/,
    docker: replace(/(?<=--- stdout\n)[\s\S]*?("Host":"[^"]*")[\s\S]*(?=--- stderr)/g, "$1\n"),
    wherry: replace(/(?<=--- stdout\n)[\s\S]*?("Host":"[^"]*")[\s\S]*(?=--- stderr)/g, "$1\n"),
  },
  {
    why: "what is no archive",
    lines: /^context import .*garbage/,
    docker: replace("unexpected EOF", "no archive"),
    wherry: replace("archive is truncated: it ends in a header at the start of the archive", "no archive"),
  },
  {
    why: "an empty password is none",
    lines: /^login -u a --password-stdin .* <<< $/,
    docker: replace("Error: Cannot perform an interactive login from a non TTY device", "password is empty"),
  },
  {
    why: "manifests are fetched by the engine",
    lines: /^manifest (inspect|create)/,
    docker: replace(/failed to configure transport: error pinging v2 registry: Get "https:/g, 'Error response from daemon: Get "http:'),
  },
  { why: "docker escapes in JSON what HTML would read", lines: /^context inspect/, docker: replace(/\\u003c(IN MEMORY)\\u003e/g, "<$1>") },
  {
    why: "links: docker's client sends a name with a slash as two",
    lines: /^rm --link nobody\/x/,
    docker: replace("page not found", "No such container: nobody"),
  },
  { why: "docker writes the two into each other", lines: /^push --platform nonsense/, docker: replace('Invalid platform nonsense"', 'invalid platform: "') },
];

function helpHead(answer: string): string {
  return answer.replace(/^(exit 0\n(?:--- stdout\n)?(?:--- stdout\n--- stderr\n)?)\n?(Usage: {2}.*)\n[\s\S]*$/, "$1$2\n");
}

/** Docker names some templates. */
function noName(answer: string): string {
  return answer.replace(/template: version:/g, "template: :").replace('executing "version"', 'executing ""');
}

/** The fields of what is printed as JSON, in the order of their names. */
function sortedFields(answer: string): string {
  return answer
    .split(/[{},]+/)
    .sort()
    .join(",");
}

/** Whether the answers are the same but for known differences, which are noted in `used`. */
export function same(line: string, docker: string, wherry: string, used: Set<Difference>): boolean {
  if (docker === wherry) return true;
  let [theirs, ours] = [docker, wherry];
  for (const difference of differences) {
    if (!difference.lines.test(line)) continue;
    const [before, after] = [theirs + ours, (difference.docker?.(theirs) ?? theirs) + (difference.wherry?.(ours) ?? ours)];
    if (before === after) continue;
    [theirs, ours] = [difference.docker?.(theirs) ?? theirs, difference.wherry?.(ours) ?? ours];
    used.add(difference);
  }
  return theirs === ours;
}
