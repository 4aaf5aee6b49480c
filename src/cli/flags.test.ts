import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { FlagError, FlagSet, HelpWanted, int, many, one, onOff, parseBool, parseFlags, parseInt64, parseUint } from "./flags.ts";

const set = new FlagSet([
  onOff("all,a", ""),
  onOff("interactive,i", ""),
  onOff("tty,t", ""),
  one("name,n", ""),
  int("last,l", "", -1),
  many("env,e", ""),
  one("explain", "", { bare: "text" }),
]);

describe("parseFlags", () => {
  it.each([
    [["--name", "x", "arg"], "x", ["arg"]],
    [["--name=x=y"], "x=y", []],
    [["-n", "x"], "x", []],
    [["-nx"], "x", []],
    [["-n=x"], "x", []],
    [["-an", "x", "y"], "x", ["y"]],
    [["arg", "--name", "x"], "x", ["arg"]],
    [["--name", "a", "--name", "b"], "b", []],
    [["--", "--name", "x"], "", ["--name", "x"]],
    [["-", "-n", "x"], "x", ["-"]],
    [["--name", "--"], "--", []],
    [["--name="], "", []],
  ])("%j", (argv, name, args) => {
    const parsed = parseFlags(set, argv);
    expect(parsed.values.text("name")).toBe(name);
    expect(parsed.args).toEqual(args);
  });

  it("takes letters in groups", () => {
    const { values } = parseFlags(set, ["-it"]);
    expect([values.on("interactive"), values.on("tty"), values.on("all")]).toEqual([true, true, false]);
  });

  it("takes =false for a switch, and does not eat the next word", () => {
    const { values, args } = parseFlags(set, ["--all=false", "--tty", "false"]);
    expect([values.on("all"), values.changed("all"), values.on("tty"), args]).toEqual([false, true, true, ["false"]]);
  });

  it("collects repeated flags in order and knows what was not given", () => {
    const { values } = parseFlags(set, ["-e", "A=1", "--env=B", "-eC"]);
    expect(values.list("env")).toEqual(["A=1", "B", "C"]);
    expect(values.number("last")).toBe(-1);
    expect(parseFlags(set, []).values.list("env")).toEqual([]);
    expect(parseFlags(set, []).values.anyChanged).toBe(false);
  });

  it("has flags with a value that may be left out", () => {
    expect(parseFlags(set, ["--explain", "x"]).values.text("explain")).toBe("text");
    expect(parseFlags(set, ["--explain=json"]).values.text("explain")).toBe("json");
  });

  it("stops at the first argument when flags may not follow", () => {
    expect(parseFlags(set, ["-a", "image", "-n", "x", "--"], false).args).toEqual(["image", "-n", "x", "--"]);
  });

  it.each([
    [["--nope"], "unknown flag: --nope"],
    [["--nmae", "x"], "unknown flag: --nmae (did you mean --name?)"],
    [["-x"], "unknown shorthand flag: 'x' in -x"],
    [["-iz"], "unknown shorthand flag: 'z' in -z"],
    [["--name"], "flag needs an argument: --name"],
    [["-n"], "flag needs an argument: 'n' in -n"],
    [["--=x"], "bad flag syntax: --=x"],
    [["---"], "bad flag syntax: ---"],
    [["--all=maybe"], 'invalid argument "maybe" for "-a, --all" flag: strconv.ParseBool: parsing "maybe": invalid syntax'],
    [["-l", "many"], 'invalid argument "many" for "-l, --last" flag: strconv.ParseInt: parsing "many": invalid syntax'],
  ])("%j: %s", (argv, message) => {
    expect(() => parseFlags(set, argv)).toThrow(new FlagError(message));
  });

  it("asks for help", () => {
    expect(() => parseFlags(set, ["--help"])).toThrow(HelpWanted);
    expect(() => parseFlags(set, ["-ah"])).toThrow(HelpWanted);
  });

  it("any values come through, in every way of writing them", () => {
    const value = fc.string({ minLength: 1 });
    const way = fc.constantFrom<(v: string) => string[]>(
      (v) => ["--env", v],
      (v) => [`--env=${v}`],
      (v) => ["-e", v],
      (v) => [`-e=${v}`],
    );
    fc.assert(
      fc.property(fc.array(fc.tuple(value, way)), fc.array(fc.string()), (values, args) => {
        const parsed = parseFlags(set, [...values.flatMap(([v, write]) => write(v)), "--", ...args]);
        expect(parsed.values.list("env")).toEqual(values.map(([v]) => v));
        expect(parsed.args).toEqual(args);
      }),
    );
  });

  it("never loses or invents a word when flags stop at the first argument", () => {
    fc.assert(
      fc.property(fc.array(fc.string()), (rest) => {
        expect(parseFlags(set, ["-a", "image", ...rest], false).args).toEqual(["image", ...rest]);
      }),
    );
  });
});

describe("numbers as Go reads them", () => {
  it.each([
    ["0x10", 16],
    ["010", 8],
    ["0b11", 3],
    ["-5", -5],
    ["+5", 5],
    ["0", 0],
  ])("%s is %d", (text, value) => expect(parseInt64(text)).toBe(value));

  it.each(["", "1.5", "08", "1e3", "--1", " 1"])("%j is no integer", (text) => expect(() => parseInt64(text)).toThrow("invalid syntax"));

  it("bounds", () => {
    expect(() => parseInt64("99999999999999999999")).toThrow("value out of range");
    expect(() => parseUint("65536", 65535)).toThrow("value out of range");
    expect(() => parseUint("-1")).toThrow("invalid syntax");
    expect(parseUint("65535", 65535)).toBe(65535);
  });

  it("booleans", () => {
    expect(["1", "t", "TRUE", "True"].map(parseBool)).toEqual([true, true, true, true]);
    expect(["0", "F", "false"].map(parseBool)).toEqual([false, false, false]);
    expect(() => parseBool("yes")).toThrow("invalid syntax");
  });
});
