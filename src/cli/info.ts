/** `wherry info`. @module */
import { platform } from "node:os";
import { apiVersion, type SystemInfoJson } from "#api/types/mod.ts";
import { type Command, command } from "./command.ts";
import { one } from "./flags.ts";
import { binarySize } from "./format/human.ts";
import { nullText, typed } from "./format/null-text.ts";
import { printAnswer } from "./format/answer.ts";
import { warn, write } from "./output.ts";
import { goArch } from "./version-command.ts";
import { version } from "./version.ts";

export const infoCommand: Command = command({
  usage: "[OPTIONS]",
  about: "Show the engine and its host",
  examples: [["info -f '{{.Driver}} {{.CgroupVersion}}'", "single facts"]],
  flags: [one("format,f", 'How to print: "json" or a Go template')],
  arity: [0, 0],
  run: async ({ client, flags, io }) => {
    const info = await client.json<SystemInfoJson>("GET", "/info", { signal: io.gone });
    const format = flags.text("format");
    if (format === "") {
      await write(io.stdout, infoText(info));
      for (const warning of info.Warnings ?? []) warn(io, warning);
      return 0;
    }
    const clientInfo = {
      Debug: false,
      Version: version,
      DefaultAPIVersion: apiVersion,
      Os: platform(),
      Arch: goArch,
      Context: "default",
      Plugins: [],
      Warnings: null,
    };
    const all = { ...info, ClientInfo: clientInfo };
    await printAnswer(io, format, all, { nullText, strict: typed("system.dockerInfo", leftOut) });
    return 0;
  },
});

/** Fields that an engine leaves out when they are empty. */
const leftOut = [
  "BridgeNfIptables",
  "BridgeNfIp6tables",
  "BuildTime",
  "ClientErrors",
  "Cluster",
  "Containerd",
  "DefaultAddressPools",
  "DiscoveredDevices",
  "Expected",
  "Experimental",
  "Extensions",
  "FirewallBackend",
  "GitCommit",
  "GoVersion",
  "KernelMemory",
  "KernelMemoryTCP",
  "Managers",
  "Nodes",
  "ProductLicense",
  "ServerErrors",
];

/** docker's layout: a line is left out when the daemon has nothing to say there. */
export function infoText(info: SystemInfoJson): string {
  const out: string[] = [`Client:`, ` Version:    ${version}`, ` Context:    default`, ` Debug Mode: false`, "", "Server:"];
  const line = (name: string, value: string | number | boolean) => out.push(` ${name}: ${value}`);
  const sub = (name: string, value: string | number | boolean) => out.push(`  ${name}: ${value}`);
  const given = (name: string, value: string | undefined) => value !== undefined && value !== "" && line(name, value);
  const listed = (name: string, values: readonly string[] | null | undefined) => {
    if (values && values.length > 0) out.push(` ${name}:`, ...values.map((value) => `  ${value}`));
  };
  line("Containers", info.Containers);
  sub("Running", info.ContainersRunning);
  sub("Paused", info.ContainersPaused);
  sub("Stopped", info.ContainersStopped);
  line("Images", info.Images);
  given("Server Version", info.ServerVersion);
  given("Storage Driver", info.Driver);
  for (const [name, value] of info.DriverStatus ?? []) sub(name, value);
  given("Logging Driver", info.LoggingDriver);
  given("Cgroup Driver", info.CgroupDriver);
  given("Cgroup Version", info.CgroupVersion);
  out.push(" Plugins:");
  sub("Volume", (info.Plugins.Volume ?? []).join(" "));
  sub("Network", (info.Plugins.Network ?? []).join(" "));
  if ((info.Plugins.Authorization ?? []).length > 0) sub("Authorization", info.Plugins.Authorization!.join(" "));
  sub("Log", (info.Plugins.Log ?? []).join(" "));
  listed("CDI spec directories", info.CDISpecDirs);
  line("Swarm", info.Swarm.LocalNodeState);
  const runtimes = Object.keys(info.Runtimes ?? {});
  if (runtimes.length > 0) line("Runtimes", runtimes.join(" "));
  if (runtimes.length > 0) line("Default Runtime", info.DefaultRuntime);
  if (info.OSType === "linux") {
    line("Init Binary", info.InitBinary);
    for (const [name, commit] of [
      ["containerd", info.ContainerdCommit],
      ["runc", info.RuncCommit],
      ["init", info.InitCommit],
    ] as const) {
      line(`${name} version`, commit.Expected !== undefined && commit.Expected !== commit.ID ? `${commit.ID} (expected: ${commit.Expected})` : commit.ID);
    }
    securityLines(info.SecurityOptions, out);
  }
  given("Kernel Version", info.KernelVersion);
  given("Operating System", info.OperatingSystem);
  given("OSType", info.OSType);
  given("Architecture", info.Architecture);
  line("CPUs", info.NCPU);
  line("Total Memory", binarySize(info.MemTotal));
  given("Name", info.Name);
  given("ID", info.ID);
  given("Docker Root Dir", info.DockerRootDir);
  line("Debug Mode", info.Debug);
  given("HTTP Proxy", info.HttpProxy);
  given("HTTPS Proxy", info.HttpsProxy);
  given("No Proxy", info.NoProxy);
  listed("Labels", info.Labels);
  line("Experimental", info.ExperimentalBuild);
  listed("Insecure Registries", insecure(info));
  listed("Registry Mirrors", info.RegistryConfig?.Mirrors);
  line("Live Restore Enabled", info.LiveRestoreEnabled);
  out.push("");
  return `${out.join("\n")}\n`;
}

function insecure(info: SystemInfoJson): string[] {
  const { RegistryConfig: config } = info;
  if (!config) return [];
  const named = Object.values(config.IndexConfigs ?? {})
    .filter((index) => !index.Secure)
    .map((index) => index.Name);
  return [...named, ...(config.InsecureRegistryCIDRs ?? [])];
}

/** `name=seccomp,profile=builtin` as docker shows it. */
function securityLines(options: readonly string[] | null, out: string[]): void {
  if (!options || options.length === 0) return;
  out.push(" Security Options:");
  for (const option of options) {
    const pairs = option.split(",").map((part) => part.split("=", 2) as [string, string?]);
    for (const [key, value] of pairs) {
      if (value === undefined) out.push(`  ${key}`);
      else if (key === "name") out.push(`  ${value}`);
      else out.push(`   ${key[0]!.toUpperCase()}${key.slice(1)}: ${value}`);
    }
  }
}
