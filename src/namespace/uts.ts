/**
 * UTS namespace: hostname and NIS domain name. (UTS is the "UNIX time-sharing system" of uname(2)'s struct.)
 * @see uts_namespaces(7)
 * @module
 */
import type { Step } from "#linux/plan.ts";
import { CLONE } from "#linux/flags.ts";
import { type NamespaceKind, plainContribution } from "./kind.ts";

export const utsNamespace: NamespaceKind = {
  type: "uts",
  flag: CLONE.NEWUTS,
  flagName: "NEWUTS",
  file: "uts",
  man: "uts_namespaces(7)",
  isolates: "the hostname can be set without renaming the host",
  contribute(request) {
    const { membership, spec } = request;
    const child: Step[] = [];
    if (membership.how === "new" && spec.hostname !== undefined)
      child.push({ op: "sethostname", name: spec.hostname, where: "child", why: "the name that the container knows itself by", section: "Name" });
    if (membership.how === "new" && spec.domainname !== undefined)
      child.push({ op: "setdomainname", name: spec.domainname, where: "child", why: "its NIS domain name", section: "Name" });
    return { ...plainContribution(utsNamespace, request, "so that both containers have one hostname"), child };
  },
};
