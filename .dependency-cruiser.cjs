// Who may import whom (DESIGN.md: the table in "Folders"). Each rule says where such code belongs instead.
const may = {
  core: [],
  linux: ["core"],
  content: ["linux", "core"],
  namespace: ["linux", "core"],
  cgroup: ["linux", "core"],
  network: ["linux", "core"],
  volume: ["linux", "core"],
  runtime: ["namespace", "cgroup", "linux", "core"],
  unionfs: ["content", "linux", "core"],
  image: ["content", "unionfs", "linux", "core"],
  registry: ["content", "linux", "core"],
  container: ["runtime", "cgroup", "linux", "core"],
  build: ["image", "unionfs", "content", "core"],
  engine: ["build", "container", "image", "registry", "unionfs", "content", "runtime", "namespace", "cgroup", "network", "volume", "linux", "core"],
  "api/types": ["core"],
  "api/server": ["engine", "api/types", "core"],
  "api/client": ["api/types", "core"],
  library: ["api/client", "api/types", "core"],
  // tar is a format without I/O, and `cp` speaks it on both sides.
  cli: ["api/client", "api/types", "core", "build/frontend", "unionfs/tar"],
};
/** Types may come from further folders where the table says so. */
const typesOnly = {
  container: ["unionfs", "network", "volume"],
  build: ["linux"],
  "api/server": ["build", "container", "image", "registry", "unionfs", "network", "volume", "cgroup", "linux"],
  "api/types": ["container", "image", "registry", "unionfs", "network", "volume", "cgroup", "engine", "linux"],
};
const advice = {
  core: "core holds no I/O and knows nobody: move the code to the folder that needs it",
  linux: "linux is mechanism: policy belongs to runtime, cgroup, network or unionfs",
  build: "a build asks for containers and trees through the port that it declares itself (build/solver/host.ts): engine/ implements it",
  runtime: "the planner is pure: pass what it needs as data (engine gathers it)",
  engine: "use cases know neither HTTP nor terminals: shape answers in api/server or cli",
  library: "the library only talks to the API: add a route in api/server and a call in library/",
  cli: "a command only talks to the API: add a route in api/server and a call in api/client",
};
const folders = Object.keys(may);
module.exports = {
  forbidden: [
    { name: "no-cycles", comment: "Two files that need each other are one file, or share a third.", severity: "error", from: {}, to: { circular: true, viaOnly: { dependencyTypesNot: ["type-only"] } } },
    { name: "drivers-have-no-siblings", comment: "A storage driver never imports another: what they share belongs to unionfs/ itself.", severity: "error", from: { path: "^src/unionfs/drivers/([^/]+)/" }, to: { path: "^src/unionfs/drivers/", pathNot: "^src/unionfs/drivers/$1/" } },
    ...folders.map((folder) => ({
      name: `${folder.replace("/", "-")}-imports`,
      comment: `${folder} may import ${may[folder].join(", ") || "nothing of ours"}. ${advice[folder] ?? "Code that needs more belongs to engine/, which knows every domain."}`,
      severity: "error",
      from: { path: `^src/${folder}/`, pathNot: "\\.test\\.ts$" },
      to: { path: "^src/", pathNot: [folder, ...may[folder], ...(typesOnly[folder] ?? [])].map((f) => `^src/${f}/`) },
    })),
    ...Object.entries(typesOnly).map(([folder, list]) => ({
      name: `${folder.replace("/", "-")}-types-only`,
      comment: `${folder} may import only types of ${list.join(", ")}: write \`import type\`, or let engine/ do the work.`,
      severity: "error",
      from: { path: `^src/${folder}/`, pathNot: "\\.test\\.ts$" },
      to: { path: list.map((f) => `^src/${f}/`), dependencyTypesNot: ["type-only"] },
    })),
    { name: "bin-is-the-top", comment: "bin/ wires the parts; nothing imports it.", severity: "error", from: { pathNot: "^(src/bin|test)/" }, to: { path: "^src/bin/" } },
  ],
  options: { doNotFollow: { path: "node_modules" }, tsPreCompilationDeps: true, tsConfig: { fileName: "tsconfig.json" }, enhancedResolveOptions: { exportsFields: ["exports"], conditionNames: ["import", "default"], extensions: [".ts"] } },
};
