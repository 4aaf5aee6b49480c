/** Templates, tables, human words. What docker's CLI prints for whole commands is compared in test/integration/cli-output. */
import { describe, expect, it } from "vitest";
import { binarySize, ellipsis, humanSize, truncateId } from "./human.ts";
import { type Columns, formatList } from "./list.ts";
import { naturalOrder } from "./natural.ts";
import { inspected, nullText } from "./null-text.ts";
import { goText, sprintf } from "./print.ts";
import { alignColumns } from "./tabwriter.ts";
import { compileTemplate } from "./template.ts";

const data = {
  Name: "web",
  N: 5,
  F: 1.5,
  Yes: true,
  No: false,
  Empty: "",
  List: ["a", "b", "c"],
  Map: { b: 2, a: 1, "with space": 3 },
  Deep: { Id: "x", Items: [{ K: "k1" }, { K: "k2" }] },
  Null: null,
};
const run = (template: string, strict = false) => compileTemplate(template).execute(data, strict ? { strict: inspected } : {});

describe("templates", () => {
  it.each([
    ["plain {{.Name}} text", "plain web text"],
    ["{{.Deep.Id}} {{ .N }} {{.F}} {{.Yes}}", "x 5 1.5 true"],
    ["{{.List}} {{.Map}} {{.Deep}}", "[a b c] map[a:1 b:2 with space:3] map[Id:x Items:[map[K:k1] map[K:k2]]]"],
    ["{{.Missing}}|{{.Null}}", "<no value>|<no value>"],
    ['{{"lit\\t\\"q\\" \\u00e9"}}{{`raw\\t`}}{{\'a\'}}', 'lit\t"q" éraw\\t97'],
    ["{{1}} {{-2}} {{0x10}} {{1.5}} {{true}}", "1 -2 16 1.5 true"],
    ["a {{- .Name -}} b", "awebb"],
    ["a {{/* note */}}b {{- /* gone */ -}} c", "a bc"],
    ["{{if .Yes}}y{{end}}{{if .No}}n{{end}}", "y"],
    ["{{if .No}}a{{else if .Yes}}b{{else}}c{{end}}", "b"],
    ["{{if and .Yes (not .No)}}ok{{end}}{{if or .No .Empty}}bad{{end}}", "ok"],
    ["{{and .Name .N}} {{or .Empty .Name}} {{and .Empty .Name}}|", "5 web |"],
    ["{{range .List}}<{{.}}>{{end}}", "<a><b><c>"],
    ["{{range $i, $x := .List}}{{$i}}{{$x}}{{end}}", "0a1b2c"],
    ["{{range $k, $v := .Map}}{{$k}}={{$v}};{{end}}", "a=1;b=2;with space=3;"],
    ["{{range .Null}}x{{else}}none{{end}}", "none"],
    ['{{range .List}}{{if eq . "b"}}{{continue}}{{end}}{{.}}{{end}}', "ac"],
    ['{{range .List}}{{.}}{{if eq . "b"}}{{break}}{{end}}{{end}}', "ab"],
    ["{{range .Deep.Items}}{{.K}}{{$.Name}} {{end}}", "k1web k2web "],
    ["{{with .Deep}}{{.Id}}{{end}}{{with .Empty}}x{{else}}e{{end}}", "xe"],
    ["{{with $x := .Name}}{{$x}}{{end}}", "web"],
    ["{{$x := 1}}{{if true}}{{$x = 2}}{{end}}{{$x}}", "2"],
    ['{{index .List 1}} {{index .Map "with space"}} {{index .Deep.Items 0 "K"}}', "b 3 k1"],
    ["{{(index .Deep.Items 1).K}}", "k2"],
    ["{{len .List}} {{len .Map}} {{len .Name}} {{len .Null}}", "3 3 3 0"],
    ["{{slice .Name 1}} {{slice .List 0 2}}", "eb [a b]"],
    ['{{eq .N 5}} {{ne .N 5}} {{lt .N 6}} {{le 5 .N}} {{gt .N 5}} {{ge .N 5}} {{eq .Name "a" "web"}}', "true false true true false true true"],
    ["{{json .Deep}} {{json .Null}} {{.Name | json}}", '{"Id":"x","Items":[{"K":"k1"},{"K":"k2"}]} null "web"'],
    ['{{join .List ","}} {{split "a,b" ","}} {{upper .Name}} {{lower "ABC"}} {{title "go web"}}', "a,b,c [a b] WEB abc Go Web"],
    ['[{{pad "x" 1 2}}] {{truncate "abcdef" 3}}', "[ x  ] abc"],
    ['{{printf "%s-%03d-%v-%q" .Name .N .Yes .Name}}', 'web-005-true-"web"'],
    ["{{print 1 2 .Name 3}} {{println .Name}}", "1 2web3 web\n"],
    ['{{.Name | printf "%s%s" "x" | upper}}', "XWEB"],
    ['{{html "<a>"}} {{urlquery "a b&c"}}', "&lt;a&gt; a+b%26c"],
    ['{{define "x"}}[{{.}}{{$}}]{{end}}{{template "x" .Name}}{{template "x" .N}}', "[webweb][55]"],
    ['{{block "x" .Deep}}<{{.Id}}>{{end}}{{template "x" .Deep}}', "<x><x>"],
    ['{{$x := 1}}{{define "y"}}{{$x := 2}}{{$x}}{{end}}{{template "y"}}{{$x}}', "21"],
  ])("%s", (template, text) => expect(run(template)).toBe(text));

  it.each([
    ["{{.Foo", "template: :1: unclosed action"],
    ["{{if .Yes}}x", "template: :1: unexpected EOF"],
    ["{{end}}", "template: :1: unexpected {{end}}"],
    ["{{if}}x{{end}}", "template: :1: missing value for if"],
    ["{{}}", "template: :1: missing value for command"],
    ["a\nb{{nope .X}}", 'template: :2: function "nope" not defined'],
    ["{{$x}}", 'template: :1: undefined variable "$x"'],
    ['{{"open}}', "template: :1: unterminated quoted string"],
    ["{{(.Name}}", "template: :1: unclosed left paren"],
    ["{{break}}", "template: :1: {{break}} outside {{range}}"],
    ["{{.Name | 5}}", "template: :1: non executable command in pipeline stage 2"],
    ["{{range .List}}{{else}}{{else}}{{end}}", "template: :1: expected end; found {{else}}"],
    ['{{if .Yes}}{{define "x"}}{{end}}{{end}}', "template: :1: unexpected {{define}}"],
    ['{{define "x"}}', "template: :1: unexpected EOF"],
    ["{{template .Name}}", "template: :1: unexpected <.Name> in template clause"],
    ['{{block "x"}}{{end}}', "template: :1: missing value for block clause"],
  ])("%s is no template", (template, message) => expect(() => compileTemplate(template)).toThrow(message));

  it.each([
    ["{{.Missing}}", 'template: :1:2: executing "" at <.Missing>: map has no entry for key "Missing"'],
    ["{{.Deep.Missing}}", 'template: :1:7: executing "" at <.Deep.Missing>: map has no entry for key "Missing"'],
    ["{{.Name.X}}", 'template: :1:7: executing "" at <.Name.X>: can\'t evaluate field X in type interface {}'],
    ["{{index .List 9}}", "index out of range: 9"],
    ["{{lt .N .Name}}", "incompatible types for comparison"],
    ["{{range .N2}}{{end}}", 'map has no entry for key "N2"'],
    ["{{.Name 1}}", "Name has arguments but cannot be invoked as function"],
    ["{{upper .N}}", "expected string; got int"],
    ["{{len}}", "wrong number of args for len"],
    ['{{index .List 9 | printf "%v"}}', 'executing "" at <index .List 9>: error calling index'],
    ['{{template "x"}}', 'template: :1:11: executing "" at <{{template "x"}}>: template "x" not defined'],
    ["{{nil}}", 'executing "" at <nil>: nil is not a command'],
    ["{{.Health.Status}}", 'template: :1:2: executing "" at <.Health.Status>: map has no entry for key "Health"'],
  ])("%s cannot be run", (template, message) => expect(() => run(template, true)).toThrow(message));

  it("of docker's types, fields may be left out and maps lack keys", () => {
    const container = { Config: { Labels: { a: "1" } }, State: {} };
    const inspect = (template: string) => compileTemplate(template).execute(container, { strict: inspected });
    expect(inspect("{{.Config.Labels.a}} {{.Config.Labels.b}} {{with .Config.Labels}}{{.c}}{{end}}")).toBe("1 <no value> <no value>");
    expect(inspect("{{.State.Health}} {{.SizeRw}} {{if .State.Health}}yes{{else}}no{{end}} {{.Config.StopSignal}}|")).toBe("<nil> <nil> no |");
  });

  it("never reaches what is not data", () => {
    expect(run("{{.constructor}} {{.__proto__}} {{.Deep.toString}}")).toBe("<no value> <no value> <no value>");
    expect(run('{{index .Map "constructor"}}')).toBe("<no value>");
  });

  it("a null prints as the field's empty value", () => {
    expect(compileTemplate("{{.Volumes}} {{.PidsLimit}} {{.CapAdd}}").execute({ Volumes: null, PidsLimit: null, CapAdd: null }, { nullText })).toBe(
      "map[] <nil> []",
    );
  });
});

describe("printf", () => {
  it.each([
    ["%5d|%-5d|%05d|%+d", [3, 3, 3, 3], "    3|3    |00003|+3"],
    ["%8.3f|%e|%g", [Math.PI, 12345.678, 0.1], "   3.142|1.234568e+04|0.1"],
    ["%.3g %.4g %.3g", [999.6, 4261.55, 0.00001234], "1e+03 4262 1.23e-05"],
    ["%x %X %t %c %%", [255, "hi", true, 65], "ff 6869 true A %"],
    ["%s %d", ["only"], "only %!d(MISSING)"],
    ["%d", ["x"], "%!d(string=x)"],
    ["%s", ["a", "b"], "a%!(EXTRA string=b)"],
    ["%*d", [5, 42], "   42"],
    ["%.2s|%10s|%-4s|", ["héllo", "x", "y"], "hé|         x|y   |"],
  ])("%s", (format, args, text) => expect(sprintf(format, args)).toBe(text));

  it("values", () =>
    expect([goText(null), goText([1, [2]]), goText({ b: null, a: "x" }), goText(1e21)]).toEqual(["<nil>", "[1 [2]]", "map[a:x b:<nil>]", "1e+21"]));
});

describe("alignColumns", () => {
  it("ten columns at least, three between, nothing behind the last cell", () => {
    expect(alignColumns("A\tB\tC\nlonger than ten\tx\ty\n")).toBe("A                 B         C\nlonger than ten   x         y\n");
  });
  it("counts characters, not bytes", () => expect(alignColumns("äöüäöüäöü\tx\na\ty\n")).toBe("äöüäöüäöü   x\na           y\n"));
  it("a column ends where a line lacks it", () => {
    expect(alignColumns("a\tlong cell here\tz\nno tabs\nb\tc\td\n")).toBe("a         long cell here   z\nno tabs\nb         c         d\n");
  });
});

it("sizes", () => {
  expect([0, 999, 1000, 4261550, 123456789, 1e12].map((n) => humanSize(n))).toEqual(["0B", "999B", "1kB", "4.26MB", "123MB", "1TB"]);
  expect(humanSize(127718339, 4)).toBe("127.7MB");
  expect([0, 1023, 1024, 6000000, 67108864].map(binarySize)).toEqual(["0B", "1023B", "1KiB", "5.722MiB", "64MiB"]);
});

it("shortening", () => {
  expect(ellipsis("sh -c 'while true'", 10)).toBe("sh -c 'wh…");
  expect(ellipsis("ünïcödé", 7)).toBe("ünïcödé");
  expect(truncateId(`sha256:${"ab".repeat(32)}`)).toBe("abababababab");
});

it("natural order", () => expect(["n10", "n9", "m", "n"].sort(naturalOrder)).toEqual(["m", "n", "n9", "n10"]));

describe("formatList", () => {
  interface Item {
    readonly name: string;
    readonly labels: Readonly<Record<string, string>>;
  }
  const columns: Columns<Item> = {
    Name: { header: "NAME", value: (i) => i.name },
    Size: { header: "SIZE", value: () => "1B" },
  };
  const items: Item[] = [
    { name: "a<b", labels: { "com.x.my-key": "v" } },
    { name: "a much longer name", labels: {} },
  ];
  const list = (format: string, quiet?: string) =>
    formatList(items, { columns, format, table: "{{.Name}}\t{{.Size}}", quiet, label: (i, name) => i.labels[name] ?? "" });

  it("table", () => expect(list("")).toBe("NAME                 SIZE\na<b                  1B\na much longer name   1B\n"));
  it("table with a template", () =>
    expect(list('table {{upper .Name}}\\t{{.Label "com.x.my-key"}}')).toBe("NAME                 my key\nA<B                  v\nA MUCH LONGER NAME   \n"));
  it("json, escaped as Go does", () => expect(list("json").split("\n")[0]).toBe('{"Name":"a\\u003cb","Size":"1B"}'));
  it("json of a field", () => expect(list("{{json .Name}}").split("\n")[0]).toBe('"a<b"'));
  it("template", () => expect(list("{{.Name}}:{{.Size}}")).toBe("a<b:1B\na much longer name:1B\n"));
  it("quiet", () => expect(list("", "{{.Name}}")).toBe("a<b\na much longer name\n"));
  it("unknown field", () => expect(() => list("{{.Nope}}")).toThrow("can't evaluate field Nope"));
  it("broken template", () => expect(() => list("{{.Nope")).toThrow("template parsing error: template: :1: unclosed action"));
  it("no items: only the header", () => expect(formatList([], { columns, format: "", table: "{{.Name}}\t{{.Size}}" })).toBe("NAME      SIZE\n"));
});
