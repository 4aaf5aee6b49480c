/**
 * System call numbers by name.
 * @module
 */
import { syscallTables } from "./syscalls.gen.ts";

export type SyscallArch = keyof typeof syscallTables;

const parsed = new Map<SyscallArch, ReadonlyMap<string, number>>();

/** Name → number; x32 numbers without their bit. */
export function syscallNumbers(arch: SyscallArch): ReadonlyMap<string, number> {
  let table = parsed.get(arch);
  if (table === undefined) {
    table = new Map(syscallTables[arch].split(/\s+/).map((word) => [word.slice(0, word.indexOf(":")), Number(word.slice(word.indexOf(":") + 1))] as const));
    parsed.set(arch, table);
  }
  return table;
}

/**
 * On i386, sockets and System V IPC had one system call for all: socketcall(2) and ipc(2), with the real call as the first argument.
 * Name → [the common call, its first argument].
 * @see linux/net.h, linux/ipc.h
 */
export const multiplexed: ReadonlyMap<string, { readonly call: "socketcall" | "ipc"; readonly number: number }> = new Map<
  string,
  { call: "socketcall" | "ipc"; number: number }
>([
  ...entries("socketcall", { socket: 1, bind: 2, connect: 3, listen: 4, accept: 5, getsockname: 6, getpeername: 7, socketpair: 8, send: 9, recv: 10 }),
  ...entries("socketcall", {
    sendto: 11,
    recvfrom: 12,
    shutdown: 13,
    setsockopt: 14,
    getsockopt: 15,
    sendmsg: 16,
    recvmsg: 17,
    accept4: 18,
    recvmmsg: 19,
    sendmmsg: 20,
  }),
  ...entries("ipc", {
    semop: 1,
    semget: 2,
    semctl: 3,
    semtimedop: 4,
    msgsnd: 11,
    msgrcv: 12,
    msgget: 13,
    msgctl: 14,
    shmat: 21,
    shmdt: 22,
    shmget: 23,
    shmctl: 24,
  }),
]);

function entries(call: "socketcall" | "ipc", numbers: Record<string, number>): [string, { call: "socketcall" | "ipc"; number: number }][] {
  return Object.entries(numbers).map(([name, number]) => [name, { call, number }]);
}
