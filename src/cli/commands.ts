/** The tree of commands: names and one line each; the code behind a name is loaded when it is called. @module */
import type { Entry, Found } from "./command-tree.ts";

const alias = (entry: Entry): Entry => ({ ...entry, hidden: true });

const attach: Entry = { about: "Attach this terminal to a running container", load: async () => (await import("./attach.ts")).attachCommand };
const build: Entry = { about: "Build an image from a Dockerfile", load: async () => (await import("./build.ts")).buildCommand };
const commit: Entry = { about: "Make an image of a container's changes", load: async () => (await import("./commit.ts")).commitCommand };
const cp: Entry = { about: "Copy files between a container and here", load: async () => (await import("./cp.ts")).cpCommand };
const create: Entry = { about: "Create a new container", load: async () => (await import("./create.ts")).createCommand };
const diff: Entry = { about: "Show what changed in a container's filesystem", load: async () => (await import("./diff.ts")).diffCommand };
const events: Entry = { about: "Watch what happens in the engine", load: async () => (await import("./events.ts")).eventsCommand };
const exec: Entry = { about: "Run a command in a running container", load: async () => (await import("./exec.ts")).execCommand };
const exportEntry: Entry = { about: "Write a container's filesystem as a tar archive", load: async () => (await import("./export.ts")).exportCommand };
const history: Entry = { about: "Show how an image was made", load: async () => (await import("./history.ts")).historyCommand };
const images: Entry = { about: "List images", load: async () => (await import("./images.ts")).imagesCommand };
const importEntry: Entry = { about: "Make an image of a tar archive of a filesystem", load: async () => (await import("./import.ts")).importCommand };
const info: Entry = { about: "Show the engine and its host", load: async () => (await import("./info.ts")).infoCommand };
const inspect: Entry = {
  about: "Show all that is known of containers, images, networks, volumes",
  load: async () => (await import("./inspect.ts")).inspectCommand,
};
const kill: Entry = { about: "Kill running containers", load: async () => (await import("./kill.ts")).killCommand };
const load: Entry = { about: "Load images from an archive", load: async () => (await import("./load.ts")).loadCommand };
const login: Entry = { about: "Log in to a registry", load: async () => (await import("./registry/login.ts")).loginCommand };
const logout: Entry = { about: "Log out from a registry", load: async () => (await import("./registry/login.ts")).logoutCommand };
const logs: Entry = { about: "Show what a container has written", load: async () => (await import("./logs.ts")).logsCommand };
const pause: Entry = { about: "Freeze containers", load: async () => (await import("./pause.ts")).pauseCommand };
const port: Entry = { about: "Show a container's published ports", load: async () => (await import("./port.ts")).portCommand };
const ps: Entry = { about: "List containers", load: async () => (await import("./ps.ts")).psCommand };
const pull: Entry = { about: "Fetch an image from a registry", load: async () => (await import("./pull.ts")).pullCommand };
const push: Entry = { about: "Send an image to a registry", load: async () => (await import("./push.ts")).pushCommand };
const rename: Entry = { about: "Rename a container", load: async () => (await import("./rename.ts")).renameCommand };
const restart: Entry = { about: "Stop and start containers", load: async () => (await import("./restart.ts")).restartCommand };
const rm: Entry = { about: "Remove containers", load: async () => (await import("./rm.ts")).rmCommand };
const rmi: Entry = { about: "Remove images", load: async () => (await import("./rmi.ts")).rmiCommand };
const run: Entry = { about: "Create and start a new container from an image", load: async () => (await import("./run.ts")).runCommand };
const save: Entry = { about: "Write images to an archive", load: async () => (await import("./save.ts")).saveCommand };
const search: Entry = { about: "Search a registry for images", load: async () => (await import("./registry/search.ts")).searchCommand };
const start: Entry = { about: "Start stopped containers", load: async () => (await import("./start.ts")).startCommand };
const stats: Entry = { about: "Show what containers use, live", load: async () => (await import("./stats.ts")).statsCommand };
const stop: Entry = { about: "Stop running containers", load: async () => (await import("./stop.ts")).stopCommand };
const tag: Entry = { about: "Give an image a further name", load: async () => (await import("./tag.ts")).tagCommand };
const top: Entry = { about: "Show a container's processes", load: async () => (await import("./top.ts")).topCommand };
const unpause: Entry = { about: "Let frozen containers go on", load: async () => (await import("./unpause.ts")).unpauseCommand };
const update: Entry = { about: "Change the limits of containers", load: async () => (await import("./update.ts")).updateCommand };
const version: Entry = { about: "Show the versions of client and daemon", load: async () => (await import("./version-command.ts")).versionCommand };
const wait: Entry = { about: "Wait until containers stop; print their exit codes", load: async () => (await import("./wait.ts")).waitCommand };

const container: Entry = {
  about: "Manage containers",
  sub: {
    attach,
    commit,
    cp,
    create,
    diff,
    exec,
    export: exportEntry,
    inspect: { about: "Show all that is known of containers", load: async () => (await import("./inspect.ts")).containerInspectCommand },
    kill,
    logs,
    ls: ps,
    list: alias(ps),
    ps: alias(ps),
    pause,
    port,
    prune: { about: "Remove all stopped containers", load: async () => (await import("./prune.ts")).containerPruneCommand },
    rename,
    restart,
    rm,
    remove: alias(rm),
    run,
    start,
    stats,
    stop,
    top,
    unpause,
    update,
    wait,
  },
};

const manifestFile = () => import("./registry/manifest.ts");
const manifest: Entry = {
  about: "Look at and make manifest lists in registries",
  sub: {
    annotate: { about: "Say for which platform an image of a list is", load: async () => (await manifestFile()).manifestAnnotateCommand },
    create: { about: "Make a manifest list of images in a registry", load: async () => (await manifestFile()).manifestCreateCommand },
    inspect: { about: "Show a manifest or a manifest list", load: async () => (await manifestFile()).manifestInspectCommand },
    push: { about: "Push a manifest list", load: async () => (await manifestFile()).manifestPushCommand },
    rm: { about: "Forget manifest lists that were not pushed", load: async () => (await manifestFile()).manifestRmCommand },
  },
};

const cache: Entry = {
  about: "Keep images of registries",
  sub: {
    serve: {
      about: "Serve images of registries from a directory, which fetches each of them once",
      load: async () => (await import("./registry/cache-serve.ts")).cacheServeCommand,
    },
  },
};

const registry: Entry = {
  about: "Look into registries",
  sub: {
    ls: { about: "List the repositories of a registry", load: async () => (await import("./registry/registry-ls.ts")).registryLsCommand },
    search,
    tags: { about: "List the tags of a repository", load: async () => (await import("./registry/registry-ls.ts")).registryTagsCommand },
  },
};

const image: Entry = {
  about: "Manage images",
  sub: {
    copy: { about: "Copy an image between registries", load: async () => (await import("./image-copy.ts")).imageCopyCommand },
    build,
    diff: { about: "Show how two images differ, by layer and by file", load: async () => (await import("./image-diff.ts")).imageDiffCommand },
    tree: { about: "Show which images share which layers", load: async () => (await import("./image-tree.ts")).imageTreeCommand },
    mount: { about: "Mount images read-only on the host", load: async () => (await import("./image-mount.ts")).imageMountCommand },
    unmount: { about: "Unmount images", load: async () => (await import("./image-mount.ts")).imageUnmountCommand },
    "import-store": { about: "Take over the images of a docker's data root", load: async () => (await import("./import-store.ts")).importStoreCommand },
    bootstrap: { about: "Make a base image from Debian packages", load: async () => (await import("./bootstrap.ts")).bootstrapCommand },
    history,
    import: importEntry,
    inspect: { about: "Show all that is known of images", load: async () => (await import("./inspect.ts")).imageInspectCommand },
    load,
    ls: images,
    list: alias(images),
    prune: { about: "Remove unused images", load: async () => (await import("./prune.ts")).imagePruneCommand },
    pull,
    push,
    rm: rmi,
    remove: alias(rmi),
    save,
    tag,
  },
};

const networkRm: Entry = { about: "Remove networks", load: async () => (await import("./network.ts")).networkRmCommand };
const networkLs: Entry = { about: "List networks", load: async () => (await import("./network-ls.ts")).networkLsCommand };
const network: Entry = {
  about: "Manage networks",
  sub: {
    connect: { about: "Connect a container to a network", load: async () => (await import("./network.ts")).networkConnectCommand },
    create: { about: "Create a network", load: async () => (await import("./network-create.ts")).networkCreateCommand },
    disconnect: { about: "Disconnect a container from a network", load: async () => (await import("./network.ts")).networkDisconnectCommand },
    inspect: { about: "Show all that is known of networks", load: async () => (await import("./inspect.ts")).networkInspectCommand },
    ls: networkLs,
    list: alias(networkLs),
    prune: { about: "Remove unused networks", load: async () => (await import("./prune.ts")).networkPruneCommand },
    rm: networkRm,
    remove: alias(networkRm),
  },
};

const socketLs: Entry = { about: "List sockets with limited rights", load: async () => (await import("./socket.ts")).socketLsCommand };
const socketRm: Entry = { about: "Close sockets with limited rights", load: async () => (await import("./socket.ts")).socketRmCommand };
const socket: Entry = {
  about: "Manage sockets with limited rights",
  sub: {
    create: { about: "Open a socket with limited rights", load: async () => (await import("./socket.ts")).socketCreateCommand },
    ls: socketLs,
    list: alias(socketLs),
    rm: socketRm,
    remove: alias(socketRm),
  },
};

const volumeRm: Entry = { about: "Remove volumes", load: async () => (await import("./volume.ts")).volumeRmCommand };
const volumeLs: Entry = { about: "List volumes", load: async () => (await import("./volume.ts")).volumeLsCommand };
const volume: Entry = {
  about: "Manage volumes",
  sub: {
    clone: { about: "Make a copy of a volume", load: async () => (await import("./volume-content.ts")).volumeCloneCommand },
    create: { about: "Create a volume", load: async () => (await import("./volume.ts")).volumeCreateCommand },
    inspect: { about: "Show all that is known of volumes", load: async () => (await import("./inspect.ts")).volumeInspectCommand },
    export: { about: "Write a volume's files to a tar archive", load: async () => (await import("./volume-content.ts")).volumeExportCommand },
    import: { about: "Read a volume's files from a tar archive", load: async () => (await import("./volume-content.ts")).volumeImportCommand },
    rename: { about: "Rename a volume", load: async () => (await import("./volume-content.ts")).volumeRenameCommand },
    ls: volumeLs,
    list: alias(volumeLs),
    prune: { about: "Remove unused volumes", load: async () => (await import("./prune.ts")).volumePruneCommand },
    rm: volumeRm,
    remove: alias(volumeRm),
  },
};

const storage: Entry = {
  about: "Look at the storage drivers",
  sub: {
    compare: {
      about: "Measure every storage driver that can run here",
      load: async () => (await import("./storage.ts")).storageCompareCommand,
    },
    ls: { about: "List the storage drivers, and why one cannot run here", load: async () => (await import("./storage.ts")).storageLsCommand },
  },
};

const dns: Entry = {
  about: "Look at name resolution",
  sub: {
    trace: { about: "Show how a name is resolved: in which network, or by which server", load: async () => (await import("./dns.ts")).dnsTraceCommand },
  },
};

const contextEntry = (about: string, name: keyof typeof import("./context.ts")): Entry => ({ about, load: async () => (await import("./context.ts"))[name] });
const context: Entry = {
  about: "Manage contexts: names for daemons",
  sub: {
    create: contextEntry("Create a context", "contextCreateCommand"),
    export: contextEntry("Write a context to a tar archive", "contextExportCommand"),
    import: contextEntry("Read a context from a tar archive", "contextImportCommand"),
    inspect: contextEntry("Show all that is known of contexts", "contextInspectCommand"),
    ls: contextEntry("List contexts", "contextLsCommand"),
    list: alias(contextEntry("List contexts", "contextLsCommand")),
    rm: contextEntry("Remove contexts", "contextRmCommand"),
    remove: alias(contextEntry("Remove contexts", "contextRmCommand")),
    show: contextEntry("Print the name of the context in use", "contextShowCommand"),
    update: contextEntry("Change a context", "contextUpdateCommand"),
    use: contextEntry("Make a context the one in use", "contextUseCommand"),
  },
};

const completion: Entry = {
  about: "Print the completion script for a shell: bash, zsh or fish",
  load: async () => (await import("./completion.ts")).completionCommand,
};
const complete: Entry = {
  about: "Answer a completion script",
  hidden: true,
  load: async () => (await import("./completion.ts")).completeCommand(tree, findCommand),
};

const system: Entry = {
  about: "Manage the engine",
  sub: {
    check: { about: "Verify images and layers; find what nobody needs", load: async () => (await import("./system-check.ts")).systemCheckCommand },
    df: { about: "Show what takes disk space", load: async () => (await import("./system-df.ts")).systemDfCommand },
    "dial-stdio": {
      about: "Connect standard input and output to the daemon",
      hidden: true,
      load: async () => (await import("./dial-stdio.ts")).dialStdioCommand,
    },
    events,
    facts: { about: "Print what this kernel can do", load: async () => (await import("./facts.ts")).factsCommand },
    info,
    prune: { about: "Remove all that is unused", load: async () => (await import("./prune.ts")).systemPruneCommand },
  },
};

const builder: Entry = {
  about: "Manage the build cache",
  sub: {
    build,
    prune: { about: "Remove what the build cache holds", load: async () => (await import("./prune.ts")).builderPruneCommand },
  },
};

/** All commands. */
export const tree: Readonly<Record<string, Entry>> = {
  run,
  exec,
  ps,
  images,
  logs,
  version,
  info,
  container,
  context,
  image,
  manifest,
  network,
  registry,
  storage,
  system,
  socket,
  volume,
  attach,
  build,
  builder,
  cache,
  commit,
  completion,
  __complete: complete,
  cp,
  create,
  diff,
  dns,
  events,
  export: exportEntry,
  history,
  import: importEntry,
  inspect,
  kill,
  load,
  login,
  logout,
  pause,
  port,
  pull,
  push,
  rename,
  restart,
  rm,
  rmi,
  save,
  search,
  start,
  stats,
  stop,
  tag,
  top,
  unpause,
  update,
  wait,
};

/** Which command these words name. */
export function findCommand(words: readonly string[]): Found {
  let level = tree;
  let path = "wherry";
  for (let i = 0; i < words.length; i++) {
    const word = words[i]!;
    const entry = Object.hasOwn(level, word) ? level[word] : undefined;
    if (entry === undefined) return { kind: "unknown", path, word, siblings: Object.keys(level).filter((name) => level[name]?.hidden !== true) };
    path = `${path} ${word}`;
    const rest = words.slice(i + 1);
    if (entry.sub === undefined) return { kind: "command", path, entry, rest };
    if (rest.length === 0 || rest[0]!.startsWith("-")) return { kind: "group", path, entry, rest };
    level = entry.sub;
  }
  throw new RangeError("no command given"); // main answers an empty line itself
}

/** Loads what most calls need, so that the first call in the daemon is as fast as the next. */
export async function preload(): Promise<void> {
  await Promise.all([run, exec, ps].map((entry) => entry.load!()));
}
